"""Where on a disc's mid-slice its parts lie: the zones in which its features are measured and its findings looked for.

Zones are pixels of the cut patch (112, 224) and do not overlap.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inference.descriptors import FAR_PX, NEAR_PX, CutDisc
from inference.geometry import chords_mm
from inference.volume import FloatArray

ROWS, COLUMNS = 112, 224
MIDDLE_HALF = 0.25
"""The disc's middle reaches so far from its centre, in disc depths."""
BONE_HALF = 0.4
"""Bone is described over so much of the disc's depth to either side of its centre: its corners are left out."""
SAC_HALF_PX = 5.0


class Zone(IntEnum):
    """Values of a zone map; 0 is no zone."""

    DISC_FRONT = 1
    DISC_MIDDLE = 2
    DISC_BACK = 3
    ENDPLATE_ABOVE = 4
    ENDPLATE_BELOW = 5
    MARROW_ABOVE = 6
    MARROW_BELOW = 7
    SAC = 8


def drawn(disc: CutDisc) -> NDArray[np.uint8]:
    """(112, 224) of ``Zone``, 0 where nothing is measured."""
    columns = np.arange(COLUMNS, dtype=np.float64)
    center = np.array([(ROWS - 1) / 2, (COLUMNS - 1) / 2])
    upper, lower = chords_mm(disc.outline - center, columns - center[1])
    along = (columns - center[1]) / max(disc.depth_px, 1.0)
    zones = np.zeros((ROWS, COLUMNS), np.uint8)
    rows = np.arange(ROWS)[:, None]
    beside = np.abs(along) < BONE_HALF
    for edge, direction, endplate, marrow in (
        (upper + center[0], -1, Zone.ENDPLATE_ABOVE, Zone.MARROW_ABOVE),
        (lower + center[0], +1, Zone.ENDPLATE_BELOW, Zone.MARROW_BELOW),
    ):
        away = np.where(np.isfinite(edge) & beside, direction * (rows - np.nan_to_num(edge)), -1.0)
        zones[(away >= FAR_PX[0]) & (away <= FAR_PX[1])] = marrow
        zones[(away >= NEAR_PX[0]) & (away <= NEAR_PX[1])] = endplate
    if disc.canal is not None:
        zones[_about_line(disc.canal, SAC_HALF_PX)] = Zone.SAC
    inside = _inside(disc.outline)
    thirds = np.select([along < -MIDDLE_HALF, along > MIDDLE_HALF], [Zone.DISC_FRONT, Zone.DISC_BACK], Zone.DISC_MIDDLE)
    zones[inside] = np.broadcast_to(thirds, inside.shape)[inside]
    return zones


def _inside(outline: FloatArray) -> NDArray[np.bool_]:
    canvas = Image.new("1", (COLUMNS, ROWS))
    ImageDraw.Draw(canvas).polygon([(float(column), float(row)) for row, column in outline], fill=1)
    return np.asarray(canvas, bool)


def _about_line(ends: FloatArray, half_width_px: float) -> NDArray[np.bool_]:
    canvas = Image.new("1", (COLUMNS, ROWS))
    points = [(float(column), float(row)) for row, column in ends]
    ImageDraw.Draw(canvas).line(points, fill=1, width=round(2 * half_width_px))
    return np.asarray(canvas, bool)
