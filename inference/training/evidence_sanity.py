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
from inference.networks.grader import LEARNED, DiscGrader
from inference.report import Method
from inference.training.evidence_scores import SEED, Stack
from inference.volume import DiscVolume, FloatArray, VoxelArray

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
"""Shares of the cells that are deleted or shown."""
BLUR_PX = 12.0
"""A deleted cell shows the image blurred by this sigma, about 4 mm: no edge and no structure of a disc is left, and
no edge is added."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveRow:
    """One map's curves beside the same disc's for random order."""

    map: str
    finding: Finding
    patient: int
    deletion: FloatArray
    """(fractions,) score of the class said, as the map's strongest cells go."""
    deletion_random: FloatArray
    insertion: FloatArray
    """(fractions,) score as the strongest cells come into the blurred image."""
    insertion_random: FloatArray


def curves(
    stack: Stack, maps: Mapping[Method, VoxelArray], grader: DiscGrader, chance: np.random.Generator
) -> Iterator[CurveRow]:
    """Deletion and insertion curves of every disc, learned grading and method. Scores are before the sigmoid."""
    for k, (disc, said) in enumerate(zip(stack.disc_volumes, stack.grades, strict=True)):
        shape = maps[Method.GRADIENT_SALIENCY].shape[2:]
        looked = np.flatnonzero(np.broadcast_to(_looked_at(disc, grader)[:, None, None], shape))
        random_scores = _scores_along(chance.permutation(looked), disc, grader)
        for i, finding in enumerate(LEARNED):
            sign = 1.0 if is_abnormal(finding, said[finding]) else -1.0
            gone_random, shown_random = (sign * curve[:, i] for curve in random_scores)
            for method, of_method in maps.items():
                order = looked[np.argsort(-of_method[i, k].ravel()[looked], kind="stable")]
                gone, shown = (sign * curve[:, i] for curve in _scores_along(order, disc, grader))
                yield CurveRow(
                    map=method.value,
                    finding=finding,
                    patient=stack.patient,
                    deletion=gone,
                    deletion_random=gone_random,
                    insertion=shown,
                    insertion_random=shown_random,
                )


def _looked_at(disc: DiscVolume, grader: DiscGrader) -> NDArray[np.bool_]:
    present = torch.from_numpy(disc.slice_present)[None].to(grader.feature_mean.device)
    looked = np.zeros(len(disc.slice_present), bool)
    looked[grader.looked_at(present)[1].cpu().numpy()] = True
    return looked


def _scores_along(order: NDArray[np.intp], disc: DiscVolume, grader: DiscGrader) -> tuple[FloatArray, FloatArray]:
    """(fractions, findings) scores with the first cells of ``order`` blurred, and with only them not blurred."""
    blurred = ndimage.gaussian_filter(disc.voxels, (0, BLUR_PX, BLUR_PX))
    shape = (disc.voxels.shape[0], *(n // evidence.CELL_PX for n in disc.voxels.shape[1:]))
    images = []
    for fraction in FRACTIONS:
        cells = np.zeros(shape, np.float32)
        cells.ravel()[order[: round(fraction * len(order))]] = 1
        first = np.kron(cells, np.ones((1, evidence.CELL_PX, evidence.CELL_PX), np.float32))
        images += [first * blurred + (1 - first) * disc.voxels, first * disc.voxels + (1 - first) * blurred]
    device, count = grader.feature_mean.device, len(images)
    with torch.inference_mode():
        scores = grader(
            torch.from_numpy(np.stack(images)).to(device),
            torch.from_numpy(disc.slice_present).to(device).expand(count, -1),
            torch.from_numpy(disc.features).to(device).expand(count, -1),
        )
    both = scores.double().cpu().numpy()
    return both[0::2], both[1::2]


def gain(row: CurveRow) -> tuple[float, float]:
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


def randomise(stack: Stack, maps: Mapping[Method, VoxelArray], grader: DiscGrader) -> Iterator[RandomisedRow]:
    """Cascading randomisation: each step spoils one more layer; what is explained stays the class first said."""
    spoilt = copy.deepcopy(grader)
    with torch.random.fork_rng():
        torch.manual_seed(SEED + stack.patient)
        for layer, modules in _from_the_top(spoilt):
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


def _from_the_top(grader: DiscGrader) -> tuple[tuple[str, tuple[nn.Module, ...]], ...]:
    branches = (grader.whole, *grader.endplates, *grader.marrow)
    return (
        ("last layers", grader.last_layers),
        ("branches", tuple(branch.mix for branch in branches)),
        *((f"trunk block {i + 2}", (block,)) for i, block in reversed(list(enumerate(grader.far)))),
        ("trunk block 1", (grader.near[4],)),
        ("first layer", (grader.near[1], grader.near[2])),
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
