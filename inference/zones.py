"""Where on a disc's mid-slice its features are measured: zones that evidence can be handed on to.

A grade that hangs on a disc's height or on the signal of the bone beside it was read there. Zones are pixels of the
cut patch (112, 224) and do not overlap.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inference.descriptors import FAR_PX, FEATURES, NEAR_PX, CutDisc
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


_WHOLE = Zone.DISC_FRONT, Zone.DISC_MIDDLE, Zone.DISC_BACK
_ENDS = Zone.DISC_FRONT, Zone.DISC_BACK
_ZONES_OF: dict[str, tuple[Zone, ...]] = {
    "height_wedge": _ENDS,
    "depth_mm": _ENDS,
    "signal_inner": (Zone.DISC_MIDDLE,),
    "height_middle": (Zone.DISC_MIDDLE,),
    "signal_to_csf": (Zone.DISC_MIDDLE, Zone.SAC),
    "csf": (Zone.SAC,),
    "bone_scale": (Zone.MARROW_ABOVE, Zone.MARROW_BELOW),
    "canal": (Zone.SAC,),
    "canal_front_gap": (Zone.DISC_BACK, Zone.SAC),
}


def zones_of(feature: str) -> tuple[Zone, ...]:
    """The zones in which a feature of ``inference.descriptors.FEATURES`` is measured on its own disc."""
    name = feature.removesuffix("_to_median").removesuffix("_to_largest")
    if name in _ZONES_OF:
        return _ZONES_OF[name]
    for side, endplate, marrow in (
        ("upper_", Zone.ENDPLATE_ABOVE, Zone.MARROW_ABOVE),
        ("lower_", Zone.ENDPLATE_BELOW, Zone.MARROW_BELOW),
    ):
        if name.startswith(side):
            return (marrow,) if "_far_" in name else (endplate,)
    if name.endswith("_front"):
        return (Zone.DISC_FRONT,)
    return (Zone.DISC_BACK,) if name.endswith("_back") else _WHOLE


def is_signal(feature: str) -> bool:
    """Whether a feature is a level or spread of the image's signal in its zones, not a length or an angle."""
    name = feature.removeprefix("upper_").removeprefix("lower_")
    return name.startswith(("signal_", "csf", "near_", "far_", "contrast_"))


def shares_of_features() -> NDArray[np.float32]:
    """(features, zones) how a feature's evidence is divided among its zones; each row sums to 1."""
    shares = np.zeros((len(FEATURES), len(Zone)), np.float32)
    for i, feature in enumerate(FEATURES):
        zones = zones_of(feature)
        shares[i, [zone - 1 for zone in zones]] = 1 / len(zones)
    return shares


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
