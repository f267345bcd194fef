"""What turns what is said of discs, and their labels, into a loss: class-balanced, missing labels left out.

Labels are one reader's. Three ways to believe them less, all off unless the recipe says so: a target that is in part
the network's own opinion (bootstrapping, Reed et al. 2015), a loss that a wrong label cannot drive as far as the
logarithm does (generalised cross entropy, Zhang and Sabuncu 2018), and a share of Pfirrmann's target on the grades next
to the label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
    """Class weights per target, and how far a label is believed."""

    weights: Mapping[str, Tensor]
    smoothing: float
    neighbours: float = 0.0
    """Share of Pfirrmann's target that lies on the grades next to the label, half of it on each that there is."""
    forgiving: float = 0.0
    """q of the generalised cross entropy: 0 is the log-loss, 1 the share of the target that was not said."""

    def loss(self, beyond: LogOdds, labels: Tensor) -> Tensor:
        """Mean over the targets of the class-balanced log-loss; discs without the label are left out.

        Marrow: a disc is positive if either side is (noisy or), since SPIDER has one Modic label per disc.
        """
        return self.share_of_loss(beyond, labels, (labels != UNKNOWN).sum(0))

    def share_of_loss(self, beyond: LogOdds, labels: Tensor, counts: Tensor, own_opinion: float = 0.0) -> Tensor:
        """The discs' part in the loss of a larger batch in which ``counts`` (targets,) discs have each label.

        Of the target ``own_opinion`` is what is said itself, without a gradient; a class weighs as its label does.
        """
        probabilities = odds.probabilities(beyond)
        taught = (target for target, count in zip(TARGETS, counts.tolist(), strict=True) if count > 0)
        return self.of_shares({each: shares_of(probabilities, each) for each in taught}, labels, counts, own_opinion)

    def of_shares(self, said: Mapping[str, Tensor], labels: Tensor, counts: Tensor, own_opinion: float = 0.0) -> Tensor:
        """``share_of_loss`` of probabilities: per target (n, classes)."""
        losses = []
        for i in (i for i in range(len(TARGETS)) if counts[i] > 0):
            known = labels[:, i] != UNKNOWN
            shares = said[TARGETS[i]]
            truth = (labels[:, i] - least(TARGETS[i])).clamp_min(0)
            target = (1 - own_opinion) * self._target(truth, shares, TARGETS[i]) + own_opinion * shares.detach()
            shares = (1 - self.smoothing) * shares + self.smoothing / shares.shape[1]
            weight = self.weights[TARGETS[i]].to(shares)[truth] * known
            each = (target * self._loss_of(shares.clamp_min(1e-6))).sum(1)
            losses.append((each * weight).sum() / counts[i])
        return torch.stack(losses).mean()

    def _target(self, truth: Tensor, shares: Tensor, target: str) -> Tensor:
        """(n, classes) what the labels ask for."""
        asked = functional.one_hot(truth, shares.shape[1]).to(shares)
        if target != Finding.PFIRRMANN.value or not self.neighbours:
            return asked
        beside = functional.pad(asked[:, 1:], (0, 1)) + functional.pad(asked[:, :-1], (1, 0))
        return asked * (1 - self.neighbours / 2 * beside.sum(1, keepdim=True)) + self.neighbours / 2 * beside

    def _loss_of(self, shares: Tensor) -> Tensor:
        """(n, classes): the loss if a class is the true one."""
        return -shares.log() if not self.forgiving else (1 - shares**self.forgiving) / self.forgiving


def weighted(discs: GradedDiscs, rows: NDArray[np.int64], recipe: Recipe, smoothing: float) -> Weighted:
    """The loss for the given discs."""
    return Weighted(
        weights={
            target: torch.from_numpy(class_weights(discs.labels[rows, i], classes_of(target), recipe.heaviest_class))
            for i, target in enumerate(TARGETS)
        },
        smoothing=smoothing,
    )


def of_network(discs: GradedDiscs, rows: NDArray[np.int64], recipe: Recipe) -> Weighted:
    """What the network learns by. The regression is not told of the recipe's doubt of labels: its loss stays convex."""
    plain = weighted(discs, rows, recipe, recipe.label_smoothing)
    return replace(plain, neighbours=recipe.neighbours, forgiving=recipe.forgiving)


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
