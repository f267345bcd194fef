"""How well discs are graded: balanced accuracy, quadratic weighted kappa, AUC, with intervals by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from inference.volume import FloatArray

IntArray = NDArray[np.int64]
DRAWS = 500
Numbers = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.float32]
Score = Callable[[Numbers, Numbers], float]
"""(truth, said) -> number; NaN where it is not defined."""


def balanced_accuracy(truth: Numbers, said: Numbers) -> float:
    """Mean over the classes that occur of the share of them that was said right."""
    return float(np.mean([(said[truth == value] == value).mean() for value in np.unique(truth)]))


def quadratic_weighted_kappa(truth: Numbers, said: Numbers) -> float:
    """Cohen's kappa with weights (i - j)^2 (Cohen 1968); NaN where either has one value only."""
    truth, said = truth.astype(np.float64), said.astype(np.float64)
    by_chance = (truth**2).mean() + (said**2).mean() - 2 * truth.mean() * said.mean()  # over all pairs of both
    if np.isclose(by_chance, 0):
        return float("nan")
    return float(1 - ((truth - said) ** 2).mean() / by_chance)


def auc(truth: Numbers, score: Numbers) -> float:
    """Area under the ROC curve of a score for truth 1 against 0, ties counted half; NaN where one is missing."""
    positive = truth == 1
    count, others = int(positive.sum()), int((~positive).sum())
    if count == 0 or others == 0:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def interval(
    score: Score,
    truth: Numbers,
    said: Numbers,
    patient: IntArray,
) -> tuple[float, float]:
    """95 % interval by bootstrap over patients: discs of one patient are not independent. The same draws every time."""
    chance = np.random.default_rng(0)
    of_patient = [np.flatnonzero(patient == each) for each in np.unique(patient)]
    values = []
    for _ in range(DRAWS):
        chosen = np.concatenate([of_patient[i] for i in chance.integers(len(of_patient), size=len(of_patient))])
        values.append(score(truth[chosen], said[chosen]))
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def fit_temperature(
    truth: IntArray, probabilities_at: Callable[[float], FloatArray], weights: Sequence[float]
) -> float:
    """The temperature of a grid from 0.4 to 4 with the least class-balanced negative log-likelihood.

    ``probabilities_at(t)`` -> (n, classes); ``truth`` holds class indices; ``weights`` one number per class.
    """
    grid = np.geomspace(0.4, 4.0, 47)
    rows = np.arange(len(truth))
    weight = np.asarray(weights)[truth]
    losses = [-(weight * np.log(probabilities_at(float(t))[rows, truth].clip(1e-9))).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])
