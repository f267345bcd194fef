"""The regression on measured numbers can be read, and is fitted by the labels."""

from __future__ import annotations

import numpy as np
import torch

from inference.descriptors import FEATURES, LEVEL
from inference.grades import Finding
from inference.networks.odds import LEARNED
from inference.networks.regression import AT_LEVEL, FeatureRegression
from inference.training import regression
from inference.training.grading import weighted
from inference.training.grading_scores import auc
from inference.training.gradings import TARGETS, GradedDiscs, findings_taught
from inference.training.recipe import Recipe

NAMES = ("height", "upper_spread", "lower_spread")


def _regression() -> FeatureRegression:
    made = FeatureRegression(features=NAMES)
    made.center.copy_(torch.tensor([10.0, 0.0, 0.0]))
    made.spread.copy_(torch.tensor([2.0, 1.0, 1.0]))
    return made


def test_a_number_counts_by_its_distance_from_the_usual_and_by_its_size() -> None:
    """Height 14 is 2 spreads above 10: weight 0.5 gives 1.0, and weight 0.25 of the distance either way 0.5."""
    made = _regression()
    made.weight.data[0, 0], made.weight.data[0, 3] = 0.5, 0.25
    for height, expected in ((14.0, 1.5), (6.0, -0.5)):
        assert made(torch.tensor([[height, 0.0, 0.0]]))[0, 0].item() == expected


def test_an_unknown_number_counts_as_the_usual_one_and_a_wild_one_as_four_spreads() -> None:
    made = _regression()
    made.weight.data[0, 0] = 1.0
    heights = torch.tensor([[torch.nan], [10.0], [18.0], [1e6]])
    scores = made(torch.cat([heights, torch.zeros(4, 2)], 1))[:, 0]
    torch.testing.assert_close(scores, torch.tensor([0.0, 0.0, 4.0, 4.0]))


def test_its_terms_add_up_to_its_score() -> None:
    made = _regression()
    torch.nn.init.normal_(made.weight)
    torch.nn.init.normal_(made.bias)
    numbers = torch.randn(5, 3)
    torch.testing.assert_close(made.terms(numbers).sum(2) + made.bias, made(numbers))


def test_marrow_of_a_side_is_not_judged_by_the_numbers_of_the_other() -> None:
    made = _regression()
    torch.nn.init.constant_(made.weight, 1.0)
    terms = made.terms(torch.tensor([[12.0, 1.0, 1.0]]))[0]
    for finding, blind_to in ((Finding.UPPER_MARROW_CHANGE, 2), (Finding.LOWER_MARROW_CHANGE, 1)):
        assert terms[LEARNED.index(finding), blind_to] == 0
    assert (terms[LEARNED.index(Finding.DISC_NARROWING)] != 0).all()


def test_a_slip_is_judged_by_the_geometry_of_its_own_bodies() -> None:
    names = ("slip_back", "upper_body_front", "height_mm_to_median", "signal_p90", "lower_near_p10", "tilt_to_above")
    made = FeatureRegression(features=names)
    torch.nn.init.constant_(made.weight, 1.0)
    seen = made.terms(torch.ones(1, len(names)))[0, LEARNED.index(Finding.SPONDYLOLISTHESIS)] != 0
    assert seen.tolist() == [True, True, True, False, False, False]


def _discs(count: int) -> GradedDiscs:
    """Narrowing is the first number's sign; no other label is known; the other numbers are noise."""
    chance = np.random.default_rng(0)
    features = chance.normal(size=(count, len(FEATURES))).astype(np.float32)
    labels = np.full((count, len(TARGETS)), -1)
    labels[:, TARGETS.index("disc_narrowing")] = features[:, 0] < 0
    return GradedDiscs(
        slices=np.zeros((count, 192, 320), np.uint8),
        slice_disc=np.arange(count),
        slice_position=np.full(count, 4),
        zones=np.zeros((count, 192, 320), np.uint8),
        features=features,
        labels=labels,
        patient=np.arange(count),
        label_number=np.ones(count, int),
        is_stack=np.zeros(count, bool),
    )


def _narrowing_auc(labels_shuffled: bool) -> float:
    discs = _discs(400)
    if labels_shuffled:
        np.random.default_rng(1).shuffle(discs.labels)
    train, test = np.arange(300), np.arange(300, 400)
    made = regression.fit(discs, train, weighted(discs, train, Recipe(), smoothing=0.0).loss)
    scores = made(torch.from_numpy(discs.features[test])).detach().numpy()
    column = TARGETS.index("disc_narrowing")
    return auc(discs.labels[test, column], scores[:, findings_taught(discs.labels).index(Finding.DISC_NARROWING)])


def test_it_finds_the_number_that_tells() -> None:
    assert _narrowing_auc(labels_shuffled=False) > 0.9


def test_with_shuffled_labels_it_is_no_better_than_chance() -> None:
    assert abs(_narrowing_auc(labels_shuffled=True) - 0.5) < 0.15


def _at_levels() -> FeatureRegression:
    """Height counts beside the usual: 8 at L5/S1, 6 at L4/L5, unknown above."""
    made = FeatureRegression(features=(*AT_LEVEL, LEVEL))
    made.usual[:2] = torch.tensor([[8.0] * 5, [6.0] * 5])
    made.weight.data[0, made.names.index("height_mm_to_usual")] = 1.0
    return made


def test_a_height_counts_beside_what_is_usual_at_its_level() -> None:
    numbers = torch.full((4, 6), 7.0)
    numbers[:, -1] = torch.tensor([1.0, 2.0, 3.0, torch.nan])
    scores = _at_levels()(numbers)[:, 0]
    torch.testing.assert_close(scores, torch.tensor([-1.0, 1.0, 0.0, 0.0]))  # unknown levels say nothing


def test_what_is_usual_is_the_median_of_the_level_s_discs_that_are_not_narrowed() -> None:
    count = 12
    features = np.full((count, len(FEATURES)), np.nan)
    features[:, FEATURES.index(LEVEL)] = [1] * 8 + [2] * 4
    features[:, FEATURES.index("height_mm")] = [9, 10, 11, 12, 13, 1, 1, 1, 9, 9, 9, 9]
    labels = np.full((count, len(TARGETS)), -1, np.int64)
    labels[5:8, TARGETS.index("disc_narrowing")] = 1
    found = regression.usual(features, labels, FeatureRegression(features=FEATURES))
    assert found[0, AT_LEVEL.index("height_mm")] == 11
    assert (found[1] == 0).all()  # four discs are too few
    assert found[0, AT_LEVEL.index("signal_inner")] == 0  # not known of one


def test_a_file_from_before_the_level_was_known_still_works() -> None:
    made = _regression()
    assert made.names == NAMES
    assert "usual" not in made.state_dict()
