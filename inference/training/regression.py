"""Fits the regression on measured numbers: one convex problem per finding, seconds on a CPU, no randomness."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.descriptors import FEATURES, LEVEL
from inference.grades import Finding
from inference.networks import odds
from inference.networks.odds import LogOdds
from inference.networks.regression import AT_LEVEL, LEVELS, FeatureRegression
from inference.training.gradings import TARGETS, GradedDiscs, findings_taught, targets_of
from inference.volume import FloatArray

RIDGE = 0.2
"""Weight of half the squared weights against the mean loss. Chosen among 0.1, 0.2, 0.4 by cross-validation: flat."""
STEPS = 100
LEAST_AT_LEVEL = 5

Loss = Callable[[LogOdds, Tensor], Tensor]
"""(log-odds, labels) -> mean loss over the targets, as of ``grading.Weighted``."""


def fit(discs: GradedDiscs, rows: NDArray[np.int64], loss: Loss) -> FeatureRegression:
    """A regression fitted to the given discs."""
    findings = findings_taught(discs.labels)
    regression = FeatureRegression(features=FEATURES, findings=findings)
    features = discs.features[rows].astype(np.float64)
    labels = discs.labels[rows]
    regression.usual.copy_(torch.from_numpy(usual(features, labels, regression)))
    regression.double()
    known = regression.numbers(torch.from_numpy(features)).numpy()
    seen = np.flatnonzero(np.isfinite(known).any(0))  # what is usual may be known of no level
    low, middle, high = np.nanpercentile(known[:, seen], (16, 50, 84), axis=0)
    regression.center[seen] = torch.from_numpy(middle)
    regression.spread[seen] = torch.from_numpy(np.maximum((high - low) / 2, 1e-4))
    numbers, taught = torch.from_numpy(features), torch.from_numpy(labels)
    optimiser = torch.optim.LBFGS(regression.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        beyond = odds.log_odds(regression(numbers), regression.cuts(), findings)
        total = len(targets_of(discs.labels)) * loss(beyond, taught) + RIDGE / 2 * (regression.weight**2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return regression.float().eval()


def usual(features: FloatArray, labels: NDArray[np.int64], regression: FeatureRegression) -> FloatArray:
    """(levels, of ``AT_LEVEL``) medians over the discs of a level that no label calls narrowed.

    0 where fewer than ``LEAST_AT_LEVEL`` discs are known: a number beside it then counts as usual.
    """
    level = features[:, FEATURES.index(LEVEL)]
    kept = labels[:, TARGETS.index(Finding.DISC_NARROWING.value)] != 1
    found = np.zeros((LEVELS, len(AT_LEVEL)))
    for number in range(1, LEVELS + 1):
        of_level = features[kept & (level == number)][:, regression.at_level]
        enough = np.isfinite(of_level).sum(0) >= LEAST_AT_LEVEL
        found[number - 1, enough] = np.nanmedian(of_level[:, enough], axis=0)
    return found
