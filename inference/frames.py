"""Headers of MR images, one record per 2-D frame, whether it came alone or in an Enhanced multi-frame object.

The one place that reads DICOM attributes for selection and stacking. Hostile bytes never crash it: a value that
cannot be read is a value that is not there.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from inference.volume import FloatArray

UNREADABLE = (
    *(ValueError, TypeError, ArithmeticError, AttributeError, LookupError, NotImplementedError),
    *(OSError, EOFError, struct.error, BytesLengthException),
)
"""What pydicom raises for a value whose bytes do not hold what its VR promises. ``OSError`` stands for a sequence
that ends early in memory; ``UnicodeError`` is a ``ValueError``."""

FUNCTIONAL_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "FrameContentSequence",
    "FrameAnatomySequence",
    "MRImageFrameTypeSequence",
    "MREchoSequence",
    "MRTimingAndRelatedParametersSequence",
    "MRModifierSequence",
    "PixelValueTransformationSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "UnassignedSharedConvertedAttributesSequence",
)
"""Macros that are searched: PS3.3 C.7.6.16.2 and C.8.13.5; the last two belong to Legacy Converted objects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One 2-D image with what its header says; None or empty where the header does not say it."""

    instance: Dataset
    number: int
    """1-based frame number in ``instance``; 1 for a classic image."""
    sop_instance_uid: str
    series_instance_uid: str
    modality: str
    image_type: tuple[str, ...]
    """Upper case; the frame's own type where a multi-frame object has one."""
    rows: int
    columns: int
    position_lps_mm: FloatArray | None
    """(3,) centre of the first pixel."""
    row_direction: FloatArray | None
    """(3,) unit vector along a row, i.e. of growing column index (first triplet of ImageOrientationPatient)."""
    column_direction: FloatArray | None
    """(3,) unit vector of growing row index."""
    spacing_mm: tuple[float, float] | None
    """Between the centres of neighbouring (rows, columns)."""
    slice_step_mm: float | None
    """Spacing between slices as the header claims it, else the slice thickness. Geometry never relies on it."""
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None
    slope: float | None
    intercept: float | None
    temporal_position: int | None

    @property
    def normal(self) -> FloatArray | None:
        """(3,) unit slice normal, row direction x column direction."""
        if self.row_direction is None or self.column_direction is None:
            return None
        return np.cross(self.row_direction, self.column_direction)


def read_frames(instances: Sequence[Dataset]) -> tuple[Frame, ...]:
    """All frames of all objects, in the order given. Never raises for what a header holds."""
    return tuple(frame for instance in instances for frame in _frames_of(instance))


def value(dataset: Dataset | None, keyword: str) -> Any:
    """The attribute's value; None where it is absent, empty or unreadable."""
    if dataset is None:
        return None
    try:
        with warnings.catch_warnings():  # pydicom warns of each invalid value; here an invalid value is an absent one
            warnings.simplefilter("ignore")
            found = dataset.get(keyword)
    except UNREADABLE:
        return None
    return None if found is None or found == "" else found


def number(dataset: Dataset | None, keyword: str) -> float | None:
    """A finite number; of several values the first."""
    found = numbers(dataset, keyword)
    return found[0] if found else None


def numbers(dataset: Dataset | None, keyword: str) -> tuple[float, ...]:
    """Finite numbers; empty if any of the values is none."""
    found = value(dataset, keyword)
    if found is None:
        return ()
    values = [found] if isinstance(found, (str, bytes, int, float)) else found
    try:
        result = tuple(float(item) for item in values)
    except UNREADABLE:
        return ()
    return result if all(math.isfinite(item) for item in result) else ()


def words(dataset: Dataset | None, keyword: str) -> tuple[str, ...]:
    """Text values in upper case, printable characters only."""
    found = value(dataset, keyword)
    if found is None or isinstance(found, Dataset):
        return ()
    values = [found] if isinstance(found, (str, bytes)) or not hasattr(found, "__iter__") else list(found)
    texts = (item.decode("latin-1") if isinstance(item, bytes) else str(item) for item in values)
    return tuple(" ".join(re.sub(r"[^\x20-\x7e]", " ", text).split()).upper() for text in texts)


def items(dataset: Dataset | None, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; empty where it is absent or no sequence."""
    found = value(dataset, keyword)
    if isinstance(found, (str, bytes)) or not hasattr(found, "__iter__"):
        return ()
    return tuple(item for item in found if isinstance(item, Dataset))


def _frames_of(instance: Dataset) -> list[Frame]:
    shared = items(instance, "SharedFunctionalGroupsSequence")
    per_frame = items(instance, "PerFrameFunctionalGroupsSequence")
    if not per_frame and not shared:
        return [_frame(instance, 1, [instance])]
    common = _macros(shared[0]) if shared else []
    # a frame's own groups come before the shared ones, and those before the top level
    return [
        _frame(instance, index, [*_macros(groups), *common, instance])
        for index, groups in enumerate(per_frame, start=1)
    ]


def _macros(groups: Dataset) -> list[Dataset]:
    return [macro for keyword in FUNCTIONAL_GROUPS for macro in items(groups, keyword)[:1]]


def _frame(instance: Dataset, frame_number: int, places: list[Dataset]) -> Frame:
    def first(keyword: str) -> float | None:
        return next((found for found in (number(place, keyword) for place in places) if found is not None), None)

    def vector(keyword: str, length: int) -> FloatArray | None:
        for place in places:
            found = numbers(place, keyword)
            if len(found) == length:
                return np.array(found, np.float64)
        return None

    row_direction, column_direction = _directions(vector("ImageOrientationPatient", 6))
    spacing = vector("PixelSpacing", 2)
    temporal = first("TemporalPositionIndex") or first("TemporalPositionIdentifier")
    return Frame(
        instance=instance,
        number=frame_number,
        sop_instance_uid=" ".join(words(instance, "SOPInstanceUID")),
        series_instance_uid=" ".join(words(instance, "SeriesInstanceUID")),
        modality=" ".join(words(instance, "Modality")),
        image_type=next((t for t in (words(place, "FrameType") for place in places) if t), ())
        or words(instance, "ImageType"),
        rows=int(number(instance, "Rows") or 0),
        columns=int(number(instance, "Columns") or 0),
        position_lps_mm=_within_reach(vector("ImagePositionPatient", 3)),
        row_direction=row_direction,
        column_direction=column_direction,
        spacing_mm=_pixel_spacing(spacing),
        slice_step_mm=_positive(first("SpacingBetweenSlices")) or _positive(first("SliceThickness")),
        echo_time_ms=_positive(first("EffectiveEchoTime")) or _positive(first("EchoTime")),
        repetition_time_ms=_positive(first("RepetitionTime")),
        inversion_time_ms=_positive(first("InversionTimes")) or _positive(first("InversionTime")),
        slope=first("RescaleSlope"),
        intercept=first("RescaleIntercept"),
        temporal_position=int(temporal) if temporal is not None else None,
    )


def _positive(found: float | None) -> float | None:
    return found if found is not None and found > 0 else None


def _within_reach(position_lps_mm: FloatArray | None) -> FloatArray | None:
    """No scanner's patient space reaches 10 m; beyond it a position is garbage."""
    return position_lps_mm if position_lps_mm is not None and np.abs(position_lps_mm).max() < 1e4 else None


def _pixel_spacing(spacing: FloatArray | None) -> tuple[float, float] | None:
    if spacing is None or spacing.min() <= 0 or spacing.max() > 1e2:
        return None
    return float(spacing[0]), float(spacing[1])


def _directions(orientation: FloatArray | None) -> tuple[FloatArray | None, FloatArray | None]:
    """Unit vectors, or None for an orientation that is none.

    Lengths may be off by 1e-2 and the dot product by 1e-3: direction cosines are often written with three decimals.
    """
    if orientation is None:
        return None, None
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(lengths[0] - 1) > 1e-2 or abs(lengths[1] - 1) > 1e-2 or abs(row @ column) > 1e-3:
        return None, None
    return row / lengths[0], column / lengths[1]
