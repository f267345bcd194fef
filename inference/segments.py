"""What each voxel of the volume belongs to: which disc, which vertebral body, the spinal canal.

The localiser marks tissues on every slice, the chain of discs lies on one; here each mark is given to the disc or body
that it lies nearest to, on all slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.anatomy import Canal, Disc, Spine
from inference.marks import Marks, Tissue
from inference.report import Segments, Structure
from inference.volume import FloatArray, SagittalVolume, VoxelArray

SURE = 0.5
"""Marks below this probability belong to nothing."""
BEYOND_DISC_MM = 8.0
"""How far in front of its ends, behind them, above or below its axis a disc may reach: it bulges, and is not flat."""
BEYOND_BODY_MM = 4.0
"""The same for a body, front and back: what is marked as vertebra behind that are its posterior elements."""
SMALL_SHARE = 0.1
"""A part smaller than this share of its structure is a stray mark."""


def segment(volume: SagittalVolume, seen: SagittalVolume, marks: Marks, spine: Spine) -> Segments:
    """Labels on the volume's own grid.

    Arguments:
        volume: what is to be labelled.
        seen: the same voxels as detection saw them, flipped, turned or without margins.
        marks: of ``seen``.
        spine: what lies in it.
    """
    owners = _owners(seen, marks, spine)
    window = _window(seen, marks)
    labels = np.zeros(seen.voxels.shape, np.uint8)
    for index in range(len(labels)):
        labels[index][window.rows, window.columns] = _labelled_slice(marks, owners, window, index)
    structures: list[Structure] = [disc.level for disc in spine.discs]
    structures += [body.level for body in spine.bodies]
    return _present(_laid_back(labels, seen, volume), [*structures, Canal.SPINAL_CANAL])


class _Owners(NamedTuple):
    """(rows, columns) on the grid of the marks: which label a mark of each tissue gets there; 0 = none."""

    disc: NDArray[np.uint8]
    bone: NDArray[np.uint8]
    canal: int


def _owners(seen: SagittalVolume, marks: Marks, spine: Spine) -> _Owners:
    shape = marks.probabilities.shape[2:]
    points = np.moveaxis(np.indices(shape), 0, -1) * marks.pixel_mm  # (rows, columns, 2) in mm
    discs = [_about_axis(points, _in_plane(seen, marks, _axis_of(disc))) for disc in spine.discs]
    bodies = [_about_body(points, _in_plane(seen, marks, body.corners_lps_mm)) for body in spine.bodies]
    return _Owners(
        disc=_nearest(discs, BEYOND_DISC_MM, shape, first=1),
        bone=_nearest(bodies, np.inf, shape, first=1 + len(discs)),
        canal=1 + len(discs) + len(bodies),
    )


def _axis_of(disc: Disc) -> FloatArray:
    """Front end, centre, back end: a disc's mid-line is bent."""
    return np.stack((disc.anterior_lps_mm, disc.center_lps_mm, disc.posterior_lps_mm))


def _in_plane(seen: SagittalVolume, marks: Marks, lps_mm: FloatArray) -> FloatArray:
    """(n, 3) LPS -> (n, 2) row and column in mm on the plane of the marks."""
    voxel = seen.to_voxel(lps_mm)[:, 1:]
    plane_mm: FloatArray = ((voxel + 0.5) / marks.voxels_per_pixel - 0.5) * marks.pixel_mm
    return plane_mm


def _about_axis(points: FloatArray, line: FloatArray) -> FloatArray:
    """Distance of each point from a line of several pieces, mm."""
    distances = []
    for start, end in pairwise(line):
        along = end - start
        share = np.clip((points - start) @ along / max(float(along @ along), 1e-9), 0, 1)
        distances.append(np.linalg.norm(points - start - share[..., None] * along, axis=-1))
    nearest: FloatArray = np.minimum.reduce(distances)
    return nearest


def _about_body(points: FloatArray, corners: FloatArray) -> FloatArray:
    """Distance from a body's middle along the spine; infinite in front of it and behind it."""
    center = corners.mean(axis=0)
    back = (corners[1] + corners[2] - corners[0] - corners[3]) / 2
    depth = max(float(np.linalg.norm(back)), 1e-9)
    back = back / depth
    away = points - center
    outside = np.abs(away @ back) > depth / 2 + BEYOND_BODY_MM
    distance: FloatArray = np.where(outside, np.inf, np.abs(away @ np.array([back[1], -back[0]])))
    return distance


def _nearest(
    distances: Sequence[FloatArray], limit_mm: float, shape: tuple[int, ...], *, first: int
) -> NDArray[np.uint8]:
    if not distances:
        return np.zeros(shape, np.uint8)
    stacked = np.stack(distances)
    best = np.argmin(stacked, axis=0)
    near = np.min(stacked, axis=0)
    return np.where(np.isfinite(near) & (near <= limit_mm), best + first, 0).astype(np.uint8)


class _Between(NamedTuple):
    """Where the voxels of one axis lie between the marks' pixels."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    share: VoxelArray
    """How far towards the upper one, 0-1."""

    @property
    def nearest(self) -> NDArray[np.intp]:
        return np.where(self.share < 0.5, self.lower, self.upper)

    def mixed(self, marks: VoxelArray, axis: int) -> VoxelArray:
        share = np.expand_dims(self.share, tuple(range(1, marks.ndim - axis)))
        low = marks.take(self.lower, axis)
        value: VoxelArray = low + share * (marks.take(self.upper, axis) - low)
        return value


class _Window(NamedTuple):
    """The part of a slice where anything is marked on any slice, and what interpolates the marks there."""

    rows: slice
    columns: slice
    down: _Between
    across: _Between


def _window(seen: SagittalVolume, marks: Marks) -> _Window:
    marked = np.max(marks.probabilities, axis=(0, 1)) > SURE
    size, scale = seen.voxels.shape[1:], marks.voxels_per_pixel
    rows = _stretch(marked.any(axis=1), size[0], float(scale[0]))
    columns = _stretch(marked.any(axis=0), size[1], float(scale[1]))
    return _Window(
        rows=rows,
        columns=columns,
        down=_between(rows, marked.shape[0], float(scale[0])),
        across=_between(columns, marked.shape[1], float(scale[1])),
    )


def _stretch(marked: NDArray[np.bool_], count: int, scale: float) -> slice:
    """From the first to the last that is marked, and a pixel of the marks about them, in voxels."""
    places = np.flatnonzero(marked)
    first, last = (int(places[0]), int(places[-1])) if len(places) else (0, 0)
    return slice(max(int((first - 1) * scale), 0), min(int((last + 2) * scale) + 1, count))


def _labelled_slice(marks: Marks, owners: _Owners, window: _Window, index: int) -> NDArray[np.uint8]:
    """The labels of one slice in the window; a slice that was not looked at lies between two that were."""
    mixed = _on_slice(marks, index)
    bone = np.maximum(mixed[Tissue.VERTEBRA], mixed[Tissue.SACRUM])
    small = np.stack((mixed[Tissue.DISC], bone, mixed[Tissue.CANAL]))
    large = window.across.mixed(window.down.mixed(small, 1), 2)
    nearest = np.ix_(window.down.nearest, window.across.nearest)
    disc, bone_of = owners.disc[nearest], owners.bone[nearest]
    labels = np.choose(large.argmax(axis=0), (disc, bone_of, np.full_like(disc, owners.canal)))
    return np.where(large.max(axis=0) > SURE, labels, 0).astype(np.uint8)


def _on_slice(marks: Marks, index: int) -> VoxelArray:
    """(4, rows, columns) marks of a slice of the volume, linear between those that were looked at."""
    place = float(np.interp(index, marks.slice_indices, np.arange(len(marks.slice_indices))))
    lower = int(place)
    share = np.float32(place - lower)
    upper = min(lower + 1, len(marks.slice_indices) - 1)
    mixed: VoxelArray = (1 - share) * marks.probabilities[lower] + share * marks.probabilities[upper]
    return mixed


def _between(voxels: slice, marked: int, voxels_per_pixel: float) -> _Between:
    """Voxels of one axis among ``marked`` pixels of marks; pixel edges, not centres, coincide."""
    at = np.clip((np.arange(voxels.start, voxels.stop) + 0.5) / voxels_per_pixel - 0.5, 0, marked - 1)
    lower = at.astype(np.intp)
    return _Between(lower=lower, upper=np.minimum(lower + 1, marked - 1), share=(at - lower).astype(np.float32))


def _laid_back(labels: NDArray[np.uint8], seen: SagittalVolume, volume: SagittalVolume) -> NDArray[np.uint8]:
    """Labels of ``seen`` where its voxels lie in the volume; nothing on margins that it left out."""
    step = np.rint(np.linalg.inv(volume.voxel_to_patient) @ seen.voxel_to_patient).astype(int)
    rows, columns = labels.shape[1:]
    corners = step @ np.array([[0, 0, 0, 1], [0, rows - 1, columns - 1, 1]]).T
    first = corners[1:3].min(axis=1)
    turned = labels.transpose(0, 2, 1) if step[1, 2] else labels
    for axis in (1, 2):
        if step[axis, 1:3].sum() < 0:
            turned = np.flip(turned, axis)
    whole = np.zeros(volume.voxels.shape, np.uint8)
    whole[:, first[0] : first[0] + turned.shape[1], first[1] : first[1] + turned.shape[2]] = turned
    return whole


def _present(labels: NDArray[np.uint8], structures: Sequence[Structure]) -> Segments:
    """Without stray marks and without structures of which nothing is left; labels count up from 1."""
    kept = np.zeros_like(labels)
    found: list[Structure] = []
    for number, box in enumerate(ndimage.find_objects(labels, max_label=len(structures)), start=1):
        if box is None:
            continue
        parts, _ = ndimage.label(labels[box] == number)
        sizes = np.bincount(parts.ravel())[1:]
        large = np.flatnonzero(sizes >= SMALL_SHARE * sizes.max()) + 1
        found.append(structures[number - 1])
        kept[box][np.isin(parts, large)] = len(found)
    return Segments(labels=kept, structures=tuple(found))
