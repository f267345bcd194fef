"""Grades come in the order of the discs, in one batch, and a full memory only makes the batches smaller."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.descriptors import FEATURES
from inference.discs import cut
from inference.grades import TAUGHT, Basis, Doubt, Finding, Grade
from inference.grading import UNSURE, grade, scores_of
from inference.networks.grader import DiscGrader
from inference.networks.odds import LEARNED
from inference.volume import DiscVolume
from tests.spine_factory import drawn_spine

MIDDLE_ONLY = (0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)


class _SmallMemory(DiscGrader):
    """Scores every finding by the disc's brightness; runs out of memory above ``most`` discs."""

    def __init__(self, most: int) -> None:
        super().__init__(features=FEATURES, slice_weights=MIDDLE_ONLY)
        self.most = most
        self.batches: list[int] = []

    def pooled(
        self, images: torch.Tensor, slice_present: torch.Tensor, zones: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.batches.append(len(images))
        near, far = super().pooled(images, slice_present, zones)
        return near, images.mean((1, 2, 3))[:, None] + 0 * far.flatten(1)

    def scores_of(self, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return far[:, :1].expand(-1, len(LEARNED))


def _discs(count: int) -> list[DiscVolume]:
    return [
        DiscVolume(
            voxels=np.full((9, 112, 224), 0.1 * k, np.float32),
            slice_present=np.ones(9, bool),
            patch_to_patient=np.eye(4),
            features=np.zeros(len(FEATURES), np.float32),
            zones=np.zeros((112, 224), np.uint8),
        )
        for k in range(count)
    ]


def test_all_discs_go_in_one_batch_where_they_fit() -> None:
    network = _SmallMemory(most=100)
    grade(_discs(7), network)
    assert network.batches == [7]


@pytest.mark.parametrize("most", [1, 2, 3, 6])
def test_after_running_out_of_memory_smaller_batches_give_the_same_scores(most: int) -> None:
    network = _SmallMemory(most)
    expected = torch.tensor([0.1 * k for k in range(7)])[:, None].expand(-1, len(LEARNED))
    scores, sides = scores_of(_discs(7), network)
    torch.testing.assert_close(scores, expected)
    assert sides.shape == (7, 2)
    assert max(network.batches) <= most


def test_one_disc_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        grade(_discs(2), _SmallMemory(most=0))


def test_every_learned_finding_is_graded_with_the_median_of_its_classes() -> None:
    torch.manual_seed(0)
    network = DiscGrader(features=FEATURES, slice_weights=MIDDLE_ONLY).eval()
    drawn = drawn_spine()
    graded = grade(cut(drawn.volume, drawn.spine), network)
    assert len(graded) == 3
    for grades in graded:
        assert tuple(grades) == LEARNED
        for finding, one in grades.items():
            assert one.basis is Basis.LEARNED
            assert tuple(one.probabilities) == TAUGHT[finding]
            assert sum(one.probabilities.values()) == pytest.approx(1)
            assert sum(share for value, share in one.probabilities.items() if value < one.value) < 0.5
            assert sum(share for value, share in one.probabilities.items() if value > one.value) <= 0.5


class _SaysScores(DiscGrader):
    """The network says one score for everything, regression and perceptrons another."""

    def __init__(self, seen: float, measured: float) -> None:
        super().__init__(features=FEATURES, slice_weights=MIDDLE_ONLY)
        self.seen = seen
        self.regression.bias.data.fill_(measured)
        for member in self.perceptrons.each:
            torch.nn.init.constant_(member.last.bias, measured)

    def scores_of(self, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return torch.full((len(near), len(LEARNED)), self.seen)


def _bulging(seen: float, measured: float) -> Grade:
    return grade(_discs(1), _SaysScores(seen, measured))[0][Finding.DISC_BULGING]


def test_network_regression_and_perceptrons_count_alike() -> None:
    """Log-odds 2.5, 1 and 1 are 1.5 together."""
    assert _bulging(2.5, 1.0).probabilities[1] == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert _bulging(2.5, 1.0).doubt is None


def test_two_firm_opinions_that_differ_are_told() -> None:
    doubted = _bulging(3.0, -1.0)  # 0.95 against 0.27
    assert doubted.value == 1
    assert doubted.doubt is Doubt.AT_ODDS
    assert _bulging(3.0, -0.5).doubt is None  # 0.38: not firm


def test_a_low_probability_is_told() -> None:
    assert _bulging(0.2, 0.2).doubt is Doubt.UNSURE
    assert _bulging(-0.2, -0.2).doubt is Doubt.UNSURE
    assert _bulging(0.6, 0.6).doubt is None  # 0.65


def test_below_which_probability_a_grade_is_uncertain_can_be_set() -> None:
    said = [
        grade(_discs(1), _SaysScores(0.6, 0.6), {**UNSURE, Finding.DISC_BULGING: below})[0][Finding.DISC_BULGING]
        for below in (0.64, 0.66)  # 0.65 is said
    ]
    assert [one.doubt for one in said] == [None, Doubt.UNSURE]


@settings(max_examples=50, deadline=None)
@given(seen=st.floats(0.9, 6.0), measured=st.floats(-6.0, -0.9), turned=st.booleans())
def test_an_opinion_at_odds_lowers_what_is_told(seen: float, measured: float, turned: bool) -> None:
    """Both are firm and say different things: the probability told is below that of the firmer one."""
    both = (-seen, -measured) if turned else (seen, measured)
    said = _bulging(*both)
    firmest = 1 / (1 + np.exp(-max(seen, -measured)))
    assert said.doubt is Doubt.AT_ODDS
    assert said.probabilities[said.value] < firmest


def test_pfirrmann_grades_two_apart_are_told() -> None:
    """The untrained cuts lie at -2, -0.7, 0.6, 1.9."""
    for measured, doubted in ((-3.0, True), (-1.0, True), (0.0, False)):
        said = grade(_discs(1), _SaysScores(1.2, measured))[0][Finding.PFIRRMANN]
        assert (said.doubt is Doubt.AT_ODDS) == doubted, measured


def test_canal_stenosis_is_not_learned() -> None:
    assert Finding.CENTRAL_CANAL_STENOSIS not in LEARNED


def test_no_discs_give_no_grades() -> None:
    assert grade([], _SmallMemory(most=1)) == ()
