"""Where in the source images a grade comes from: gradient saliency, the first of SpineNet's three methods.

Simonyan, Vedaldi, Zisserman 2014 ("Deep Inside Convolutional Networks", section 3): the magnitude of the derivative
of the class score by each pixel. For a binary finding the two classes' scores differ only by sign, for Pfirrmann the
classes lie along one severity score; so the score's gradient serves whichever class was said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from inference.grades import Basis, Finding, Grades
from inference.networks.grader import LEARNED, DiscGrader
from inference.report import EvidenceMap, Method
from inference.volume import DiscVolume, SagittalVolume, VoxelArray

IntArray = NDArray[np.int64]

CELL_PX = 4
"""Gradients are averaged over cells of 4 x 4 pixels, then twice over 3 x 3 cells: about 4 mm in all. The gradient of a
strided convolution alternates from pixel to pixel; only its local mean says where the network looked."""


def explain(
    volume: SagittalVolume, disc_volumes: Sequence[DiscVolume], grader: DiscGrader, grades: Sequence[Grades]
) -> tuple[tuple[EvidenceMap, ...], ...]:
    """Per disc one map for each of its learned grades, on the voxel grid of ``volume``, in the order of ``LEARNED``.

    A measured grade has no map: its evidence is the measurement. A map without any gradient is left out.
    """
    if not disc_volumes:
        return ()
    maps = _saliency(disc_volumes, grader)
    return tuple(
        tuple(
            found
            for i, finding in enumerate(LEARNED)
            if finding in said
            and said[finding].basis is Basis.LEARNED
            and (found := _on_source_grid(volume, disc, maps[i][k], finding)) is not None
        )
        for k, (disc, said) in enumerate(zip(disc_volumes, grades, strict=True))
    )


def _saliency(disc_volumes: Sequence[DiscVolume], grader: DiscGrader) -> list[VoxelArray]:
    """Per finding of ``LEARNED`` (discs, 9, 28, 56): |d score / d pixel| in cells. One forward, one backward each."""
    device = grader.feature_mean.device
    images = torch.from_numpy(np.stack([disc.voxels for disc in disc_volumes])).to(device).requires_grad_()
    present = torch.from_numpy(np.stack([disc.slice_present for disc in disc_volumes])).to(device)
    features = torch.from_numpy(np.stack([disc.features for disc in disc_volumes])).to(device)
    with torch.enable_grad():
        totals = grader(images, present, features).sum(0)  # discs do not see each other: a sum keeps their gradients
        maps = []
        for i in range(len(LEARNED)):
            (gradient,) = torch.autograd.grad(totals[i], images, retain_graph=i + 1 < len(LEARNED))
            maps.append(_smoothed(gradient).cpu().numpy())
    return maps


def _smoothed(gradient: Tensor) -> Tensor:
    smooth = functional.avg_pool2d(gradient.abs(), CELL_PX)
    for _ in range(2):
        smooth = functional.avg_pool2d(smooth, 3, 1, 1, count_include_pad=False)
    return smooth


def _on_source_grid(
    volume: SagittalVolume, disc: DiscVolume, cells: VoxelArray, finding: Finding
) -> EvidenceMap | None:
    first, last = _box(volume, disc, cells)
    if (last < first).any():
        return None
    to_cells = _CELL_OF_PIXEL @ np.linalg.inv(disc.patch_to_patient) @ volume.voxel_to_patient
    start = to_cells[:3, :3] @ first + to_cells[:3, 3]
    values = ndimage.affine_transform(
        cells, to_cells[:3, :3], start, tuple(last - first + 1), order=1, mode="constant", prefilter=False
    )
    largest = float(values.max())
    if largest <= 0:
        return None
    return EvidenceMap(
        finding=finding,
        method=Method.GRADIENT_SALIENCY,
        first_voxel=(int(first[0]), int(first[1]), int(first[2])),
        values=(values / largest).astype(np.float32),
    )


_CELL_OF_PIXEL = np.array(
    [[1, 0, 0, 0], [0, 1 / CELL_PX, 0, 0.5 / CELL_PX - 0.5], [0, 0, 1 / CELL_PX, 0.5 / CELL_PX - 0.5], [0, 0, 0, 1]]
)
"""(slice, row, column, 1) of a patch -> of its cells, whose centres lie between pixels."""


def _box(volume: SagittalVolume, disc: DiscVolume, cells: VoxelArray) -> tuple[IntArray, IntArray]:
    """First and last voxel of the source grid that the patch's looked-at slices cover, clipped to the volume."""
    slices = np.flatnonzero(cells.any(axis=(1, 2)))
    if slices.size == 0:
        return np.ones(3, int), np.zeros(3, int)
    edges = (slices[[0, -1]], (0, disc.voxels.shape[1] - 1), (0, disc.voxels.shape[2] - 1))
    corners = np.stack([*np.meshgrid(*edges), np.ones((2, 2, 2))], axis=-1).reshape(-1, 4)
    voxels = volume.to_voxel((corners @ disc.patch_to_patient.T)[:, :3])
    first = np.maximum(np.ceil(voxels.min(axis=0) - 1e-6), 0).astype(int)
    last = np.minimum(np.floor(voxels.max(axis=0) + 1e-6), np.array(volume.voxels.shape) - 1).astype(int)
    return first, last
