"""A label image of the phantom's field that shapes in mm are painted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from inference.phantom_tissues import Tissue
from inference.volume import FloatArray

FIELD_MM = 300.0
TOP_MM = 138.0
"""z of the upper edge of the field."""
FRONT_MM = -160.0
"""y of the front edge of the field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """A label image of the field; points are (y, z) mm."""

    image: Image.Image
    draw: ImageDraw.ImageDraw
    per_mm: float

    def polygon(self, points: FloatArray, tissue: Tissue) -> None:
        """Fill a closed outline."""
        self.draw.polygon(self._pixels(points), fill=int(tissue))

    def line(self, points: FloatArray, tissue: Tissue, width_mm: float) -> None:
        """Draw an open line."""
        self.draw.line(
            self._pixels(points), fill=int(tissue), width=max(1, round(width_mm * self.per_mm)), joint="curve"
        )

    def ellipse(self, center: FloatArray, half: tuple[float, float], tissue: Tissue, turn_deg: float = 0.0) -> None:
        """Fill an ellipse with half axes (backwards, upwards), turned so that its back goes up by ``turn_deg``."""
        angle, turn = np.linspace(0, 2 * np.pi, 28, endpoint=False), np.radians(turn_deg)
        along, up = half[0] * np.cos(angle), half[1] * np.sin(angle)
        around = [along * np.cos(turn) - up * np.sin(turn), along * np.sin(turn) + up * np.cos(turn)]
        self.polygon(center + np.stack(around, axis=1), tissue)

    def _pixels(self, points: FloatArray) -> list[tuple[float, float]]:
        columns, rows = (points[:, 0] - FRONT_MM) * self.per_mm, (TOP_MM - points[:, 1]) * self.per_mm
        return list(zip(columns.tolist(), rows.tolist(), strict=True))


def between(z: FloatArray, front: FloatArray, back: FloatArray) -> FloatArray:
    """Outline of the strip between two lines over the same z."""
    return np.concatenate([np.stack([front, z], axis=1), np.stack([back, z], axis=1)[::-1]])
