"""Trains the perceptrons on measured numbers: seconds a member on a CPU, the same weights for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.networks import odds
from inference.networks.perceptrons import Perceptron, Perceptrons
from inference.networks.regression import FeatureRegression
from inference.training.gradings import UNKNOWN, GradedDiscs, findings_taught
from inference.training.losses import weighted
from inference.training.recipe import Recipe

EPOCHS, BATCH = 60, 64
PEAK_RATE, WEIGHT_DECAY = 2e-3, 0.05
SMOOTHING = 0.05
SHAKEN = 0.1
"""Spreads by which each number is changed at random at every step."""


def fit(
    discs: GradedDiscs, rows: NDArray[np.int64], recipe: Recipe, regression: FeatureRegression, seed: int
) -> Perceptrons:
    """Perceptrons trained on the given discs. ``regression``: fitted to the same discs; it knows what is usual."""
    findings = findings_taught(discs.labels)
    labelled = rows[(discs.labels[rows] != UNKNOWN).any(1)]
    with torch.no_grad():
        known = regression.known(torch.from_numpy(discs.features[labelled]).float())[:, : regression.own]
    labels, loss = torch.from_numpy(discs.labels[labelled]), weighted(discs, rows, recipe, SMOOTHING).loss

    def wrong(scores: Tensor, cuts: Tensor, truth: Tensor) -> Tensor:
        return loss(odds.log_odds(scores, cuts, findings), truth)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Perceptrons(numbers=regression.own, findings=findings)
        for member in made.each:
            _learn(member, known, labels, wrong)
    return made.eval()


def _learn(member: Perceptron, known: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """By torch's global random numbers, in place. Discs beyond the last whole batch of an epoch wait for the next."""
    batch = min(BATCH, len(known))
    steps = len(known) // batch
    optimiser = torch.optim.AdamW(member.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(known))[: steps * batch].reshape(steps, batch):
            numbers = known[rows] + SHAKEN * torch.randn_like(known[rows])
            lost = loss(member(numbers), member.cuts(), labels[rows])
            optimiser.zero_grad()
            lost.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
