"""Joins the opinions on a disc, the network's, the regression's and the perceptrons', into probabilities that hold.

All count alike: their mean, made sharper or softer by one number per target, which is fitted on discs whose patients
none had seen. Letting the ratio of network and regression be fitted too gave ratios near 1 and no better figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from inference.grades import Finding
from inference.training.graded_series import DataSetError
from inference.training.gradings import MARROW_TARGET, TARGETS, UNKNOWN, class_weights, findings_of
from inference.volume import FloatArray

OPINIONS = "network", "regression", "perceptrons"
HEAVIEST_CLASS = 8.0
SHARPNESS = np.geomspace(0.25, 2.5, 47)
"""What is tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfFold:
    """What graders say of discs whose patients they have not seen, before it is joined."""

    scores: FloatArray
    """(n, findings) the network's."""
    cuts: FloatArray
    """(n, 4) Pfirrmann cuts of the network that scored the disc."""
    regression_scores: FloatArray
    regression_cuts: FloatArray
    perceptron_scores: FloatArray
    perceptron_cuts: FloatArray
    fold: NDArray[np.int64]
    """(n,) the fold that the disc's patient was held out in."""
    findings: NDArray[np.str_]
    """(findings,) what the columns of the scores speak of."""

    def __len__(self) -> int:
        return len(self.fold)

    def of(self, rows: NDArray[np.bool_]) -> OutOfFold:
        chosen = {name: getattr(self, name)[rows] for name in OutOfFold.__dataclass_fields__ if name != "findings"}
        return OutOfFold(**chosen, findings=self.findings)

    def column_of(self, finding: Finding) -> int:
        return int(self.findings.tolist().index(finding.value))

    @property
    def targets(self) -> tuple[str, ...]:
        """What something was said of."""
        return tuple(target for target in TARGETS if all(f.value in self.findings for f in findings_of(target)))

    def save(self, path: Path) -> None:
        np.savez(path, **{name: getattr(self, name) for name in OutOfFold.__dataclass_fields__})


def silent(fold: NDArray[np.int64], findings: Sequence[Finding]) -> OutOfFold:
    """Nothing said yet of ``fold`` (n,): zeros, to be filled fold by fold."""
    scores, cuts = (len(fold), len(findings)), (len(fold), 4)
    return OutOfFold(
        scores=np.zeros(scores),
        cuts=np.zeros(cuts),
        regression_scores=np.zeros(scores),
        regression_cuts=np.zeros(cuts),
        perceptron_scores=np.zeros(scores),
        perceptron_cuts=np.zeros(cuts),
        fold=fold,
        findings=np.array([finding.value for finding in findings]),
    )


def load(path: Path) -> OutOfFold:
    """What ``OutOfFold.save`` wrote. Raises DataSetError where another version did."""
    with np.load(path) as stored:
        if not set(OutOfFold.__dataclass_fields__) <= set(stored):
            raise DataSetError(f"{path} was written by another version: train into another folder")
        return OutOfFold(**{name: stored[name] for name in OutOfFold.__dataclass_fields__})


def joined(said: OutOfFold, shares: FloatArray) -> Mapping[str, FloatArray]:
    """Per target (n, classes) probabilities, as ``DiscGrader.together`` joins them.

    ``shares``: (n or 1, len(TARGETS), len(OPINIONS)) what the opinions' log-odds are multiplied by.
    """
    result = {}
    for target in said.targets:
        i = TARGETS.index(target)
        above = expit(sum(shares[:, i, k, None] * each for k, each in enumerate(log_odds(said, target))))
        ones = np.ones((len(above), 1))
        result[target] = -np.diff(np.concatenate([ones, above, 0 * ones], axis=1), axis=1)
    return result


def log_odds(said: OutOfFold, target: str) -> tuple[FloatArray, ...]:
    """(n, classes - 1) of each opinion; for marrow change of at least one side."""
    columns = [said.column_of(finding) for finding in findings_of(target)]
    scores = [each[:, columns] for each in (said.scores, said.regression_scores, said.perceptron_scores)]
    if target == MARROW_TARGET:
        return tuple(either(each) for each in scores)
    if target == Finding.PFIRRMANN.value:
        cuts = said.cuts, said.regression_cuts, said.perceptron_cuts
        return tuple(each - own for each, own in zip(scores, cuts, strict=True))
    return tuple(scores)


def either(sides: FloatArray) -> FloatArray:
    """(n, 2) log-odds of each side -> (n, 1) of at least one, the two being independent (noisy or)."""
    neither = np.logaddexp(0, sides).sum(axis=1, keepdims=True)  # minus the log of P(neither)
    return np.asarray(neither + np.log(-np.expm1(-neither)), np.float64)


def fit(said: OutOfFold, labels: NDArray[np.int64]) -> FloatArray:
    """(len(TARGETS),) sharpness with the least class-balanced log-loss: shares are a third of it each."""
    result = np.ones(len(TARGETS))
    for i, target in enumerate(TARGETS):
        known = labels[:, i] != UNKNOWN
        if target not in said.targets or not known.any():
            continue
        classes = range(1, 6) if target == Finding.PFIRRMANN.value else range(2)
        truth = labels[known, i] - classes[0]
        weight = class_weights(labels[known, i], classes, HEAVIEST_CLASS)[truth]
        losses = []
        for sharpness in SHARPNESS:
            probability = joined(said, all_alike(np.full(len(TARGETS), sharpness)))[target][known]
            losses.append(-(weight * np.log(probability[np.arange(len(truth)), truth].clip(1e-9))).mean())
        result[i] = SHARPNESS[int(np.argmin(losses))]
    return result


def all_alike(sharpness: FloatArray) -> FloatArray:
    """(..., targets) -> (n or 1, targets, opinions) shares."""
    return np.repeat(np.atleast_2d(sharpness)[..., None] / len(OPINIONS), len(OPINIONS), axis=-1)


def held_out(said: OutOfFold, labels: NDArray[np.int64]) -> Mapping[str, FloatArray]:
    """Per target (n, classes): each fold with the sharpness that was fitted on the other folds. For reporting."""
    sharpness = np.zeros((len(said), len(TARGETS)))
    for fold in np.unique(said.fold):
        other = said.fold != fold
        sharpness[~other] = fit(said.of(other), labels[other])
    return joined(said, all_alike(sharpness))


def alone(said: OutOfFold, opinion: str) -> Mapping[str, FloatArray]:
    """Per target (n, classes) as one of ``OPINIONS`` says it, not softened."""
    of_it = np.array([float(each == opinion) for each in OPINIONS])
    return joined(said, np.broadcast_to(of_it, (1, len(TARGETS), len(OPINIONS))))
