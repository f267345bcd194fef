"""Frames of one sagittal series -> one SagittalVolume. Geometry comes from positions and orientations only.

Preconditions, each named with its values in ``Unsuitable`` where it does not hold:

* every frame has Image Position and Orientation (Patient) and Pixel Spacing (PS3.3 C.7.6.2);
* all frames have one matrix, one pixel spacing, one orientation;
* sorted by position along the normal they are evenly spaced, with no slice missing and none shifted sideways;
* one image per position (a repeated identical image is dropped, a different one is not chosen between);
* pixel data is whole, grey scale, and of a transfer syntax that can be decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from inference.frames import Frame, read_frames, value
from inference.pixels import modality_values
from inference.volume import FloatArray, SagittalVolume, SliceSource, Unsuitable, VoxelArray

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of any direction cosine within a stack: 0.3 mm at the end of a 300 mm image, half a pixel."""
PIXEL_SPACING_TOLERANCE = 1e-3
"""Relative: 0.3 mm over a 300 mm image. Scanners repeat the spacing exactly; converters round it."""
SLICE_SPACING_TOLERANCE = 1e-2
"""Relative, as highdicom's default for regularly spaced frames (``highdicom.spatial``)."""
SLICE_SPACING_TOLERANCE_MM = 0.05
"""And at least this: positions are often written with one or two decimals."""
SHIFT_TOLERANCE_MM = 0.5
"""How far a slice may lie beside the common normal: about a pixel."""
SAME_POSITION_MM = 1e-2
"""Closer than this two frames are at one position; no MR slice is thinner than 0.1 mm."""
ASSUMED_SLICE_STEP_MM = 4.0
"""For a lone slice whose header gives no thickness: usual for lumbar protocols, shown in the notes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stacked:
    """A volume, and what a reader should know of how it was made."""

    volume: SagittalVolume
    notes: tuple[str, ...]


def stack(instances: Sequence[Dataset]) -> Stacked:
    """All frames of these objects as one volume; see ``stack_frames``."""
    return stack_frames(read_frames(instances))


def stack_frames(frames: Sequence[Frame]) -> Stacked:
    """One volume out of classic images or of frames of multi-frame objects, in any order.

    Voxels are float32 in modality units (slope * stored + intercept, PS3.3 C.11.1; MR has no absolute unit), with
    MONOCHROME1 turned round so that bright is always high. Raises ``Unsuitable`` where a precondition fails.
    """
    if not frames:
        raise Unsuitable("The series holds no images.")
    _require_one_grid(frames)
    notes: list[str] = []
    pixels = _Pixels()
    ordered = _one_per_position(_by_position(frames), pixels, notes)
    step = _slice_step(ordered, notes)
    first = ordered[0]
    voxel_to_patient = _voxel_to_patient(first, step)
    voxels = np.stack([pixels.of(frame) for frame in ordered])
    if voxels.min() == voxels.max():
        raise Unsuitable("The images are empty: every pixel has the same value.")
    volume = SagittalVolume(
        voxels=voxels,
        voxel_to_patient=voxel_to_patient,
        sources=tuple(SliceSource(sop_instance_uid=f.sop_instance_uid, frame=f.number) for f in ordered),
        series_instance_uid=first.series_instance_uid,
        series_description=_description(first.instance),
    )
    return Stacked(volume=volume, notes=tuple(notes))


def missing_slices(frames: Sequence[Frame]) -> int:
    """How many slices lack between the first and the last position, in any order; 0 where positions do not tell.

    The smallest distance is taken for the distance of neighbours; all others must be multiples of it.
    """
    placed = [frame for frame in frames if frame.position_lps_mm is not None and frame.normal is not None]
    if not placed:
        return 0
    normal = _normal(placed[0])
    gaps_mm = np.diff(sorted(float(_position(frame) @ normal) for frame in placed))
    gaps_mm = gaps_mm[gaps_mm > SAME_POSITION_MM]
    if not gaps_mm.size:
        return 0
    steps = np.rint(gaps_mm / gaps_mm.min())
    usual_mm = float(np.median(gaps_mm / steps))
    tolerance_mm = max(SLICE_SPACING_TOLERANCE * usual_mm, SLICE_SPACING_TOLERANCE_MM)
    if (np.abs(gaps_mm - steps * usual_mm) > tolerance_mm * steps).any():
        return 0
    return int((steps - 1).sum())


def _require_one_grid(frames: Sequence[Frame]) -> None:
    for frame in frames:
        where = f"image {frame.sop_instance_uid}, frame {frame.number}"
        if frame.position_lps_mm is None:
            raise Unsuitable(f"An image has no usable position in the patient ({where}).")
        if frame.normal is None:
            raise Unsuitable(f"An image has no usable orientation in the patient ({where}).")
        if frame.spacing_mm is None:
            raise Unsuitable(f"An image has no usable pixel spacing ({where}).")
        if frame.rows < 1 or frame.columns < 1:
            raise Unsuitable(f"An image has no rows or columns ({where}).")
    first = frames[0]
    for frame in frames:
        if (frame.rows, frame.columns) != (first.rows, first.columns):
            raise Unsuitable(
                "The images of the series have different matrices: "
                f"{first.rows} x {first.columns} and {frame.rows} x {frame.columns}."
            )
        if not np.allclose(_spacing(frame), _spacing(first), rtol=PIXEL_SPACING_TOLERANCE, atol=0):
            raise Unsuitable(
                "The images of the series have different pixel spacings: "
                f"{_pair(_spacing(first))} mm and {_pair(_spacing(frame))} mm."
            )
        difference = np.abs(np.stack(_axes(frame)) - np.stack(_axes(first))).max()
        if difference > ORIENTATION_TOLERANCE:
            degrees = np.degrees(np.arccos(np.clip(_normal(frame) @ _normal(first), -1, 1)))
            raise Unsuitable(f"The images of the series have different orientations: {degrees:.1f} degrees apart.")


def _by_position(frames: Sequence[Frame]) -> list[Frame]:
    normal = _normal(frames[0])
    return sorted(frames, key=lambda frame: (float(_position(frame) @ normal), frame.sop_instance_uid, frame.number))


def _one_per_position(ordered: list[Frame], pixels: _Pixels, notes: list[str]) -> list[Frame]:
    """Drops images that repeat another at the same position; refuses to choose between different ones."""
    normal = _normal(ordered[0])
    kept = ordered[:1]
    repeated = 0
    for frame in ordered[1:]:
        if (_position(frame) - _position(kept[-1])) @ normal > SAME_POSITION_MM:
            kept.append(frame)
        elif np.array_equal(pixels.of(frame), pixels.of(kept[-1])):
            repeated += 1
        else:
            raise Unsuitable(_what_differs(kept[-1], frame))
    if repeated:
        notes.append(f"{repeated} image(s) repeat another one exactly and were left out.")
    return kept


def _what_differs(one: Frame, other: Frame) -> str:
    start = f"Two different images lie at the same slice position {np.round(_position(one), 1).tolist()}"
    if one.temporal_position != other.temporal_position:
        return f"{start}: temporal positions {one.temporal_position} and {other.temporal_position}."
    if one.echo_time_ms != other.echo_time_ms:
        return f"{start}: echo times {one.echo_time_ms} and {other.echo_time_ms} ms."
    if one.image_type != other.image_type:
        return f"{start}: of different image types."
    return f"{start}."


def _slice_step(ordered: list[Frame], notes: list[str]) -> FloatArray:
    """(3,) LPS mm from one slice to the next."""
    normal = _normal(ordered[0])
    if len(ordered) == 1:
        claimed = ordered[0].slice_step_mm
        if claimed is None:
            notes.append(f"The slice has no thickness in its header; {ASSUMED_SLICE_STEP_MM:.0f} mm was assumed.")
        return normal * (claimed or ASSUMED_SLICE_STEP_MM)
    positions = np.stack([_position(frame) for frame in ordered])
    gaps_mm = np.diff(positions @ normal)
    usual_mm = float(np.median(gaps_mm))
    tolerance_mm = max(SLICE_SPACING_TOLERANCE * usual_mm, SLICE_SPACING_TOLERANCE_MM)
    if (np.abs(gaps_mm - usual_mm) > tolerance_mm).any():
        raise Unsuitable(_gap_sentence(gaps_mm, usual_mm, tolerance_mm))
    sideways = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    shift_mm = float(np.linalg.norm(sideways, axis=1).max())
    if shift_mm > SHIFT_TOLERANCE_MM:
        raise Unsuitable(f"The slices are shifted against each other within their plane by up to {shift_mm:.1f} mm.")
    step: FloatArray = (positions[-1] - positions[0]) / (len(ordered) - 1)
    return step


def _gap_sentence(gaps_mm: FloatArray, usual_mm: float, tolerance_mm: float) -> str:
    steps = np.rint(gaps_mm / usual_mm)
    multiples = (steps >= 1) & (np.abs(gaps_mm - steps * usual_mm) <= tolerance_mm * np.maximum(steps, 1))
    if multiples.all():
        missing = int((steps - 1).sum())
        after = int(np.argmax(steps > 1)) + 1
        return (
            f"{missing} slice(s) of the series are missing: slices are {usual_mm:.2f} mm apart, "
            f"but {gaps_mm[after - 1]:.2f} mm lie between the slices {after} and {after + 1} in order of position."
        )
    return f"The slices are not evenly spaced: {gaps_mm.min():.2f} to {gaps_mm.max():.2f} mm apart."


def _voxel_to_patient(first: Frame, step: FloatArray) -> FloatArray:
    """4 x 4, (slice, row, column, 1) -> LPS mm (PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1, with 0-based indices)."""
    row_direction, column_direction = _axes(first)
    between_rows_mm, between_columns_mm = _spacing(first)
    matrix = np.eye(4)
    matrix[:3, 0] = step
    matrix[:3, 1] = column_direction * between_rows_mm
    matrix[:3, 2] = row_direction * between_columns_mm
    matrix[:3, 3] = _position(first)
    return matrix


class _Pixels:
    """Decodes frames on demand and keeps them: where positions repeat, images are looked at twice."""

    def __init__(self) -> None:
        self._decoded: dict[tuple[int, int], VoxelArray] = {}

    def of(self, frame: Frame) -> VoxelArray:
        """(rows, columns) float32."""
        key = (id(frame.instance), frame.number)
        if key not in self._decoded:
            self._decoded[key] = modality_values(frame)
        return self._decoded[key]


def _position(frame: Frame) -> FloatArray:
    if frame.position_lps_mm is None:
        raise Unsuitable("An image has no usable position in the patient.")
    return frame.position_lps_mm


def _axes(frame: Frame) -> tuple[FloatArray, FloatArray]:
    if frame.row_direction is None or frame.column_direction is None:
        raise Unsuitable("An image has no usable orientation in the patient.")
    return frame.row_direction, frame.column_direction


def _normal(frame: Frame) -> FloatArray:
    return np.cross(*_axes(frame))


def _spacing(frame: Frame) -> tuple[float, float]:
    if frame.spacing_mm is None:
        raise Unsuitable("An image has no usable pixel spacing.")
    return frame.spacing_mm


def _pair(spacing_mm: tuple[float, float]) -> str:
    return f"{spacing_mm[0]:.3f} x {spacing_mm[1]:.3f}"


def _description(instance: Dataset) -> str:
    """In one line, without what cannot be seen: it is told to readers, also on terminals."""
    text = value(instance, "SeriesDescription")
    return "" if text is None else " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
