"""The perceptrons see how numbers go together, and learn the same from the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.descriptors import FEATURES
from inference.grades import Finding
from inference.networks.perceptrons import MEMBERS, Perceptrons
from inference.training import perceptrons, regression
from inference.training.grading import weighted
from inference.training.grading_scores import auc
from inference.training.gradings import TARGETS, UNKNOWN, GradedDiscs, findings_taught
from inference.training.recipe import Recipe
from tests.unit.inference.training.made_discs import made_discs

BULGING = TARGETS.index(Finding.DISC_BULGING.value)


def test_untaught_they_say_nothing_in_either_direction() -> None:
    made = Perceptrons(numbers=4).eval()
    torch.testing.assert_close(made(torch.randn(3, 4)), torch.zeros(3, 9))


def test_their_score_and_their_cuts_are_the_mean_of_the_members() -> None:
    """Members say 0, 1, 2, 3 and 4: 2 in the mean. Cuts begin at 10, 11...: 12 in the mean."""
    made = Perceptrons(numbers=2).eval()
    assert len(made.each) == MEMBERS == 5
    for number, member in enumerate(made.each):
        torch.nn.init.constant_(member.last.bias, float(number))
        member.cuts.first.data.fill_(10.0 + number)
    torch.testing.assert_close(made(torch.randn(3, 2)), torch.full((3, 9), 2.0))
    assert made.cuts()[0].item() == pytest.approx(12.0)
    assert (made.cuts().diff() > 0).all()


@given(scale=st.floats(1.01, 1e30))
def test_no_number_counts_for_more_than_four_spreads(scale: float) -> None:
    """They are given what the regression knows, and that is bounded."""
    fitted = regression.FeatureRegression(features=("height",))
    known = fitted.known(torch.tensor([[4.0 * scale], [-4.0 * scale], [torch.nan], [torch.inf]]))
    torch.testing.assert_close(known, torch.tensor([[4.0], [-4.0], [0.0], [0.0]]))


def _discs(count: int) -> GradedDiscs:
    """Bulging where exactly one of two numbers is high: no line through them tells it."""
    discs, chance = made_discs(count), np.random.default_rng(3)
    features = np.zeros((len(discs), len(FEATURES)), np.float32)
    features[:, :2] = chance.choice([-1.0, 1.0], (len(discs), 2)) + chance.normal(0, 0.1, (len(discs), 2))
    labels = np.full_like(discs.labels, UNKNOWN)
    labels[:, BULGING] = (features[:, 0] > 0) != (features[:, 1] > 0)
    return replace(discs, features=features, labels=labels)


def _learned(discs: GradedDiscs, rows: np.ndarray, seed: int = 0) -> tuple[Perceptrons, regression.FeatureRegression]:
    fitted = regression.fit(discs, rows, weighted(discs, rows, Recipe(), 0.0).loss)
    return perceptrons.fit(discs, rows, Recipe(), fitted, seed), fitted


def test_they_learn_what_no_straight_line_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptrons, "EPOCHS", 400)  # eighty discs are one step each
    discs = _discs(120)
    rows = np.arange(len(discs))
    train, test = rows[rows % 3 > 0], rows[rows % 3 == 0]
    made, fitted = _learned(discs, train)
    numbers = torch.from_numpy(discs.features[test])
    column = findings_taught(discs.labels).index(Finding.DISC_BULGING)
    with torch.no_grad():
        said = made(fitted.known(numbers)[:, : fitted.own])[:, column].numpy()
        straight = fitted(numbers)[:, column].numpy()
    truth = discs.labels[test, BULGING]
    assert auc(truth, said) > 0.95
    assert auc(truth, straight) < 0.75


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptrons, "EPOCHS", 1)
    discs = _discs(24)
    rows = np.arange(len(discs))
    torch.manual_seed(1)
    one, _ = _learned(discs, rows)
    following = torch.rand(1)
    torch.manual_seed(1)
    torch.testing.assert_close(following, torch.rand(1))  # the caller's own chance is left as it was
    again, _ = _learned(discs, rows)
    other, _ = _learned(discs, rows, seed=1)
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_disc_without_any_label_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptrons, "EPOCHS", 1)
    discs = _discs(24)
    labels = discs.labels.copy()
    labels[::2] = UNKNOWN
    sparse = replace(discs, labels=labels)
    rows = np.arange(len(discs))
    fitted = regression.fit(sparse, rows, weighted(sparse, rows, Recipe(), 0.0).loss)
    one, other = (perceptrons.fit(sparse, each, Recipe(), fitted, 0) for each in (rows, rows[1::2]))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
