"""Where in the source images a grade comes from, by each of SpineNet's three visualisation methods.

What is explained is the score of the class that was said. For two classes their scores differ only by sign; Pfirrmann's
classes lie along one severity score. So an abnormal grade is explained by its finding's score and a normal one by the
score's negative; the plain gradient's magnitude is the same for both. ``docs/evidence.md`` compares the methods.

A grade has two sources: the network, which sees the image alone and is what is explained here, and the regression on
measured numbers, whose terms can be read as they are (``FeatureRegression.terms``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from inference.attribution import excitation, gradients
from inference.grades import Basis, Finding, Grades, is_abnormal
from inference.networks.family import GradingNetwork
from inference.report import EvidenceMap, Method
from inference.volume import DiscVolume, SagittalVolume, VoxelArray

IntArray = NDArray[np.int64]

DEFAULT_METHOD = Method.CONTRASTIVE_EXCITATION
"""The best by the table of ``docs/evidence.md``."""
CELL_PX = 4
"""Maps are kept in cells of 4 x 4 pixels and smoothed twice over 3 x 3 cells: about 4 mm in all. The gradient of a
strided convolution alternates from pixel to pixel; only its local mean says where the network looked."""


def explain(
    volume: SagittalVolume,
    disc_volumes: Sequence[DiscVolume],
    grader: GradingNetwork,
    grades: Sequence[Grades],
    method: Method = DEFAULT_METHOD,
) -> tuple[tuple[EvidenceMap, ...], ...]:
    """Per disc one map for each of its learned grades, on the voxel grid of ``volume``, as ``grader.findings``.

    A measured grade has no map: its evidence is the measurement. A map that is 0 everywhere is left out.
    """
    if not disc_volumes:
        return ()
    maps = in_cells(disc_volumes, grader, grades, method)
    return tuple(
        tuple(
            EvidenceMap(finding=finding, method=method, first_voxel=placed[0], values=placed[1])
            for i, finding in enumerate(grader.findings)
            if finding in said
            and said[finding].basis is Basis.LEARNED
            and (placed := _on_source_grid(volume, disc, maps[i, k])) is not None
        )
        for k, (disc, said) in enumerate(zip(disc_volumes, grades, strict=True))
    )


def in_cells(
    disc_volumes: Sequence[DiscVolume], grader: GradingNetwork, grades: Sequence[Grades], method: Method
) -> VoxelArray:
    """(findings, discs, 9, 28, 56) float32, not negative: the maps before they are put into the source images.

    A cell is the mean over ``CELL_PX`` x ``CELL_PX`` pixels of the patch. All discs run together, on the network's
    device; after running out of memory half as many at a time.
    """
    size = len(disc_volumes)
    while True:
        try:
            parts = [
                _METHODS[method](_batch(disc_volumes[i : i + size], grader, grades[i : i + size]), grader).cpu()
                for i in range(0, len(disc_volumes), size)
            ]
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = (size + 1) // 2
        else:
            maps: VoxelArray = torch.cat(parts, 1).numpy()
            return maps


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    images: Tensor
    present: Tensor
    zones: Tensor
    signs: Tensor
    """(findings, discs): 1 where the finding's score is explained, -1 where its negative is."""


def _batch(disc_volumes: Sequence[DiscVolume], grader: GradingNetwork, grades: Sequence[Grades]) -> _Batch:
    device = grader.device
    return _Batch(
        images=torch.from_numpy(np.stack([disc.voxels for disc in disc_volumes])).to(device),
        present=torch.from_numpy(np.stack([disc.slice_present for disc in disc_volumes])).to(device),
        zones=torch.from_numpy(np.stack([disc.zones for disc in disc_volumes])).to(device),
        signs=torch.tensor([[_sign(said, finding) for said in grades] for finding in grader.findings], device=device),
    )


def _sign(said: Grades, finding: Finding) -> float:
    return 1.0 if finding not in said or is_abnormal(finding, said[finding]) else -1.0


def _saliency(batch: _Batch, grader: GradingNetwork) -> Tensor:
    return gradients.saliency(grader, (batch.images,), (batch.present, batch.zones), _condensed)[0]


def _guided(batch: _Batch, grader: GradingNetwork) -> Tensor:
    return gradients.guided(grader, (batch.images,), (batch.present, batch.zones), batch.signs, _condensed)[0]


def _condensed(of_pixels: Tensor) -> Tensor:
    return _smoothed(functional.avg_pool2d(of_pixels, CELL_PX))


def _excitation(batch: _Batch, grader: GradingNetwork) -> Tensor:
    return _winning(batch, grader, lambda own, dual: own)


def _contrastive(batch: _Batch, grader: GradingNetwork) -> Tensor:
    return _winning(batch, grader, excitation.contrasted)


def _gradient_in_excitation(batch: _Batch, grader: GradingNetwork) -> Tensor:
    gradient = _saliency(batch, grader)
    return _contrastive(batch, grader) * gradient / gradient.amax((2, 3, 4), keepdim=True).clamp_min(1e-30)


def _winning(batch: _Batch, grader: GradingNetwork, combined: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Winning probabilities of the maps that a finding is judged from, summed over channels.

    Not of an earlier one: what speaks for a degenerated disc is dark, and a dark place excites nothing in first maps.
    """
    recorded = excitation.record(grader, (batch.images, batch.present, batch.zones), grader.last_layers)
    maps_read = list(dict.fromkeys(module for finding in grader.findings for module in grader.maps_of(finding)))
    for_it, against = (excitation.excite(recorded, maps_read, negated=negated) for negated in (False, True))
    maps = []
    for i, (finding, signs) in enumerate(zip(grader.findings, batch.signs, strict=True)):
        places = [maps_read.index(module) for module in grader.maps_of(finding)]
        positive, negative = (
            torch.stack([_in_places(won.sum(1), batch, grader) for won in asked.winning(i, places)]).sum(0)
            for asked in (for_it, against)
        )
        is_score = (signs > 0)[:, None, None, None]
        own, dual = torch.where(is_score, positive, negative), torch.where(is_score, negative, positive)
        maps.append(_smoothed(combined(own, dual)))
    return torch.stack(maps)


def _in_places(of_map: Tensor, batch: _Batch, grader: GradingNetwork) -> Tensor:
    """A map as the network lays it out -> (discs, 9, 28, 56) with the same sum, interpolated."""
    cells = grader.spread(of_map, batch.present)
    rows, columns = (side // CELL_PX for side in batch.images.shape[2:])
    finer = functional.interpolate(cells, (rows, columns), mode="bilinear")
    return finer * (cells.shape[2] * cells.shape[3] / (rows * columns))


_METHODS: Mapping[Method, Callable[[_Batch, GradingNetwork], Tensor]] = {
    Method.GRADIENT_SALIENCY: _saliency,
    Method.GUIDED_BACKPROPAGATION: _guided,
    Method.EXCITATION_BACKPROPAGATION: _excitation,
    Method.CONTRASTIVE_EXCITATION: _contrastive,
    Method.GRADIENT_IN_EXCITATION: _gradient_in_excitation,
}


def _smoothed(cells: Tensor) -> Tensor:
    for _ in range(2):
        cells = functional.avg_pool2d(cells, 3, 1, 1, count_include_pad=False)
    return cells


def _on_source_grid(
    volume: SagittalVolume, disc: DiscVolume, cells: VoxelArray
) -> tuple[tuple[int, int, int], VoxelArray] | None:
    """First voxel and values, scaled to a maximum of 1; None where there is nothing but 0."""
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
    return (int(first[0]), int(first[1]), int(first[2])), (values / largest).astype(np.float32)


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
