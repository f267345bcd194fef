"""What the localiser says of each pixel, as planes measured in millimetres. No network, no anatomy.

Plane coordinates are (row, column) in mm from the centre of the first pixel; rows run head to foot, columns front
to back (the frame of ``volume.upright``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.volume import FloatArray, SagittalVolume, VoxelArray


class Tissue(IntEnum):
    """What is marked: the localiser's output channels, in order."""

    DISC = 0
    VERTEBRA = 1
    """Bodies and posterior elements down to L5, without the sacrum, as SPIDER's masks have it."""
    CANAL = 2
    SACRUM = 3
    """The body of S1: what lies beneath L5/S1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """The marks on one sagittal plane."""

    probabilities: VoxelArray
    """(4, rows, columns) 0-1, by ``Tissue``."""
    pixel_mm: FloatArray
    """(2,) height and width of a pixel."""

    @property
    def size_mm(self) -> FloatArray:
        """(2,) largest coordinate that is still inside."""
        return (np.array(self.probabilities.shape[1:]) - 1) * self.pixel_mm

    def sample(self, tissue: Tissue, points_mm: FloatArray) -> FloatArray:
        """(..., 2) points -> (...) probability, bilinear, 0 outside."""
        points = np.moveaxis(np.asarray(points_mm, np.float64) / self.pixel_mm, -1, 0)
        values: FloatArray = ndimage.map_coordinates(
            self.probabilities[tissue], points, order=1, mode="constant", cval=0.0, output=np.float64
        )
        return values

    def lifted(self, tissue: Tissue, share: float) -> Plane:
        """The plane with one tissue's probabilities divided by ``share`` (at most 1)."""
        probabilities = self.probabilities.copy()
        probabilities[tissue] = np.clip(probabilities[tissue] / share, 0, 1)
        return Plane(probabilities=probabilities, pixel_mm=self.pixel_mm)

    def inside(self, points_mm: FloatArray) -> NDArray[np.bool_]:
        """(..., 2) points -> (...) whether the image reaches there."""
        within: NDArray[np.bool_] = np.all((points_mm >= 0) & (points_mm <= self.size_mm), axis=-1)
        return within


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """The marks on the slices of a volume that were looked at."""

    probabilities: VoxelArray
    """(slices, 4, rows, columns) 0-1."""
    slice_indices: tuple[int, ...]
    """Which slices of the volume these are, ascending."""
    pixel_mm: FloatArray
    """(2,)"""
    voxels_per_pixel: FloatArray
    """(2,) rows and columns of the volume per row and column of the marks."""

    def plane(self, place: int) -> Plane:
        """The marks on the ``place``-th of the slices that were looked at."""
        return Plane(probabilities=self.probabilities[place], pixel_mm=self.pixel_mm)

    def blended(self, place_of_row: FloatArray, reach: float) -> Plane:
        """One plane that follows the spine: each row is the mean over the slices about ``place_of_row``.

        Arguments:
            place_of_row: (rows,) place among the slices looked at, not rounded.
            reach: half-width in slices; neighbours weigh 1 at the middle and 0 at ``reach`` + 1.
        """
        places = np.arange(len(self.probabilities))
        weight = np.clip(1 - np.abs(places[:, None] - place_of_row[None]) / (reach + 1), 0, None)
        weight = (weight / weight.sum(axis=0)).astype(np.float32)
        mixed = np.einsum("sr,sthr->thr", weight, self.probabilities.transpose(0, 1, 3, 2), optimize=True)
        return Plane(probabilities=np.ascontiguousarray(mixed.transpose(0, 2, 1)), pixel_mm=self.pixel_mm)

    def to_patient(self, upright_volume: SagittalVolume, slice_index: int, points_mm: FloatArray) -> FloatArray:
        """(n, 2) plane mm on one slice -> (n, 3) LPS mm."""
        pixels = np.asarray(points_mm) / self.pixel_mm
        inside = (pixels + 0.5) * self.voxels_per_pixel - 0.5  # pixel edges, not centres, coincide
        return upright_volume.to_patient(np.column_stack((np.full(len(inside), float(slice_index)), inside)))
