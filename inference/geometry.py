"""Lengths on a disc and its neighbouring bodies, in the disc's own frame. No images in here.

A disc's frame is taken from its mid-line: ``axis`` points from its front end to its back end, ``across`` is
perpendicular to it in the plane of the outline and points towards the feet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.anatomy import Disc, Spine, VertebralBody
from inference.volume import FloatArray

STATIONS: tuple[float, float, float] = (0.2, 0.5, 0.8)
"""Where along the mid-line (0 = front end) the front, middle and back height are taken. Not nearer to the ends:
there the outline is rounded and a height means nothing."""
STATION_HALF_WIDTH = 0.06
"""Each height is the mean over this much of the mid-line to either side, against a jagged outline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscFrame:
    """Where a disc lies and how it is turned, LPS mm."""

    center_lps_mm: FloatArray
    axis: FloatArray
    """(3,) unit vector, front to back."""
    across: FloatArray
    """(3,) unit vector in the image plane, head to foot."""
    depth_mm: float
    """Length of the mid-line."""


def frame_of(disc: Disc, down: FloatArray, normal: FloatArray) -> DiscFrame:
    """The disc's frame; ``down`` (3,) points to the feet and ``normal`` (3,) out of the image plane, both LPS.

    Raises ``ValueError`` for a mid-line without length.
    """
    line = disc.posterior_lps_mm - disc.anterior_lps_mm
    line = line - normal * (line @ normal) / (normal @ normal)
    depth_mm = float(np.linalg.norm(line))
    if depth_mm < 1e-3:
        raise ValueError("a disc's front and back end are the same point")
    axis = line / depth_mm
    across = np.cross(normal / np.linalg.norm(normal), axis)
    if across @ down < 0:
        across = -across
    return DiscFrame(
        center_lps_mm=(disc.anterior_lps_mm + disc.posterior_lps_mm) / 2, axis=axis, across=across, depth_mm=depth_mm
    )


def in_frame_mm(points_lps_mm: FloatArray, frame: DiscFrame) -> FloatArray:
    """(..., 3) LPS mm -> (..., 2) mm (across, along) from the disc's centre, downwards and backwards positive."""
    offset = points_lps_mm - frame.center_lps_mm
    return np.stack([offset @ frame.across, offset @ frame.axis], axis=-1)


def chords_mm(outline_mm: FloatArray, along_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Upper and lower edge of a polygon at positions along the axis.

    ``outline_mm`` (n, 2) as of ``in_frame_mm``; ``along_mm`` (k,). Returns (k,) smallest and (k,) largest ``across``
    coordinate where the line crosses the polygon; NaN where it does not.
    """
    start, end = outline_mm, np.roll(outline_mm, -1, axis=0)
    run = end[:, 1] - start[:, 1]
    safe = np.where(np.abs(run) > 1e-9, run, 1.0)
    t = (along_mm[:, None] - start[None, :, 1]) / safe
    crossing = np.where((t >= 0) & (t <= 1) & (np.abs(run) > 1e-9), start[:, 0] + t * (end[:, 0] - start[:, 0]), np.nan)
    crossed = np.isfinite(crossing)
    met = crossed.sum(axis=1) > 0
    upper = np.where(met, np.where(crossed, crossing, np.inf).min(axis=1), np.nan)
    lower = np.where(met, np.where(crossed, crossing, -np.inf).max(axis=1), np.nan)
    return upper, lower


def heights_mm(disc: Disc, frame: DiscFrame) -> tuple[float, float, float]:
    """Front, middle and back height of the disc, mm; NaN where the outline is not met."""
    outline = in_frame_mm(disc.outline_lps_mm, frame)
    heights = []
    for station in STATIONS:
        fractions = station + np.linspace(-STATION_HALF_WIDTH, STATION_HALF_WIDTH, 5)
        upper, lower = chords_mm(outline, (fractions - 0.5) * frame.depth_mm)
        found = np.isfinite(upper)
        heights.append(float((lower - upper)[found].mean()) if found.any() else float("nan"))
    return heights[0], heights[1], heights[2]


def neighbours(disc: Disc, spine: Spine) -> tuple[VertebralBody | None, VertebralBody | None]:
    """The bodies above and below a disc, by level; None where one was not seen."""
    bodies = {body.level: body for body in spine.bodies}
    return bodies.get(disc.level.upper_vertebra), bodies.get(disc.level.lower_vertebra)


def slip_mm(upper: VertebralBody, lower: VertebralBody) -> tuple[float, float]:
    """How far the upper body stands in front of the lower one, and the depth of the lower end plate, both mm.

    Measured at the posterior corners, along the superior end plate of the lower body (Meyerding 1932, Taillard 1954);
    positive = anterolisthesis, negative = retrolisthesis.
    """
    anterior, posterior = lower.corners_lps_mm[0], lower.corners_lps_mm[1]
    endplate = anterior - posterior
    depth_mm = float(np.linalg.norm(endplate))
    if depth_mm < 1e-3:
        return float("nan"), float("nan")
    return float((upper.corners_lps_mm[2] - posterior) @ endplate / depth_mm), depth_mm
