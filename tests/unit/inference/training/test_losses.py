"""How far a label is believed, in numbers that can be checked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.training import losses
from inference.training.gradings import TARGETS, UNKNOWN
from inference.training.lesson import Material, Moment, standardised
from inference.training.losses import Weighted
from inference.training.recipe import Recipe
from tests.unit.inference.training.made_discs import made_discs

PLAIN = Weighted(
    weights={target: torch.ones(5 if target == "pfirrmann" else 2, dtype=torch.float64) for target in TARGETS},
    smoothing=0.0,
)
GRADES = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]], dtype=torch.float64)
HALF = torch.tensor([[0.75, 0.25]], dtype=torch.float64, requires_grad=True)


def loss(task: Weighted, target: str, said: Tensor, label: int, own_opinion: float = 0.0) -> Tensor:
    """Of one disc with one label."""
    labels = torch.full((1, len(TARGETS)), UNKNOWN)
    labels[0, TARGETS.index(target)] = label
    return task.of_shares({target: said}, labels, (labels != UNKNOWN).sum(0), own_opinion)


def test_as_shipped_it_is_the_log_loss_of_the_label() -> None:
    assert loss(PLAIN, "pfirrmann", GRADES, 3).item() == pytest.approx(-math.log(0.4))
    assert losses.of_network(made_discs(6), np.arange(6), Recipe()).neighbours == 0


@pytest.mark.parametrize(
    ("label", "asked"), [(1, (0.9, 0.1, 0, 0, 0)), (3, (0, 0.1, 0.8, 0.1, 0)), (5, (0, 0, 0, 0.1, 0.9))]
)
def test_a_share_of_a_grade_is_asked_of_the_grades_next_to_it(label: int, asked: tuple[float, ...]) -> None:
    expected = -sum(share * math.log(said) for share, said in zip(asked, GRADES[0].tolist(), strict=True))
    assert loss(replace(PLAIN, neighbours=0.2), "pfirrmann", GRADES, label).item() == pytest.approx(expected)


def test_yes_and_no_have_no_grades_next_to_them() -> None:
    assert loss(replace(PLAIN, neighbours=0.2), "disc_bulging", HALF, 1).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize(("forgiving", "expected"), [(1.0, 0.75), (0.5, 1.0), (1e-6, math.log(4))])
def test_the_generalised_cross_entropy_lies_between_what_was_not_said_and_its_logarithm(
    forgiving: float, expected: float
) -> None:
    """A label that was given 1/4: 1 - 1/4; 2 (1 - sqrt(1/4)); -log(1/4)."""
    task = replace(PLAIN, forgiving=forgiving)
    assert loss(task, "disc_bulging", HALF, 1).item() == pytest.approx(expected, abs=1e-5)


def test_of_its_own_opinion_nothing_is_learned() -> None:
    """Said 1/4 of a yes that is labelled yes: the gradient by the log-odds is 1/4 - 1, and of it the label's part."""
    for own_opinion, part in ((0.0, 1.0), (0.25, 0.75), (1.0, 0.0)):
        beyond = torch.tensor([[-math.log(3)]], dtype=torch.float64, requires_grad=True)
        yes = torch.sigmoid(beyond)
        loss(PLAIN, "disc_bulging", torch.cat([1 - yes, yes], 1), 1, own_opinion).backward()  # type: ignore[no-untyped-call]
        assert beyond.grad is not None
        assert beyond.grad.item() == pytest.approx(-0.75 * part)


@pytest.mark.parametrize(("done", "own_opinion"), [(0.0, 0.0), (0.3, 0.0), (0.34, 0.25), (0.99, 0.25)])
def test_an_opinion_of_its_own_counts_after_a_third_of_the_steps(done: float, own_opinion: float) -> None:
    discs, rows = made_discs(4), np.arange(4)
    moment = Moment(
        chance=np.random.default_rng(0), recipe=Recipe(own_opinion=0.25), device="cpu", part=(0, 1), done=done
    )
    material = Material(discs=discs, numbers=standardised(discs, rows), rows=rows)
    assert material.batch(rows, moment).own_opinion == own_opinion


def test_the_recipe_reaches_the_network_and_not_the_regression() -> None:
    discs, rows = made_discs(6), np.arange(6)
    doubting = Recipe(neighbours=0.2, forgiving=0.5)
    own = losses.of_network(discs, rows, doubting)
    regressions = losses.weighted(discs, rows, doubting, 0.0)
    assert (own.neighbours, own.forgiving, own.smoothing) == (0.2, 0.5, Recipe().label_smoothing)
    assert (regressions.neighbours, regressions.forgiving, regressions.smoothing) == (0, 0, 0)
