"""Trains one disc grader's network on labelled discs. ``grading_run`` deals the folds and keeps the results."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from inference.descriptors import FEATURES
from inference.grades import CLASSES, Finding
from inference.networks import odds
from inference.networks.grader import Branch, DiscGrader
from inference.networks.odds import LogOdds
from inference.training.disc_augmentation import batch
from inference.training.gradings import MARROW_TARGET, TARGETS, UNKNOWN, GradedDiscs, class_weights
from inference.training.recipe import Recipe

SLICE_WEIGHTS = (0.0, 0.0, 0.0, 0.25, 0.5, 0.25, 0.0, 0.0, 0.0)
"""Most discs that teach are one mid-sagittal slice: what lies further out was not seen in training."""
TAUGHT: tuple[int, ...] = tuple(
    i for i, name in enumerate(FEATURES) if "bod" not in name and not name.endswith(("_to_above", "_to_below"))
)
"""The numbers that the second task asks for: what a patch shows; not the bodies' far ends, nor the next discs."""


class Teacher(nn.Module):
    """The second task of training: the measured numbers, told from all regions. It is not shipped."""

    def __init__(self, grader: DiscGrader) -> None:
        super().__init__()
        self.branch = Branch(grader.pooled_size, 96, len(TAUGHT), 0.3)

    def forward(self, far: Tensor) -> Tensor:
        """``far`` as of ``DiscGrader.pooled`` -> (n, len(TAUGHT)), centred and scaled."""
        told: Tensor = self.branch(far.flatten(1))
        return told.float()


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighted:
    """Class weights per target, and the smoothing of labels: what turns probabilities and labels into a loss."""

    weights: Mapping[str, Tensor]
    smoothing: float

    def loss(self, beyond: LogOdds, labels: Tensor) -> Tensor:
        """Mean over the targets of the class-balanced log-loss; discs without the label are left out.

        Marrow: a disc is positive if either side is (noisy or), since SPIDER has one Modic label per disc.
        """
        probabilities = odds.probabilities(beyond)
        losses = []
        for i, target in enumerate(TARGETS):
            known = labels[:, i] != UNKNOWN
            if not known.any():
                continue
            shares = shares_of(probabilities, target)[known]
            truth = labels[known, i] - (1 if target == Finding.PFIRRMANN.value else 0)
            shares = (1 - self.smoothing) * shares + self.smoothing / shares.shape[1]
            weight = self.weights[target].to(shares)[truth]
            losses.append((functional.nll_loss(shares.clamp_min(1e-6).log(), truth, reduction="none") * weight).mean())
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
    """The values of a target, mildest first."""
    return CLASSES[Finding.PFIRRMANN] if target == Finding.PFIRRMANN.value else (0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What tells one training of a run from another."""

    seed: int
    log: Path
    """CSV with each epoch's losses."""
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lesson:
    """What learns, and from what."""

    grader: DiscGrader
    teacher: Teacher
    task: Weighted
    discs: GradedDiscs
    taught: Tensor
    device: str

    @property
    def learning(self) -> list[nn.Parameter]:
        of_network = [p for name, p in self.grader.named_parameters() if not name.startswith("regression.")]
        return [*of_network, *self.teacher.parameters()]

    def losses(self, chosen: NDArray[np.int64], chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Of the gradings and of the second task, for the discs ``chosen``, augmented."""
        images, present, zones, labels = (each.to(self.device) for each in batch(self.discs, chosen, chance))
        kind = torch.bfloat16 if self.device == "cpu" else torch.float16
        with torch.autocast(self.device.partition(":")[0], kind):
            near, far = self.grader.pooled(images, present, zones)
            scores, told = self.grader.scores_of(near, far), self.teacher(far)
        taught = self.taught[chosen].to(self.device)
        known = torch.isfinite(taught)
        of_teacher = functional.smooth_l1_loss(told[known], taught[known])
        return self.task.loss(odds.log_odds(scores, self.grader.cuts()), labels), of_teacher


def train(discs: GradedDiscs, rows: NDArray[np.int64], recipe: Recipe, session: Session) -> DiscGrader:
    """A grader whose network is trained on the given discs."""
    torch.manual_seed(session.seed)
    grader = DiscGrader(features=FEATURES, slice_weights=SLICE_WEIGHTS)
    teacher = Teacher(grader)
    lesson = _Lesson(
        grader=grader.to(session.device).train(),
        teacher=teacher.to(session.device),
        task=weighted(discs, rows, recipe, recipe.label_smoothing),
        discs=discs,
        taught=_standardised(discs, rows),
        device=session.device,
    )
    _learn(lesson, rows, recipe, session)
    return grader.cpu().eval()


def _learn(lesson: _Lesson, rows: NDArray[np.int64], recipe: Recipe, session: Session) -> None:
    chance = np.random.default_rng(session.seed)
    learning, steps = lesson.learning, len(rows) // recipe.batch
    optimiser = torch.optim.AdamW(learning, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.1
    )
    scaler = torch.amp.GradScaler(enabled=session.device != "cpu")
    with session.log.open("w", newline="") as stream, tqdm(total=recipe.epochs * steps, desc=session.log.stem) as bar:
        table = csv.writer(stream)
        table.writerow(["epoch", "grading_loss", "teacher_loss"])
        for epoch in range(recipe.epochs):
            order, losses = chance.permutation(rows), []
            for chosen in np.split(order[: steps * recipe.batch], steps):
                of_grades, of_teacher = lesson.losses(chosen, chance)
                optimiser.zero_grad(set_to_none=True)
                scaler.scale(of_grades + recipe.teacher * of_teacher).backward()  # type: ignore[no-untyped-call]
                scaler.unscale_(optimiser)
                torch.nn.utils.clip_grad_norm_(learning, 5.0)
                scaler.step(optimiser)
                scaler.update()
                schedule.step()
                bar.update()
                losses.append([float(of_grades.detach()), float(of_teacher.detach())])
            table.writerow([epoch, *(f"{value:.4f}" for value in np.mean(losses, axis=0))])
            stream.flush()


def _standardised(discs: GradedDiscs, rows: NDArray[np.int64]) -> Tensor:
    """(all discs, len(TAUGHT)) centred and scaled by the given discs, at most 4 spreads out."""
    features = discs.features[:, TAUGHT].astype(np.float64)
    high, middle, low = np.nanpercentile(features[rows], (84, 50, 16), axis=0)
    scaled = (features - middle) / np.maximum((high - low) / 2, 1e-4)
    return torch.from_numpy(scaled.clip(-4, 4)).float()
