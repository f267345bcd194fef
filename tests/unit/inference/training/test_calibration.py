"""Three opinions joined: alike, made as sharp as they deserve, and never fitted on what is reported."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.networks import odds
from inference.networks.odds import LEARNED, MARROW
from inference.training import calibration
from inference.training.calibration import OutOfFold
from inference.training.gradings import MARROW_TARGET, TARGETS, UNKNOWN, findings_of

NAMES = np.array([finding.value for finding in LEARNED])
BULGING = TARGETS.index("disc_bulging")


def _said(bulging: list[float], fold: list[int] | None = None) -> OutOfFold:
    """All opinions score bulging alike; everything else is 0."""
    count = len(bulging)
    scores = np.zeros((count, len(LEARNED)))
    scores[:, -1] = bulging
    cuts = np.tile([-2.0, -1.0, 1.0, 2.0], (count, 1))
    return OutOfFold(
        scores=scores,
        cuts=cuts,
        regression_scores=scores.copy(),
        regression_cuts=cuts,
        perceptron_scores=scores.copy(),
        perceptron_cuts=cuts,
        fold=np.array(fold or [0] * count),
        findings=NAMES,
    )


def _labels(bulging: list[int]) -> np.ndarray:
    labels = np.full((len(bulging), len(TARGETS)), UNKNOWN)
    labels[:, BULGING] = bulging
    labels[0] = np.where(labels[0] == UNKNOWN, 1, labels[0])  # every target has one label
    return labels


def test_overconfident_scores_are_softened() -> None:
    """Scores of +-4 that are right in 3 of 4: the best probability is 0.75, at a sharpness of ln 3 / 4 = 0.27."""
    scores, labels = [4.0] * 4 + [-4.0] * 4, [1, 1, 1, 0, 0, 0, 0, 1]
    assert calibration.fit(_said(scores), _labels(labels))[BULGING] == pytest.approx(math.log(3) / 4, rel=0.03)


def test_a_fold_is_joined_by_what_the_others_taught() -> None:
    """Fold 0's scores are all right, fold 1's are right in 3 of 4: each is judged by the other's sharpness."""
    scores = [1.0, -1.0] * 4 + [4.0] * 4 + [-4.0] * 4
    labels = [1, 0] * 4 + [1, 1, 1, 0, 0, 0, 0, 1]
    said = _said(scores, [0] * 8 + [1] * 8)
    shares = calibration.held_out(said, _labels(labels))["disc_bulging"][:, 1]
    assert shares[0] == pytest.approx(1 / (1 + math.exp(-math.log(3) / 4)), abs=0.01)
    assert shares[8] == pytest.approx(1 / (1 + math.exp(-4 * calibration.SHARPNESS[-1])), abs=1e-6)


def test_it_joins_as_the_shipped_grader_does() -> None:
    chance = np.random.default_rng(0)
    scores = chance.normal(size=(3, 6, len(LEARNED)))
    cuts = np.array([[-2.0, -1.0, 1.0, 2.0], [-1.5, -0.5, 0.5, 1.5], [-1.0, -0.8, 0.0, 0.3]])
    said = OutOfFold(
        scores=scores[0],
        cuts=np.tile(cuts[0], (6, 1)),
        regression_scores=scores[1],
        regression_cuts=np.tile(cuts[1], (6, 1)),
        perceptron_scores=scores[2],
        perceptron_cuts=np.tile(cuts[2], (6, 1)),
        fold=np.zeros(6, int),
        findings=NAMES,
    )
    sharpness = np.linspace(0.5, 1.5, len(TARGETS))
    of_findings = torch.ones(len(LEARNED), dtype=torch.float64)
    for target, value in zip(TARGETS, sharpness, strict=True):
        for finding in findings_of(target):
            if finding in LEARNED:
                of_findings[LEARNED.index(finding)] = value
    each = (odds.log_odds(torch.from_numpy(s), torch.from_numpy(c)) for s, c in zip(scores, cuts, strict=True))
    opinions = odds.Opinions(**dict(zip(calibration.OPINIONS, each, strict=True)))
    sides = torch.from_numpy(chance.normal(size=(6, 2)))
    shipped = odds.probabilities(odds.averaged(opinions, of_findings, sides))
    here = calibration.joined(said, calibration.all_alike(sharpness))
    assert MARROW_TARGET in here
    for target in here:
        if target != MARROW_TARGET:
            (finding,) = findings_of(target)
            np.testing.assert_allclose(shipped[finding].numpy(), here[target], atol=1e-6)
    likelier = np.maximum(*(shipped[finding][:, 1].numpy() for finding in MARROW))
    np.testing.assert_allclose(likelier, here[MARROW_TARGET][:, 1], atol=1e-6)


def test_what_was_said_is_kept_as_it_was(tmp_path: Path) -> None:
    said = _said([1.0, -2.0], [0, 1])
    said.save(tmp_path / "said.npz")
    loaded = calibration.load(tmp_path / "said.npz")
    for name in OutOfFold.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(said, name), getattr(loaded, name))
