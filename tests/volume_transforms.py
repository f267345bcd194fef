"""The same patient stored in another way: for tests that what is found does not depend on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from inference.volume import FloatArray, SagittalVolume, SliceSource


def turned_round(volume: SagittalVolume, axis: int) -> SagittalVolume:
    """Slices (0), rows (1) or columns (2) stored in reverse; nothing moves in the patient."""
    affine = volume.voxel_to_patient.copy()
    affine[:3, 3] += affine[:3, axis] * (volume.voxels.shape[axis] - 1)
    affine[:3, axis] *= -1
    sources = volume.sources[::-1] if axis == 0 else volume.sources
    voxels = np.ascontiguousarray(np.flip(volume.voxels, axis))
    return replace(volume, voxels=voxels, voxel_to_patient=affine, sources=sources)


def rows_for_columns(volume: SagittalVolume) -> SagittalVolume:
    """Rows and columns exchanged, as where frequency and phase encoding are; nothing moves in the patient."""
    affine = volume.voxel_to_patient[:, [0, 2, 1, 3]]
    return replace(volume, voxels=np.ascontiguousarray(volume.voxels.transpose(0, 2, 1)), voxel_to_patient=affine)


def rotation(axis: int, degrees: float) -> FloatArray:
    """4 x 4 about one of the patient's axes."""
    first, second = [other for other in range(3) if other != axis]
    matrix, angle = np.eye(4), np.deg2rad(degrees)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def moved(volume: SagittalVolume, movement: FloatArray) -> SagittalVolume:
    """The patient lies otherwise in the scanner, and the slices with him. ``movement`` 4 x 4 in LPS mm."""
    return replace(volume, voxel_to_patient=movement @ volume.voxel_to_patient)


def padded(volume: SagittalVolume, margins: tuple[int, int, int, int], value: float = 0.0) -> SagittalVolume:
    """Filled up with so many rows and columns of one value (first and last row, first and last column)."""
    top, bottom, front, back = margins
    affine = volume.voxel_to_patient.copy()
    affine[:3, 3] -= affine[:3, 1] * top + affine[:3, 2] * front
    around = ((0, 0), (top, bottom), (front, back))
    voxels = np.pad(volume.voxels, around, constant_values=np.float32(value))
    return replace(volume, voxels=voxels, voxel_to_patient=affine)


def resampled(volume: SagittalVolume, rows: float, columns: float) -> SagittalVolume:
    """So many times as many rows and columns over the same field of view, anti-aliased; pixels need not be square."""
    blur = [max(0.0, (1 / factor - 1) / 2) for factor in (rows, columns)]
    smooth = ndimage.gaussian_filter(volume.voxels, (0, *blur))
    voxels = ndimage.zoom(smooth, (1, rows, columns), order=1, grid_mode=True, mode="nearest").astype(np.float32)
    affine = volume.voxel_to_patient.copy()
    for axis in (1, 2):
        step = volume.voxels.shape[axis] / voxels.shape[axis]
        affine[:3, 3] += affine[:3, axis] * (step - 1) / 2
        affine[:3, axis] *= step
    return replace(volume, voxels=voxels, voxel_to_patient=affine)


def regrey(volume: SagittalVolume, factor: float, offset: float = 0.0) -> SagittalVolume:
    """Another vendor's grey scale."""
    return replace(volume, voxels=(volume.voxels * factor + offset).astype(np.float32))


def thick(volume: SagittalVolume, slices: int) -> SagittalVolume:
    """Neighbouring slices averaged, as a clinical series of thick slices shows them."""
    count = len(volume.voxels) // slices
    voxels = volume.voxels[: count * slices].reshape(count, slices, *volume.voxels.shape[1:]).mean(axis=1)
    affine = volume.voxel_to_patient.copy()
    affine[:3, 3] += affine[:3, 0] * (slices - 1) / 2
    affine[:3, 0] *= slices
    sources = tuple(SliceSource(sop_instance_uid=f"1.{k}", frame=1) for k in range(count))
    return replace(volume, voxels=voxels.astype(np.float32), voxel_to_patient=affine, sources=sources)


def same_place(points_lps_mm: FloatArray, movement: FloatArray) -> FloatArray:
    """(n, 3) LPS mm of the moved patient -> where that was before ``movement``."""
    back = np.linalg.inv(movement)
    return np.asarray(points_lps_mm) @ back[:3, :3].T + back[:3, 3]
