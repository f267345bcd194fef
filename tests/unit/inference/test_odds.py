"""What scores mean, and how three opinions become one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.grades import TAUGHT, Finding
from inference.networks import odds
from inference.networks.odds import LEARNED, MARROW, Cuts


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _beyond(**values: float) -> odds.LogOdds:
    """Log-odds 0 of everything but what is given by name."""
    scores = torch.zeros(1, len(LEARNED))
    for name, value in values.items():
        scores[0, LEARNED.index(Finding(name))] = value
    return odds.log_odds(scores, torch.tensor([-2.0, -1.0, 1.0, 2.0]))


@settings(max_examples=25, deadline=None)
@given(scores=st.lists(st.floats(-20, 20), min_size=len(LEARNED), max_size=len(LEARNED)))
def test_probabilities_are_shares_of_the_findings_classes(scores: list[float]) -> None:
    with torch.no_grad():
        probabilities = odds.probabilities(odds.log_odds(torch.tensor([scores]), Cuts()()))
    assert list(probabilities) == list(LEARNED)
    for finding, shares in probabilities.items():
        assert shares.shape == (1, len(TAUGHT[finding]))
        assert (shares >= 0).all()
        assert shares.sum().item() == pytest.approx(1, abs=1e-5)


def test_a_binary_finding_is_positive_above_zero() -> None:
    for score, expected in ((0.1, 1), (-0.1, 0)):
        assert odds.probabilities(_beyond(disc_narrowing=score))[Finding.DISC_NARROWING].argmax(1).item() == expected


def test_the_pfirrmann_score_rises_through_the_five_classes() -> None:
    said = [odds.probabilities(_beyond(pfirrmann=s))[Finding.PFIRRMANN].cumsum(1) for s in (-9.0, -1.5, 0.0, 1.5, 9.0)]
    assert [int((each < 0.5).sum()) for each in said] == [0, 1, 2, 3, 4]


def test_cuts_ascend() -> None:
    cuts = Cuts()
    torch.nn.init.constant_(cuts.steps, -3.0)
    assert (cuts()[1:] > cuts()[:-1]).all()


def test_either_of_two_sides() -> None:
    sides = torch.tensor([[_logit(0.5), _logit(0.5)], [_logit(0.2), _logit(0.1)]])
    torch.testing.assert_close(torch.sigmoid(odds.either(sides)), torch.tensor([0.75, 0.28]))


def _said(*opinions: odds.LogOdds) -> odds.Opinions:
    return odds.Opinions(network=opinions[0], regression=opinions[1], perceptrons=opinions[2])


def test_three_opinions_count_alike() -> None:
    """Log-odds 2, -1 and 0.5 are 0.5 together; a sharpness of 2 doubles that."""
    said = _said(_beyond(disc_bulging=2.0), _beyond(disc_bulging=-1.0), _beyond(disc_bulging=0.5))
    for sharpness, expected in ((1.0, 0.5), (2.0, 1.0)):
        both = odds.averaged(said, torch.full((len(LEARNED),), sharpness), torch.zeros(1, 2))
        assert both[Finding.DISC_BULGING].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sides", "changed"),
    [((3.0, -3.0), Finding.UPPER_MARROW_CHANGE), ((-3.0, 3.0), Finding.LOWER_MARROW_CHANGE)],
)
def test_on_which_side_the_marrow_changed_is_for_the_comparison_to_say(
    sides: tuple[float, float], changed: Finding
) -> None:
    """All opinions are sure of a change and, as nothing taught them the sides, put it on the lower one."""
    sure = _beyond(upper_marrow_change=-7.0, lower_marrow_change=3.0)
    both = odds.probabilities(odds.averaged(_said(sure, sure, sure), torch.ones(len(LEARNED)), torch.tensor([sides])))
    chance = {finding: both[finding][0, 1].item() for finding in MARROW}
    assert chance.pop(changed) > 0.9
    assert max(chance.values()) < 0.1


def test_the_likelier_side_has_the_joint_probability_and_the_other_one_its_share_of_it() -> None:
    same = _beyond(upper_marrow_change=1.0, lower_marrow_change=-2.0)
    said = odds.averaged(_said(same, same, same), torch.ones(len(LEARNED)), torch.tensor([[-2.0, 0.0]]))
    both = odds.probabilities(said)
    upper, lower = (both[finding][0, 1].item() for finding in MARROW)
    either = 1 - (1 - 1 / (1 + math.exp(-1))) * (1 - 1 / (1 + math.exp(2)))
    assert lower == pytest.approx(either, abs=1e-5)
    assert upper == pytest.approx(either * (1 / (1 + math.exp(2))) / 0.5, abs=1e-5)
