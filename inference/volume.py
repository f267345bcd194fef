"""A sagittal MR volume, and the one place that says its axes, order, unit and frame.

Axes are always (slice, row, column). Positions are patient coordinates in millimetres in DICOM's LPS
convention (+x to the patient's left, +y posterior, +z head; PS3.3 C.7.6.2.1.1). Voxel coordinates are
0-based with pixel centres at whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
VoxelArray = NDArray[np.float32]


class Unsuitable(Exception):
    """This input cannot be graded, and trying again will not help: an outcome to report, not a fault.

    The message is one sentence for the person who reads the outcome; it holds no patient identifiers.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceSource:
    """Where one slice of a volume came from."""

    sop_instance_uid: str
    frame: int
    """1-based frame number; 1 for classic single-frame images (PS3.3 C.7.6.6)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SagittalVolume:
    """Voxels (slices, rows, columns) with their place in the patient.

    ``voxel_to_patient`` is 4 x 4 float64 and maps (slice, row, column, 1) to LPS mm. Slices are sorted by
    position along the slice normal; there is one ``SliceSource`` per slice.
    """

    voxels: VoxelArray
    voxel_to_patient: FloatArray
    sources: tuple[SliceSource, ...]
    series_instance_uid: str
    series_description: str

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.voxels.dtype != np.float32:
            raise ValueError(
                f"voxels must be float32 (slices, rows, columns), not {self.voxels.dtype} {self.voxels.shape}"
            )
        if self.voxel_to_patient.shape != (4, 4):
            raise ValueError(f"voxel_to_patient must be 4 x 4, not {self.voxel_to_patient.shape}")
        if len(self.sources) != self.voxels.shape[0]:
            raise ValueError(f"{len(self.sources)} slice sources for {self.voxels.shape[0]} slices")

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along (slice, row, column), mm."""
        lengths = np.linalg.norm(self.voxel_to_patient[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    def to_patient(self, voxel: FloatArray) -> FloatArray:
        """(..., 3) voxel coordinates (slice, row, column) -> (..., 3) LPS mm."""
        return np.asarray(voxel, np.float64) @ self.voxel_to_patient[:3, :3].T + self.voxel_to_patient[:3, 3]

    def to_voxel(self, position_lps_mm: FloatArray) -> FloatArray:
        """(..., 3) LPS mm -> (..., 3) voxel coordinates (slice, row, column), not rounded."""
        inverse = np.linalg.inv(self.voxel_to_patient)
        voxel: FloatArray = np.asarray(position_lps_mm, np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        return voxel


def upright(volume: SagittalVolume) -> SagittalVolume:
    """The same voxels with rows running from head to foot and columns from anterior to posterior.

    Only flips and a transpose: no voxel value changes, slices keep their order, and ``to_patient`` of the
    result gives the same positions. Detection and disc cutting work in this frame.
    """
    voxels, affine = volume.voxels, volume.voxel_to_patient.copy()
    if abs(affine[2, 2]) > abs(affine[2, 1]):  # columns run along the body: exchange rows and columns
        voxels, affine = voxels.transpose(0, 2, 1), affine[:, [0, 2, 1, 3]]
    if affine[2, 1] > 0:  # rows run towards the head
        voxels, affine = voxels[:, ::-1, :], _flipped(affine, 1, voxels.shape[1])
    if affine[1, 2] < 0:  # columns run towards the front
        voxels, affine = voxels[:, :, ::-1], _flipped(affine, 2, voxels.shape[2])
    return replace(volume, voxels=np.ascontiguousarray(voxels), voxel_to_patient=affine)


def without_margins(volume: SagittalVolume) -> SagittalVolume:
    """The volume without the rows and columns at its edges that hold one and the same value on all slices.

    Scanners and converters fill images up to a square or a power of two. What is filled in says nothing of the
    patient, and must not move percentiles or hide where the image ends.
    """
    voxels = volume.voxels
    (top, bottom), (front, back) = (_filled(np.moveaxis(voxels, axis, 0)) for axis in (1, 2))
    if top + bottom + front + back == 0:
        return volume
    affine = volume.voxel_to_patient.copy()
    affine[:3, 3] += affine[:3, 1] * top + affine[:3, 2] * front
    kept = voxels[:, top : voxels.shape[1] - bottom, front : voxels.shape[2] - back]
    return replace(volume, voxels=np.ascontiguousarray(kept), voxel_to_patient=affine)


def _filled(lines: VoxelArray) -> tuple[int, int]:
    """How many of ``lines`` (n, ...) at either end hold nothing but that end's first value; none where all do."""

    def run(ordered: VoxelArray) -> int:
        value = ordered[0].flat[0]
        return next((count for count, line in enumerate(ordered) if not (line == value).all()), len(ordered))

    before, after = run(lines), run(lines[::-1])
    return (0, 0) if before == len(lines) else (before, after)


def _flipped(affine: FloatArray, axis: int, size: int) -> FloatArray:
    flipped = affine.copy()
    flipped[:3, 3] += affine[:3, axis] * (size - 1)
    flipped[:3, axis] *= -1
    return flipped


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscVolume:
    """One disc, cut out of a volume along its own axis: what grading sees. The network knows no level."""

    voxels: VoxelArray
    """(9, 112, 224) float32 in 0-1; vertebral bone about 0.25. Rows run head to foot across the disc, columns front
    to back along it; a slice that the volume does not have is 0."""
    slice_present: NDArray[np.bool_]
    """(9,) which slices are images; index 4 is the disc's mid-slice and always present."""
    patch_to_patient: FloatArray
    """4 x 4, maps (slice, row, column, 1) of ``voxels`` to LPS mm: where the disc was cut."""
    features: VoxelArray
    """(n,) float32, named by ``inference.descriptors.FEATURES``; NaN where one could not be taken."""
    zones: NDArray[np.uint8]
    """(112, 224) of ``inference.zones.Zone``: where on the mid-slice the disc's parts lie; 0 elsewhere."""
