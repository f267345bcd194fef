"""Numbers that describe a cut disc: heights, signals, overhangs, each beside the other discs of the same study.

A regression on them is the network's partner in grading: on single mid-sagittal slices it is worth about as much, and
it can be read. The last one is the level. All coordinates here are patch pixels (row, column) of the mid-slice,
112 x 224 for a region ``w`` tall and ``2w`` wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from inference.geometry import STATIONS, chords_mm
from inference.volume import FloatArray, VoxelArray

PATCH_WIDTH_PX = 112.0
"""Pixels of the patch in one disc width ``w``: a patch is 2w = 224 pixels wide."""
BONE = 0.25
"""Signal of vertebral bone in a patch (A2 of the cutting recipe: median x 0.5, clipped to 2, halved)."""
NEAR_PX, FAR_PX = (2, 10), (12, 32)
"""Distances from the disc's edge of the end-plate zone and of the marrow beyond it, about 0.6-3 and 4-10 mm."""

_OWN: tuple[str, ...] = (
    *("height_front", "height_middle", "height_back", "height_least", "height_wedge", "depth_mm", "height_mm"),
    *("signal_p10", "signal_p25", "signal_p50", "signal_p75", "signal_p90", "signal_spread", "signal_inner"),
    *("signal_front", "signal_back", "signal_to_csf", "csf", "bone_scale", "tilt"),
    *("overhang_back", "overhang_front", "slip_back", "slip_front", "canal", "canal_front_gap", "height_to_bodies"),
)
_SIDE: tuple[str, ...] = (
    *("near_p10", "near_p50", "near_p90", "near_spread", "far_p50", "far_spread"),
    *("contrast_front", "contrast_middle", "contrast_back", "roughness", "concavity"),
    *("body_front", "body_back", "body_wedge", "body_taper"),
)
_AMONG: tuple[str, ...] = ("height_middle", "height_mm", "signal_inner", "signal_p90", "canal", "depth_mm", "tilt")
_BESIDE: tuple[str, ...] = (*_AMONG, "height_front", "height_back", "height_least")
_NAMES = (
    *_OWN,
    *(f"upper_{name}" for name in _SIDE),
    *(f"lower_{name}" for name in _SIDE),
    *(f"{name}_to_median" for name in _AMONG),
    *(f"{name}_to_largest" for name in _AMONG),
    *(f"{name}_to_above" for name in _BESIDE),
    *(f"{name}_to_below" for name in _BESIDE),
)
LEVEL = "level"
FEATURES: tuple[str, ...] = (*_NAMES, LEVEL)
"""Names of the features, in their order. ``upper_``/``lower_``: of the bone above or below the disc.
``_to_median``/``_to_largest``: minus the median or the largest of the study's discs; ``_to_above``/``_to_below``: minus
that of the next disc: a disc is narrow beside its neighbours, whose usual heights grow footwards. ``level``: counted
headwards from L5/S1 = 1, as far as it is known; what is usual there is for the regression to know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CutDisc:
    """What describing needs of one cut disc, patch pixels (row, column)."""

    image: VoxelArray
    """(112, 224) float32 mid-slice."""
    outline: FloatArray
    """(n, 2)"""
    depth_px: float
    mm_per_px: float
    upper_corners: FloatArray | None
    """(4, 2) superior anterior, superior posterior, inferior posterior, inferior anterior; None where not seen."""
    lower_corners: FloatArray | None
    canal: FloatArray | None
    """(2, 2) front and back wall of the sac."""
    bone_scale: float
    """log of (this disc's bone / the study's bone): how far the local intensity reference departs."""
    tilt: float
    """Sine of the angle between the disc's axis and the horizontal: positive where the back is lower."""
    level: float = float("nan")
    """Counted headwards from L5/S1 = 1; NaN where the name is not sure."""


def describe(discs: Sequence[CutDisc]) -> VoxelArray:
    """(len(discs), len(FEATURES)) float32, ``discs`` head to foot; NaN where a feature could not be taken."""
    rows = [_own(disc) for disc in discs]
    for name in _AMONG:
        column = np.array([row[name] for row in rows])
        seen = column[np.isfinite(column)]
        for row in rows:
            row[f"{name}_to_median"] = row[name] - float(np.median(seen)) if seen.size else np.nan
            row[f"{name}_to_largest"] = row[name] - float(seen.max()) if seen.size else np.nan
    for above, below in pairwise(rows):
        for name in _BESIDE:
            below[f"{name}_to_above"] = below[name] - above[name]
            above[f"{name}_to_below"] = above[name] - below[name]
    table = np.array([[row[name] for name in FEATURES] for row in rows], np.float32)
    return table.reshape(len(discs), len(FEATURES))


def _own(disc: CutDisc) -> dict[str, float]:
    columns = np.arange(224, dtype=np.float64)
    center = np.array([(112 - 1) / 2, (224 - 1) / 2])
    upper, lower = chords_mm(disc.outline - center, columns - center[1])
    upper, lower = upper + center[0], lower + center[0]
    heights = _heights(upper, lower, disc)
    return {
        **dict.fromkeys(FEATURES, float("nan")),
        **heights,
        **_bodies(disc, heights["height_mm"]),
        **_signals(disc),
        **_corners(disc),
        **_canal(disc),
        **_side("upper", disc, upper, -1),
        **_side("lower", disc, lower, +1),
        "bone_scale": disc.bone_scale,
        "tilt": disc.tilt,
        LEVEL: disc.level,
    }


def _heights(upper: FloatArray, lower: FloatArray, disc: CutDisc) -> dict[str, float]:
    at = [round((224 - 1) / 2 + (station - 0.5) * disc.depth_px) for station in STATIONS]
    front, middle, back = (float(np.nanmean((lower - upper)[i - 2 : i + 3])) if _any(upper, i) else np.nan for i in at)
    return {
        "height_front": front / PATCH_WIDTH_PX,
        "height_middle": middle / PATCH_WIDTH_PX,
        "height_back": back / PATCH_WIDTH_PX,
        "height_least": min(front, middle, back) / PATCH_WIDTH_PX,
        "height_wedge": (front - back) / PATCH_WIDTH_PX,
        "height_mm": (front + middle + back) / 3 * disc.mm_per_px,
        "depth_mm": disc.depth_px * disc.mm_per_px,
    }


def _bodies(disc: CutDisc, disc_height_mm: float) -> dict[str, float]:
    """Heights of the bodies, front minus back, upper minus lower end plate, in disc widths; disc height by theirs."""
    disc_height = disc_height_mm / disc.mm_per_px / PATCH_WIDTH_PX
    described: dict[str, float] = {}
    heights: list[float] = []
    for side, corners in (("upper", disc.upper_corners), ("lower", disc.lower_corners)):
        if corners is None:
            continue
        above_front, above_back, below_back, below_front = corners / PATCH_WIDTH_PX
        front, back = np.linalg.norm(above_front - below_front), np.linalg.norm(above_back - below_back)
        plates = np.linalg.norm(above_front - above_back), np.linalg.norm(below_front - below_back)
        heights += [float(front), float(back)]
        described |= {
            f"{side}_body_front": float(front),
            f"{side}_body_back": float(back),
            f"{side}_body_wedge": float(front - back),
            f"{side}_body_taper": float(plates[0] - plates[1]),
        }
    if heights:
        described["height_to_bodies"] = float(disc_height / np.mean(heights))
    return described


def _any(values: FloatArray, i: int) -> bool:
    return bool(np.isfinite(values[max(i - 2, 0) : i + 3]).any())


def _inside(outline: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    canvas = Image.new("1", (224, 112))
    ImageDraw.Draw(canvas).polygon([(float(column), float(row)) for row, column in outline], fill=1)
    return np.asarray(canvas, bool)


def _signals(disc: CutDisc) -> dict[str, float]:
    mask = _inside(disc.outline)
    if mask.sum() < 20:
        return {}
    columns = np.broadcast_to(np.arange(224), mask.shape)
    offset = (columns - (224 - 1) / 2) / max(disc.depth_px, 1.0)
    signal = disc.image / BONE
    inner = signal[mask & (np.abs(offset) < 0.25)]
    front, back = signal[mask & (offset < -0.25)], signal[mask & (offset > 0.25)]
    csf = _csf(disc)
    p10, p25, p50, p75, p90 = np.percentile(signal[mask], (10, 25, 50, 75, 90))
    inner_signal = float(np.median(inner)) if inner.size else float("nan")
    return {
        **{"signal_p10": p10, "signal_p25": p25, "signal_p50": p50, "signal_p75": p75, "signal_p90": p90},
        "signal_spread": float(signal[mask].std()),
        "signal_inner": inner_signal,
        "signal_front": float(np.median(front)) if front.size else float("nan"),
        "signal_back": float(np.median(back)) if back.size else float("nan"),
        "signal_to_csf": float(np.log((inner_signal + 0.1) / (csf + 0.1))),
        "csf": csf,
    }


def _csf(disc: CutDisc) -> float:
    """90th percentile of the signal across the sac, in units of bone."""
    if disc.canal is None:
        return float("nan")
    rows, columns = np.linspace(disc.canal[0], disc.canal[1], 24).round().astype(int).T
    seen = (rows >= 4) & (rows < 108) & (columns >= 0) & (columns < 224)
    if not seen.any():
        return float("nan")
    band = [disc.image[rows[seen] + shift, columns[seen]] for shift in (-4, -2, 0, 2, 4)]
    return float(np.percentile(np.concatenate(band), 90) / BONE)


def _corners(disc: CutDisc) -> dict[str, float]:
    """Overhang of the disc beyond the corners of its bodies, and the offset of those corners, in disc widths."""
    if disc.upper_corners is None or disc.lower_corners is None:
        return {}
    above_back, above_front = disc.upper_corners[2, 1], disc.upper_corners[3, 1]
    below_front, below_back = disc.lower_corners[0, 1], disc.lower_corners[1, 1]
    return {
        "overhang_back": float(disc.outline[:, 1].max() - (above_back + below_back) / 2) / PATCH_WIDTH_PX,
        "overhang_front": float((above_front + below_front) / 2 - disc.outline[:, 1].min()) / PATCH_WIDTH_PX,
        "slip_back": float(below_back - above_back) / PATCH_WIDTH_PX,
        "slip_front": float(below_front - above_front) / PATCH_WIDTH_PX,
    }


def _canal(disc: CutDisc) -> dict[str, float]:
    if disc.canal is None:
        return {}
    return {
        "canal": float(np.linalg.norm(disc.canal[1] - disc.canal[0])) / PATCH_WIDTH_PX,
        "canal_front_gap": float(disc.canal[0, 1] - disc.outline[:, 1].max()) / PATCH_WIDTH_PX,
    }


def _side(side: str, disc: CutDisc, edge: FloatArray, direction: int) -> Mapping[str, float]:
    """The bone on one side of the disc: a zone along the end plate and the marrow beyond it."""
    half = 0.4 * disc.depth_px
    columns = np.flatnonzero(np.isfinite(edge) & (np.abs(np.arange(224) - (224 - 1) / 2) < half))
    if columns.size < 20:
        return {}
    near = _band(disc.image, edge, columns, direction, NEAR_PX)
    far = _band(disc.image, edge, columns, direction, FAR_PX)
    if np.isfinite(near).sum() < 40 or np.isfinite(far).sum() < 40:
        return {}
    line = edge[columns]
    straight = np.polyval(np.polyfit(columns, line, 1), columns)
    curved = np.polyval(np.polyfit(columns, line, 2), columns)
    far_p50 = float(np.nanmedian(far))
    thirds = [float(np.nanmedian(part)) - far_p50 for part in np.array_split(near, 3, axis=1)]
    p10, p50, p90 = np.nanpercentile(near, (10, 50, 90))
    return {
        **{f"{side}_near_p10": p10, f"{side}_near_p50": p50, f"{side}_near_p90": p90, f"{side}_far_p50": far_p50},
        f"{side}_near_spread": float(np.nanstd(near)),
        f"{side}_far_spread": float(np.nanstd(far)),
        f"{side}_contrast_front": thirds[0],
        f"{side}_contrast_middle": thirds[1],
        f"{side}_contrast_back": thirds[2],
        f"{side}_roughness": float(np.std(line - curved)) / PATCH_WIDTH_PX,
        f"{side}_concavity": direction * float((curved - straight)[columns.size // 2]) / PATCH_WIDTH_PX,
    }


def _band(
    image: VoxelArray,
    edge: FloatArray,
    columns: np.ndarray[tuple[int, ...], np.dtype[np.intp]],
    direction: int,
    distances_px: tuple[int, int],
) -> FloatArray:
    """(distances, columns) signal in units of bone at so many pixels from the edge; NaN outside the patch."""
    steps = np.arange(distances_px[0], distances_px[1] + 1)
    rows = np.rint(edge[columns][None, :] + direction * steps[:, None]).astype(int)
    inside = (rows >= 0) & (rows < image.shape[0])
    band: FloatArray = np.where(inside, image[rows.clip(0, image.shape[0] - 1), columns[None, :]] / BONE, np.nan)
    return band
