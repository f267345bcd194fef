"""What learns, and from what: a grading network, the second task beside it, and the loss of one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from inference.descriptors import FEATURES, LEVEL
from inference.networks.family import Branch, GradingNetwork
from inference.training.disc_augmentation import Shown
from inference.training.disc_augmentation import batch as augmented
from inference.training.gradings import UNKNOWN, GradedDiscs
from inference.training.losses import Weighted
from inference.training.recipe import Recipe

TAUGHT: tuple[int, ...] = tuple(
    i
    for i, name in enumerate(FEATURES)
    if "bod" not in name and name != LEVEL and not name.endswith(("_to_above", "_to_below"))
)
"""The numbers that the second task asks for: what a patch shows. Not far ends of bodies, next discs or the level."""
OWN_OPINION_FROM = 1 / 3
"""Of the steps: before that a network has no opinion to go by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """What a step of a training knows of itself."""

    chance: np.random.Generator
    recipe: Recipe
    device: str
    part: tuple[int, int]
    """Which of how many processes this one is."""
    done: float
    """Share of the steps that lie behind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Discs to learn from; maybe a part of a larger batch that several processes share."""

    images: Tensor
    slice_present: Tensor
    zones: Tensor
    labels: Tensor
    numbers: Tensor
    """(n, len(TAUGHT)) measured, centred and scaled; NaN where unknown."""
    label_counts: Tensor
    """(targets,) discs with each label in the whole batch, over the number of processes."""
    number_count: float
    """Known numbers in the whole batch, over the number of processes."""
    own_opinion: float = 0.0
    """Share of what is asked of the network that is its own opinion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What is learned from."""

    discs: GradedDiscs
    numbers: Tensor
    """(all discs, taught numbers) as of ``standardised``."""
    rows: NDArray[np.int64]

    def batch(self, chosen: NDArray[np.int64], moment: Moment) -> Batch:
        """This process's part of the discs ``chosen``."""
        recipe, (first, count) = moment.recipe, moment.part
        shown = Shown(slices=recipe.slices, turned=recipe.turned, t1_hidden=recipe.t1_hidden, part=moment.part)
        images, present, zones, labels = augmented(self.discs, chosen, moment.chance, shown)
        numbers = self.numbers[chosen]
        known = (torch.from_numpy(self.discs.labels[chosen]) != UNKNOWN).sum(0)
        return Batch(
            images=images.to(moment.device),
            slice_present=present.to(moment.device),
            zones=zones.to(moment.device),
            labels=labels.to(moment.device),
            numbers=numbers[first::count].to(moment.device),
            label_counts=(known / count).to(moment.device),
            number_count=float(torch.isfinite(numbers).sum()) / count,
            own_opinion=recipe.own_opinion if moment.done >= OWN_OPINION_FROM else 0.0,
        )


class Lesson(nn.Module):
    """A network and its second task, to tell the measured numbers from what its trunk saw. The task is not shipped."""

    losses = "grading_loss", "teacher_loss"

    def __init__(self, network: GradingNetwork, task: Weighted, weight_of_numbers: float, precision: torch.dtype):
        super().__init__()
        self.network, self.task = network, task
        self.numbers = Branch(network.summary_size, 96, len(TAUGHT), 0.3)
        self.weight_of_numbers, self.precision = weight_of_numbers, precision
        network.regression.requires_grad_(False)  # what judges the numbers is taught apart
        network.perceptrons.requires_grad_(False)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The loss; and of it the loss of the gradings and that of the numbers, for the log."""
        is_mixed = self.precision is not torch.float32
        with torch.autocast(batch.images.device.type, self.precision, enabled=is_mixed):
            look = self.network.look(batch.images, batch.slice_present, batch.zones)
            told = self.numbers(look.summary).float()
        scores = look.scores.float()
        beyond = self.network.log_odds(scores)
        of_grades = self.task.share_of_loss(beyond, batch.labels, batch.label_counts, batch.own_opinion)
        known = torch.isfinite(batch.numbers)
        apart = functional.smooth_l1_loss(told[known], batch.numbers[known], reduction="sum")
        of_numbers = apart / max(batch.number_count, 1e-6)
        # Every branch takes part in every step, whichever labels this batch has: processes wait for each gradient.
        loss = of_grades + self.weight_of_numbers * of_numbers + 0.0 * (scores.sum() + told.sum())
        return loss, of_grades.detach(), of_numbers.detach()

    @property
    def learning(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def standardised(discs: GradedDiscs, rows: NDArray[np.int64], columns: Sequence[int] = TAUGHT) -> Tensor:
    """(all discs, len(columns)) centred and scaled by the given discs, at most 4 spreads out."""
    features = discs.features[:, columns].astype(np.float64)
    high, middle, low = np.nanpercentile(features[rows], (84, 50, 16), axis=0)
    scaled = (features - middle) / np.maximum((high - low) / 2, 1e-4)
    return torch.from_numpy(scaled.clip(-4, 4)).float()
