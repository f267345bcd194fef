"""Whether the planes, the field of view and the spacing of a series can hold a lumbar spine: geometry only."""

from __future__ import annotations

from collections import Counter

import numpy as np

from inference.frames import Frame

SHORTEST_FIELD_MM = 140.0
"""Along the body. L1 to S1 takes 170-200 mm in adults; below this not even five discs fit."""
COARSEST_PIXEL_MM = 1.6
"""A lumbar disc is 5-12 mm high: fewer than four or so rows cannot show its structure."""
WIDEST_SLICE_STEP_MM = 8.0
"""Diagnostic protocols use 3-5 mm; wider apart are scouts."""
OTHER_STATION_MM = 100.0
"""Whole-spine studies image in stations; a station this much higher than another shows the upper spine."""
STRAY_SHARE = 0.2
"""Up to this share of frames in another plane is a stray image in a sagittal series; more make it a localizer."""


def plane_of(frame: Frame) -> str:
    """The body plane nearest to the image: its normal is nearest to that axis of the patient."""
    normal = frame.normal
    if normal is None:
        return "unknown"
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(normal)))]


def sagittal_frames(frames: tuple[Frame, ...], notes: list[str]) -> tuple[tuple[Frame, ...], str | None]:
    """The frames to keep, and the fault if there is one. Adds a note where some were left out."""
    planes = Counter(plane_of(frame) for frame in frames)
    if planes["unknown"] == len(frames):
        return frames, "no image orientation in the headers"
    sagittal = tuple(frame for frame in frames if plane_of(frame) == "sagittal")
    if len(sagittal) < (1 - STRAY_SHARE) * len(frames):
        if len(planes) == 1:
            return frames, next(iter(planes))
        counts = ", ".join(f"{count} {plane}" for plane, count in planes.most_common())
        return frames, f"localizer or mixed planes ({counts})"
    if any(frame.position_lps_mm is None or frame.spacing_mm is None for frame in sagittal):
        return frames, "no image position or no pixel spacing in the headers"
    kept = _same_direction(sagittal)
    if len(kept) < (1 - STRAY_SHARE) * len(frames):
        return frames, "sagittal images of several orientations"
    if len(kept) < len(frames):
        notes.append(f"{len(frames) - len(kept)} image(s) of another orientation in the series were left out.")
    return kept, None


def _same_direction(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The largest set of frames that lie parallel within 1 degree."""
    normals = np.stack([frame.normal for frame in frames if frame.normal is not None])
    parallel = np.abs(normals @ normals.T) > np.cos(np.radians(1.0))
    largest = parallel[int(np.argmax(parallel.sum(axis=1)))]
    return tuple(frame for frame, kept in zip(frames, largest, strict=True) if kept)


def field_mm(frame: Frame) -> float:
    """Extent of the image along the body (LPS z), mm."""
    if frame.spacing_mm is None or frame.row_direction is None or frame.column_direction is None:
        return 0.0
    down = frame.rows * frame.spacing_mm[0] * abs(float(frame.column_direction[2]))
    along = frame.columns * frame.spacing_mm[1] * abs(float(frame.row_direction[2]))
    return max(down, along)


def wrong_coverage(frames: tuple[Frame, ...]) -> str | None:
    first = frames[0]
    along_mm, pixel_mm, step_mm = field_mm(first), max(first.spacing_mm or (0.0,)), _step_mm(frames)
    if along_mm < SHORTEST_FIELD_MM:
        return f"shows only {along_mm:.0f} mm along the body: too little for a lumbar spine"
    if pixel_mm > COARSEST_PIXEL_MM:
        return f"pixels of {pixel_mm:.1f} mm are too coarse to grade discs"
    if step_mm > WIDEST_SLICE_STEP_MM:
        return f"slices {step_mm:.0f} mm apart are too far apart: a localizer"
    return None


def _step_mm(frames: tuple[Frame, ...]) -> float:
    """Median distance between neighbouring slice positions; 0 for a lone slice."""
    normal = frames[0].normal
    if normal is None:
        return 0.0
    offsets = sorted({round(float(f.position_lps_mm @ normal), 2) for f in frames if f.position_lps_mm is not None})
    return float(np.median(np.diff(offsets))) if len(offsets) > 1 else 0.0


def extent_mm(frames: tuple[Frame, ...]) -> tuple[float, float]:
    """LPS z of the (lowest, highest) edge of the first image; (0, 0) without geometry."""
    first = frames[0]
    if first.position_lps_mm is None or first.spacing_mm is None:
        return 0.0, 0.0
    if first.row_direction is None or first.column_direction is None:
        return 0.0, 0.0
    start = float(first.position_lps_mm[2])
    down = float(first.column_direction[2]) * first.spacing_mm[0] * (first.rows - 1)
    along = float(first.row_direction[2]) * first.spacing_mm[1] * (first.columns - 1)
    return start + min(down, 0.0) + min(along, 0.0), start + max(down, 0.0) + max(along, 0.0)


def is_above(frames: tuple[Frame, ...], others: tuple[Frame, ...]) -> bool:
    """Whether the first series is a higher station of the spine: both its edges lie well above those of the others."""
    own, other = extent_mm(frames), extent_mm(others)
    return own[0] - other[0] > OTHER_STATION_MM and own[1] - other[1] > OTHER_STATION_MM
