"""Two sanity checks of evidence maps: do they matter to the score, and do they come from what was learned?

* Deletion and insertion (Petsiuk 2018, section 3.2): does the score of the class that was said fall faster when the
  map's strongest cells are blurred first than when random ones are, and does it rise faster when they are shown first?
* Cascading randomisation (Adebayo 2018, section 4): does the map change when the weights are, from the last layer down?
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr
from torch import nn

from inference import evidence
from inference.grades import Finding, is_abnormal
from inference.networks.family import GradingNetwork
from inference.networks.odds import LEARNED
from inference.report import Method
from inference.training.evidence_scores import BASELINE, SEED, Stack, centre_gaussian
from inference.volume import DiscVolume, FloatArray, VoxelArray

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the cells that are deleted or shown."""
BLUR_PX = 12.0
"""A deleted cell shows the image blurred by this sigma, about 4 mm: no edge and no structure of a disc is left, and
no edge is added."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveRow:
    """One map's curves beside the same disc's for random order: scores of the class said, before the sigmoid."""

    map: str
    finding: Finding
    patient: int
    deletion: FloatArray
    """(fractions,) score as the map's strongest cells go."""
    deletion_random: FloatArray
    insertion: FloatArray
    """(fractions,) score as the strongest cells come into the blurred image."""
    insertion_random: FloatArray


def curves(
    stack: Stack, maps: Mapping[Method, VoxelArray], grader: GradingNetwork, chance: np.random.Generator
) -> Iterator[CurveRow]:
    """Deletion and insertion curves of every disc and learned grading, for the methods and the centre Gaussian.

    The score is the network's; where its regions lie stays as it was found on the whole image. Random order is that of
    smoothed noise, of the maps' own grain: scattered single cells would tear the image.
    """
    for k, said in enumerate(stack.grades):
        along = _ScoresAlong(stack, k, grader)
        weights = _slice_shares(along.disc, grader)[:, None, None]
        noise = ndimage.uniform_filter(ndimage.uniform_filter(chance.random(along.shape), (0, 3, 3)), (0, 3, 3))
        of_random, of_gaussian = along.order(noise), along.order(weights * centre_gaussian())
        for i, finding in enumerate(LEARNED):
            sign = 1.0 if is_abnormal(finding, said[finding]) else -1.0
            by_map = {method.value: along.order(each[i, k]) for method, each in maps.items()} | {BASELINE: of_gaussian}
            for name, (gone, shown) in by_map.items():
                yield CurveRow(
                    map=name,
                    finding=finding,
                    patient=stack.patient,
                    deletion=sign * gone[:, i],
                    deletion_random=sign * of_random[0][:, i],
                    insertion=sign * shown[:, i],
                    insertion_random=sign * of_random[1][:, i],
                )


class _ScoresAlong:
    """What the grader says of one disc when cells are blurred, or shown, in some order."""

    def __init__(self, stack: Stack, index: int, grader: GradingNetwork) -> None:
        self.disc, self.grader = stack.disc_volumes[index], grader
        self.blurred = ndimage.gaussian_filter(self.disc.voxels, (0, BLUR_PX, BLUR_PX))
        slices, rows, columns = self.disc.voxels.shape
        self.shape = slices, rows // evidence.CELL_PX, columns // evidence.CELL_PX
        looked = np.zeros(self.shape, bool)
        looked[_slice_shares(self.disc, grader) > 0] = True
        self.looked = np.flatnonzero(looked)

    def order(self, cells: NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
        """(fractions, findings) scores with the strongest cells blurred, and with only them not blurred."""
        order = self.looked[np.argsort(-cells.ravel()[self.looked], kind="stable")]
        images = []
        for fraction in FRACTIONS:
            chosen = np.zeros(self.shape, np.float32)
            chosen.ravel()[order[: round(fraction * len(order))]] = 1
            first = np.kron(chosen, np.ones((1, evidence.CELL_PX, evidence.CELL_PX), np.float32))
            images.append(first * self.blurred + (1 - first) * self.disc.voxels)
            images.append(first * self.disc.voxels + (1 - first) * self.blurred)
        device, count = self.grader.device, len(images)
        with torch.inference_mode():
            scores = self.grader(
                torch.from_numpy(np.stack(images)).to(device),
                torch.from_numpy(self.disc.slice_present).to(device).expand(count, -1),
                torch.from_numpy(self.disc.zones).to(device).expand(count, -1, -1),
            )
        both = scores.double().cpu().numpy()
        return both[0::2], both[1::2]


def _slice_shares(disc: DiscVolume, grader: GradingNetwork) -> NDArray[np.float32]:
    """(9,) how much of the network's look each slice is given."""
    present = torch.from_numpy(disc.slice_present)[None].to(grader.device)
    shares: NDArray[np.float32] = grader.slice_shares(present)[0].cpu().numpy()
    return shares


def gains(row: CurveRow) -> tuple[float, float]:
    """How far below random order deletion lies, and how far above it insertion: means over the fractions, in score."""
    return (
        float((row.deletion_random - row.deletion).mean()),
        float((row.insertion - row.insertion_random).mean()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomisedRow:
    """How like its own map a map still is once the weights down to a layer are random."""

    map: str
    layer: str
    patient: int
    rank_correlation: float
    """Spearman's, mean over discs and gradings."""


def randomise(stack: Stack, maps: Mapping[Method, VoxelArray], grader: GradingNetwork) -> Iterator[RandomisedRow]:
    """Cascading randomisation: each step spoils one more layer; what is explained stays the class first said."""
    spoilt = copy.deepcopy(grader)
    with torch.random.fork_rng():
        torch.manual_seed(SEED + stack.patient)
        for layer, modules in spoilt.layers_from_the_top():
            for module in modules:
                _spoil(module)
            for method, before in maps.items():
                after = evidence.in_cells(stack.disc_volumes, spoilt, stack.grades, method)
                yield RandomisedRow(
                    map=method.value,
                    layer=layer,
                    patient=stack.patient,
                    rank_correlation=mean_rank_correlation(before, after),
                )


def _spoil(module: nn.Module) -> None:
    for each in module.modules():
        reset: Callable[[], None] | None = getattr(each, "reset_parameters", None)
        if reset is not None:
            reset()


def mean_rank_correlation(before: VoxelArray, after: VoxelArray) -> float:
    """Mean of Spearman's coefficient over maps, (findings, discs, 9, 28, 56) each, on the cells where either is not 0.

    Maps without a rank order (constant ones) are left out; NaN where none is left.
    """
    values = []
    for one, other in zip(before.reshape(-1, *before.shape[2:]), after.reshape(-1, *after.shape[2:]), strict=True):
        seen = (one > 0) | (other > 0)
        if seen.sum() > 2 and np.ptp(one[seen]) > 0 and np.ptp(other[seen]) > 0:
            values.append(float(spearmanr(one[seen], other[seen]).statistic))
    return float(np.mean(values)) if values else float("nan")
