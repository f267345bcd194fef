"""Scores on numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.training.grading_scores import (
    auc,
    balanced_accuracy,
    fit_temperature,
    interval,
    quadratic_weighted_kappa,
)


def test_balanced_accuracy_is_the_mean_over_classes() -> None:
    truth, said = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1])
    assert balanced_accuracy(truth, said) == pytest.approx((3 / 4 + 1) / 2)


def test_kappa_weighs_an_error_by_the_square_of_its_size() -> None:
    truth = np.array([1, 2, 3, 4, 5])
    assert quadratic_weighted_kappa(truth, truth) == 1
    # one error of 1: mean square 1/5; over all 25 pairs of one truth and one answer the mean square is 85/25
    assert quadratic_weighted_kappa(truth, np.array([1, 2, 3, 4, 4])) == pytest.approx(1 - 0.2 / 3.4)
    assert np.isnan(quadratic_weighted_kappa(np.array([2, 2]), np.array([2, 2])))


def test_auc_is_the_share_of_pairs_in_order_with_ties_counted_half() -> None:
    truth, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.5, 0.5, 0.9])
    assert auc(truth, score) == pytest.approx(3.5 / 4)
    assert np.isnan(auc(np.array([1, 1]), np.array([0.1, 0.2])))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-9, 9)), min_size=2, max_size=40))
def test_auc_of_the_reversed_score_is_the_rest(pairs: list[tuple[int, int]]) -> None:
    truth, score = np.array(pairs).T
    if 0 < truth.sum() < len(truth):
        assert auc(truth, score) + auc(truth, -score) == pytest.approx(1)


def test_an_interval_is_by_patient() -> None:
    """Ten discs that are copies of one patient's tell no more than one: the interval must not shrink."""
    truth, said = np.array([0, 1, 0, 1, 1, 0]), np.array([0, 1, 1, 1, 0, 0])
    patient = np.array([1, 1, 2, 2, 3, 3])
    copied = [np.repeat(each, 10) for each in (truth, said, patient)]
    assert interval(balanced_accuracy, truth, said, patient) == pytest.approx(interval(balanced_accuracy, *copied))


def test_overconfident_scores_are_cooled() -> None:
    """Scores of +-4 that are right in 3 of 4: the best probability is 0.75, at a temperature of 4 / ln 3 = 3.64."""
    truth = np.array([1, 1, 1, 0])

    def at(temperature: float) -> np.ndarray:
        positive = 1 / (1 + np.exp(-np.full(4, 4.0) / temperature))
        return np.stack([1 - positive, positive], axis=1)

    assert fit_temperature(truth, at, [1.0, 1.0]) == pytest.approx(4 / np.log(3), rel=0.03)
