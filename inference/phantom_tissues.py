"""Tissues of the phantom, and how bright each is in each contrast (arbitrary units, about 1000 for the brightest)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from inference.volume import FloatArray


class Tissue(IntEnum):
    """What a pixel of the phantom is."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    CORTEX = 3
    MARROW = 4
    FATTY_MARROW = 5
    VEIN = 6
    ANNULUS = 7
    NUCLEUS_1 = 8
    NUCLEUS_2 = 9
    NUCLEUS_3 = 10
    NUCLEUS_4 = 11
    NUCLEUS_5 = 12
    CLEFT = 13
    FLUID = 14
    CORD = 15
    NERVE = 16
    VESSEL = 17
    BOWEL = 18
    LIGAMENT = 19
    SKIN = 20
    INTERSPINOUS = 21
    RIM_NUCLEUS = 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """A pulse sequence as its header gives it, and the brightness of each tissue."""

    name: str
    echo_time_ms: float
    repetition_time_ms: float
    inversion_time_ms: float | None
    brightness: tuple[float, ...]
    """By ``Tissue``."""

    def table(self) -> FloatArray:
        """(256,) brightness by label."""
        table = np.zeros(256)
        table[: len(self.brightness)] = self.brightness
        return table


T2 = Contrast(
    name="T2_TSE_SAG",
    echo_time_ms=102.0,
    repetition_time_ms=3800.0,
    inversion_time_ms=None,
    brightness=(
        6, 640, 120, 28, 330, 470, 520, 62, 640, 520, 270, 130, 62, 170, 900, 300, 330, 30, 300, 40, 260, 230, 200,
    ),
)  # fmt: skip
T1 = Contrast(
    name="T1_TSE_SAG",
    echo_time_ms=11.0,
    repetition_time_ms=560.0,
    inversion_time_ms=None,
    brightness=(
        6, 860, 270, 28, 430, 600, 380, 190, 265, 260, 250, 235, 200, 230, 120, 290, 260, 40, 380, 60, 300, 380, 240,
    ),
)  # fmt: skip
STIR = Contrast(
    name="STIR_TSE_SAG",
    echo_time_ms=52.0,
    repetition_time_ms=4200.0,
    inversion_time_ms=160.0,
    brightness=(
        6, 60, 190, 22, 130, 80, 330, 70, 600, 480, 240, 130, 70, 160, 920, 330, 340, 30, 420, 40, 150, 120, 190,
    ),
)  # fmt: skip

FINE_TEXTURE = (
    0, 0.10, 0.28, 0.2, 0.17, 0.13, 0.1, 0.3, 0.07, 0.10, 0.22, 0.28, 0.3, 0.2, 0.04, 0.06, 0.1, 0.3, 0.25, 0.3, 0.2,
    0.35, 0.15,
)  # fmt: skip
"""By ``Tissue``: standard deviation of the texture, relative to the brightness."""


def texture_table() -> FloatArray:
    """(256,) relative standard deviation by label."""
    table = np.zeros(256)
    table[: len(FINE_TEXTURE)] = FINE_TEXTURE
    return table
