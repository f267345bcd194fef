"""Fits the regression on measured numbers: one convex problem per finding, seconds on a CPU, no randomness."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.descriptors import FEATURES
from inference.networks import odds
from inference.networks.odds import LogOdds
from inference.networks.regression import FeatureRegression
from inference.training.gradings import GradedDiscs, findings_taught, targets_of

RIDGE = 0.2
"""Weight of half the squared weights against the mean loss. Chosen among 0.1, 0.2, 0.4 by cross-validation: flat."""
STEPS = 100

Loss = Callable[[LogOdds, Tensor], Tensor]
"""(log-odds, labels) -> mean loss over the targets, as of ``grading.Weighted``."""


def fit(discs: GradedDiscs, rows: NDArray[np.int64], loss: Loss) -> FeatureRegression:
    """A regression fitted to the given discs."""
    findings = findings_taught(discs.labels)
    regression = FeatureRegression(features=FEATURES, findings=findings)
    features = discs.features[rows].astype(np.float64)
    spread = np.nanpercentile(features, 84, axis=0) - np.nanpercentile(features, 16, axis=0)
    regression.center.copy_(torch.from_numpy(np.nanmedian(features, axis=0)))
    regression.spread.copy_(torch.from_numpy(np.maximum(spread / 2, 1e-4)))
    regression.double()
    numbers, labels = torch.from_numpy(features), torch.from_numpy(discs.labels[rows])
    optimiser = torch.optim.LBFGS(regression.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        beyond = odds.log_odds(regression(numbers), regression.cuts(), findings)
        total = len(targets_of(discs.labels)) * loss(beyond, labels) + RIDGE / 2 * (regression.weight**2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return regression.float().eval()
