"""How well discs are graded, as numbers of truth and what was said, with intervals by patient."""

from __future__ import annotations

from collections.abc import Callable

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


def lins_concordance(truth: Numbers, said: Numbers) -> float:
    """Lin's concordance correlation (Lin 1989): 1 on the line of identity; NaN for one and the same value."""
    truth, said = truth.astype(np.float64), said.astype(np.float64)
    spread = truth.var() + said.var() + (truth.mean() - said.mean()) ** 2
    if np.isclose(spread, 0):
        return float("nan")
    return float(2 * ((truth - truth.mean()) * (said - said.mean())).mean() / spread)


def matthews(truth: Numbers, said: Numbers) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004); NaN where either has one value only."""
    values = np.unique(np.concatenate([truth, said]))
    one, other = (np.asarray(each)[:, None] == values for each in (truth, said))
    covariance = [
        sum(np.cov(a[:, k].astype(float), b[:, k].astype(float), bias=True)[0, 1] for k in range(len(values)))
        for a, b in ((one, other), (one, one), (other, other))
    ]
    if np.isclose(covariance[1] * covariance[2], 0):
        return float("nan")
    return float(covariance[0] / np.sqrt(covariance[1] * covariance[2]))


def average_precision(truth: Numbers, score: Numbers) -> float:
    """Area under the precision-recall curve as a step function, ties taken together; NaN without a positive."""
    order = np.argsort(-np.asarray(score, np.float64), kind="stable")
    positive = (np.asarray(truth)[order] == 1).astype(np.float64)
    if positive.sum() == 0:
        return float("nan")
    last_of_ties = np.append(np.diff(np.asarray(score)[order]) != 0, True)
    found, taken = positive.cumsum()[last_of_ties], np.flatnonzero(last_of_ties) + 1
    return float((np.diff(found, prepend=0) / positive.sum() * found / taken).sum())


def calibration_error(truth: IntArray, shares: FloatArray, weights: FloatArray, bins: int = 10) -> float:
    """Expected calibration error (Naeini 2015): gap between confidence and being right, over equal bins of confidence.

    ``truth`` (n,) class indices; ``shares`` (n, classes), whose largest is the confidence; ``weights`` (n,).
    """
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == truth
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs((weights * (right - confidence))[bin_of == b].sum()) for b in range(bins)
    ]  # a bin's weight times its gap is the absolute value of its summed gaps
    return float(np.sum(gaps) / weights.sum())


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
    defined = np.array(values)[np.isfinite(values)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)
