"""Four steps of narrowing: whether was learned, how much is measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.anatomy import DiscLevel
from inference.grades import Basis, Doubt, Grade
from inference.narrowing import USUAL_HEIGHT_INDEX, graded, losses_percent, step

LUMBAR = tuple(DiscLevel)[4:]


def learned(narrowed: float, doubt: Doubt | None = None) -> Grade:
    chances = {1: 1 - narrowed, 2: narrowed}
    return Grade(value=1 + (narrowed > 0.5), probabilities=chances, basis=Basis.LEARNED, doubt=doubt)


def usual(*lost_percent: float) -> list[float]:
    """Height indices of the lumbar discs that have lost so much of what is usual."""
    return [USUAL_HEIGHT_INDEX[level] * (1 - lost / 100) for level, lost in zip(LUMBAR, lost_percent, strict=True)]


def test_a_disc_is_compared_with_its_level_and_with_the_preserved_discs_of_its_spine() -> None:
    assert losses_percent(LUMBAR, usual(0, 0, 0, 0, 40)) == pytest.approx([0, 0, 0, 0, 40], abs=1e-9)
    # all discs 8 % lower than usual: a slight build, and what has lost 40 % of the usual has lost less of its own
    assert losses_percent(LUMBAR, usual(8, 8, 8, 8, 40)) == pytest.approx(
        [0, 0, 0, 0, 100 * (1 - 0.6 / 0.92)], abs=1e-9
    )


def test_a_spine_whose_discs_are_all_narrow_does_not_pass_for_a_slight_one() -> None:
    assert min(losses_percent(LUMBAR, usual(50, 50, 50, 50, 50))) == pytest.approx(100 * (1 - 0.5 / 0.9))


def test_a_disc_without_a_height_has_no_loss_and_spoils_no_other() -> None:
    losses = losses_percent(LUMBAR, [*usual(0, 0, 0, 40, 0)[:4], math.nan])
    assert losses[3] == pytest.approx(40)
    assert math.isnan(losses[4])
    assert all(math.isnan(loss) for loss in losses_percent(LUMBAR, [math.nan] * 5))


@pytest.mark.parametrize(("loss", "expected"), [(-5, 2), (29.9, 2), (30, 3), (60, 3), (60.1, 4), (90, 4)])
def test_the_steps_are_griffiths(loss: float, expected: int) -> None:
    assert step(loss) == expected
    assert graded(learned(0.9), loss).value == expected


@given(narrowed=st.floats(0.001, 0.999), loss=st.floats(-50, 100))
def test_the_learned_yes_or_no_decides_whether_and_the_measurement_how_much(narrowed: float, loss: float) -> None:
    said = graded(learned(narrowed), loss)
    assert said.value == (step(loss) if narrowed > 0.5 else 1)
    assert said.basis is Basis.MEASURED
    assert said.probabilities[1] == pytest.approx(1 - narrowed)
    assert sum(said.probabilities.values()) == pytest.approx(1)
    assert tuple(said.probabilities) == (1, 2, 3, 4)


def test_a_loss_at_the_limit_of_two_steps_leaves_both_open() -> None:
    said = graded(learned(0.9), 30)
    assert said.probabilities[2] == pytest.approx(0.45)
    assert said.probabilities[3] == pytest.approx(0.45, abs=0.001)


@pytest.mark.parametrize(
    ("narrowed", "loss", "doubt"),
    [
        (0.2, 35, Doubt.AT_ODDS),  # firmly none, but a third of the height is gone
        (0.2, 25, None),
        (0.4, 35, None),  # not firmly
        (0.9, -1, Doubt.AT_ODDS),  # firmly narrowed, but as high as ever
        (0.9, 1, None),
        (0.8, 30, Doubt.UNSURE),  # 0.4 for each of two steps
    ],
)
def test_where_learned_and_measured_firmly_disagree_it_is_said(
    narrowed: float, loss: float, doubt: Doubt | None
) -> None:
    assert graded(learned(narrowed), loss).doubt is doubt


def test_the_doubt_of_the_learned_grade_stays() -> None:
    assert graded(learned(0.55, Doubt.UNSURE), 20).doubt is Doubt.UNSURE


def test_without_a_height_the_mildest_step_is_said_as_uncertain() -> None:
    said = graded(learned(0.9), None)
    assert (said.value, said.doubt) == (2, Doubt.UNSURE)
    assert "not measured" in said.criterion
    assert (graded(learned(0.1), None).value, graded(learned(0.1), None).doubt) == (1, None)
