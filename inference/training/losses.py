"""What turns what is said of discs, and their labels, into a loss: class-balanced, missing labels left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from inference.grades import Finding
from inference.networks import odds
from inference.networks.odds import LogOdds
from inference.training.gradings import MARROW_TARGET, TARGETS, UNKNOWN, GradedDiscs, class_weights
from inference.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighted:
    """Class weights per target, and the smoothing of labels."""

    weights: Mapping[str, Tensor]
    smoothing: float

    def loss(self, beyond: LogOdds, labels: Tensor) -> Tensor:
        """Mean over the targets of the class-balanced log-loss; discs without the label are left out.

        Marrow: a disc is positive if either side is (noisy or), since SPIDER has one Modic label per disc.
        """
        return self.share_of_loss(beyond, labels, (labels != UNKNOWN).sum(0))

    def share_of_loss(self, beyond: LogOdds, labels: Tensor, counts: Tensor) -> Tensor:
        """The discs' part in the loss of a larger batch in which ``counts`` (targets,) discs have each label."""
        probabilities = odds.probabilities(beyond)
        taught = [i for i in range(len(TARGETS)) if counts[i] > 0]
        losses = []
        for i in taught:
            known = labels[:, i] != UNKNOWN
            shares = shares_of(probabilities, TARGETS[i])
            truth = (labels[:, i] - least(TARGETS[i])).clamp_min(0)
            shares = (1 - self.smoothing) * shares + self.smoothing / shares.shape[1]
            weight = self.weights[TARGETS[i]].to(shares)[truth] * known
            each = functional.nll_loss(shares.clamp_min(1e-6).log(), truth, reduction="none")
            losses.append((each * weight).sum() / counts[i])
        return torch.stack(losses).mean()


def weighted(discs: GradedDiscs, rows: NDArray[np.int64], recipe: Recipe, smoothing: float) -> Weighted:
    """The loss for the given discs."""
    return Weighted(
        weights={
            target: torch.from_numpy(class_weights(discs.labels[rows, i], classes_of(target), recipe.heaviest_class))
            for i, target in enumerate(TARGETS)
        },
        smoothing=smoothing,
    )


def shares_of(probabilities: Mapping[Finding, Tensor], target: str) -> Tensor:
    """(n, classes) of a target; of marrow change: neither side, or at least one."""
    if target != MARROW_TARGET:
        return probabilities[Finding(target)]
    neither = probabilities[Finding.UPPER_MARROW_CHANGE][:, 0] * probabilities[Finding.LOWER_MARROW_CHANGE][:, 0]
    return torch.stack([neither, 1 - neither], 1)


def classes_of(target: str) -> tuple[int, ...]:
    """The values of a target, mildest first: what the labels say, which for narrowing is yes or no."""
    return (1, 2, 3, 4, 5) if target == Finding.PFIRRMANN.value else (0, 1)


def least(target: str) -> int:
    """The mildest value of a target."""
    return classes_of(target)[0]
