"""Scores on numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.training.grading_scores import (
    auc,
    average_precision,
    balanced_accuracy,
    calibration_error,
    interval,
    lins_concordance,
    matthews,
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


def test_lins_concordance_is_lowered_by_a_shift_that_correlation_forgives() -> None:
    """Variance 2/3 each, covariance 2/3, means 1 apart: 2 x 2/3 over 2/3 + 2/3 + 1."""
    truth = np.array([1, 2, 3])
    assert lins_concordance(truth, truth) == pytest.approx(1)
    assert lins_concordance(truth, truth + 1) == pytest.approx((4 / 3) / (7 / 3))
    assert np.isnan(lins_concordance(np.array([2, 2]), np.array([2, 2])))


def test_matthews_of_two_classes_is_the_phi_coefficient() -> None:
    """3 true positives, 1 false positive, 1 false negative, 5 true negatives: (15 - 1) / sqrt(4 x 4 x 6 x 6)."""
    truth, said = np.array([1] * 4 + [0] * 6), np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0])
    assert matthews(truth, said) == pytest.approx(14 / 24)
    assert matthews(np.array([1, 2, 3]), np.array([1, 2, 3])) == pytest.approx(1)
    assert np.isnan(matthews(truth, np.ones(10, int)))


def test_average_precision_takes_ties_together() -> None:
    """Sorted: a positive (1 of 1), then a tie of a positive and a negative (2 of 3)."""
    truth, score = np.array([1, 1, 0, 0]), np.array([0.9, 0.5, 0.5, 0.1])
    assert average_precision(truth, score) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert np.isnan(average_precision(np.zeros(3, int), np.arange(3.0)))


def test_calibration_error_is_the_gap_between_confidence_and_being_right() -> None:
    """Said with 0.9 four times and right thrice: a gap of 0.15. Said with 0.6 and right: 0.4. Weighed 4 to 1."""
    shares = np.array([[0.1, 0.9]] * 4 + [[0.6, 0.4]])
    truth = np.array([1, 1, 1, 0, 0])
    assert calibration_error(truth, shares, np.ones(5)) == pytest.approx((4 * 0.15 + 0.4) / 5)
    assert calibration_error(truth, shares, np.array([0, 0, 0, 0, 1.0])) == pytest.approx(0.4)
