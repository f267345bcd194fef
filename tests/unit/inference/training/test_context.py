"""Discs judged beside the others of their spine: nothing leaks, nothing depends on how many there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.networks.odds import LEARNED
from inference.training import context, context_models, grading_scores, grading_tables, losses, marked_page
from inference.training.calibration import OutOfFold
from inference.training.context_models import KINDS, Context, Material, said_again, shortened, spines_of, taught
from inference.training.grading_scores import auc
from inference.training.gradings import TARGETS, UNKNOWN, GradedDiscs
from tests.unit.inference.training.made_discs import made_discs

NARROWED = "disc_narrowing"
ALONG = [kind for kind in KINDS if kind != "each disc for itself"]


def material(labels: NDArray[np.int64], seen: NDArray[np.float64]) -> Material:
    table = np.full((len(labels), len(TARGETS)), UNKNOWN)
    table[:, TARGETS.index(NARROWED)] = labels
    return Material(
        seen=torch.from_numpy(seen).float(),
        means={NARROWED: torch.zeros(len(labels), 1)},
        labels=torch.from_numpy(table),
    )


def some(kind: str) -> Context:
    """A model that has something to add."""
    torch.manual_seed(3)
    model = Context(kind, 2, (NARROWED,)).eval()
    torch.nn.init.normal_(model.out.weight)
    return model


def test_a_spine_is_its_image_s_discs_from_head_to_foot() -> None:
    image, place = np.array([7, 7, 4, 7, 4]), np.array([1, 3, 1, 2, 2])
    assert spines_of(image, place).tolist() == [[4, 2, -1], [1, 3, 0]]


@pytest.mark.parametrize("kind", KINDS)
def test_untaught_it_says_the_mean_of_the_two_opinions(kind: str) -> None:
    means = {"pfirrmann": torch.randn(2, 9, 4), NARROWED: torch.randn(2, 9, 1)}
    present = torch.arange(9)[None] < torch.tensor([[3], [9]])
    told = Context(kind, 5, tuple(means)).eval()(torch.randn(2, 9, 5), present, means)
    for target, mean in means.items():
        torch.testing.assert_close(told[target], mean)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", range(1, 10))
def test_what_is_said_of_a_spine_is_the_same_beside_longer_ones(kind: str, count: int) -> None:
    chance = np.random.default_rng(count)
    known, model = material(np.zeros(19, int), chance.normal(size=(19, 2))), some(kind)
    alone = np.arange(count)[None]
    beside = np.full((2, 10), -1)
    beside[0, :count], beside[1] = np.arange(count), np.arange(9, 19)
    _, told = said_again(model, known, alone)
    rows, told_beside = said_again(model, known, beside)
    assert rows.tolist() == [*range(count), *range(9, 19)]
    torch.testing.assert_close(told_beside[NARROWED][:count], told[NARROWED], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_discs_count_for_those_that_look_along_the_spine(kind: str) -> None:
    model, seen = some(kind), np.ones((3, 2))
    _, told = said_again(model, material(np.zeros(3, int), seen), np.array([[0, 1, 2]]))
    seen[0] = -1
    _, told_again = said_again(model, material(np.zeros(3, int), seen), np.array([[0, 1, 2]]))
    moved = (told[NARROWED][2] - told_again[NARROWED][2]).abs().item()
    assert (moved > 1e-4) == (kind in ALONG)


def test_spines_are_shortened_to_neighbours_that_stay_three() -> None:
    spines = np.array([[*range(9)], [*range(9, 13), *[-1] * 5]])
    lengths = set()
    for seed in range(40):
        for whole, cut in zip(spines, shortened(spines, np.random.default_rng(seed)), strict=True):
            left = cut[cut >= 0]
            assert cut[: len(left)].tolist() == left.tolist()
            assert set(left) <= set(whole)
            assert (np.diff(left) == 1).all()
            lengths.add(len(left))
    assert lengths == set(range(3, 10))


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_disc_above_knows_is_found_with_as_many_spines_as_spider_has(kind: str) -> None:
    """105 spines of seven discs to learn from and 35 to stop by. A disc's own score is worth an AUC of 0.80, together
    with that of the disc above 0.85. Every tenth label is missing."""
    chance = np.random.default_rng(0)
    own = chance.normal(size=(240, 7))
    above = np.pad(own[:, :-1], ((0, 0), (1, 0)))
    truth = (own + 0.7 * above + chance.normal(size=own.shape) > 0).ravel().astype(int)
    known = material(
        np.where(np.arange(truth.size) % 10 == 0, UNKNOWN, truth), np.stack([own, 0 * own], -1).reshape(-1, 2)
    )
    known.means[NARROWED].copy_(torch.from_numpy(1.3 * own.reshape(-1, 1)))
    weights = {target: torch.ones(5 if target == "pfirrmann" else 2) for target in TARGETS}
    spines = np.arange(truth.size).reshape(own.shape)
    torch.manual_seed(0)
    model = Context(kind, 2, (NARROWED,))
    taught(model, known, losses.Weighted(weights=weights, smoothing=0.0), (spines[:105], spines[105:140]), seed=0)
    with torch.inference_mode():
        rows, told = said_again(model, known, spines[140:])
    gained = auc(truth[rows], told[NARROWED][:, 0].double().numpy()) - auc(truth[rows], own.ravel()[rows])
    assert gained > 0.025 if kind in ALONG else abs(gained) < 0.005


def _said(discs: GradedDiscs) -> OutOfFold:
    chance = np.random.default_rng(2)
    scores, regression_scores, perceptron_scores = chance.normal(size=(3, len(discs), len(LEARNED)))
    cuts = np.tile([-2.0, -0.5, 0.5, 2.0], (len(discs), 1))
    return OutOfFold(
        scores=scores,
        cuts=cuts,
        regression_scores=regression_scores,
        regression_cuts=cuts,
        perceptron_scores=perceptron_scores,
        perceptron_cuts=cuts,
        fold=discs.patient % 3,
        findings=np.array([finding.value for finding in LEARNED]),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_patient_s_labels_have_no_part_in_what_is_said_of_him(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_models, "EPOCHS", 2)
    discs = made_discs(24)
    said = _said(discs)
    held_out = said.fold == 1
    labels = discs.labels.copy()
    labels[held_out, TARGETS.index("pfirrmann")] = 6 - labels[held_out, TARGETS.index("pfirrmann")]
    labels[held_out, 1:-1] = np.where(labels[held_out, 1:-1] == UNKNOWN, UNKNOWN, 1 - labels[held_out, 1:-1])
    one, other = (
        context.again(each, said, kind, context.GIVEN[1], 1).together for each in (discs, replace(discs, labels=labels))
    )
    for target, shares in one.items():
        np.testing.assert_array_equal(shares[held_out], other[target][held_out])
    assert any((shares[~held_out] != other[target][~held_out]).any() for target, shares in one.items())


def test_the_opinions_gain_nothing_on_themselves_and_the_truth_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading_scores, "DRAWS", 60)
    discs = made_discs(24)
    said = _said(discs)
    found, everyone = grading_tables.evaluated(discs, said), np.ones(24, bool)
    assert context.gain(found, found.together, found.targets, said.fold, everyone) == (0, 0, 0)
    truth = dict(found.together)
    truth[NARROWED] = np.eye(2)[discs.labels[:, TARGETS.index(NARROWED)]]
    value, low, high = context.gain(found, truth, (NARROWED,), said.fold, everyone)
    assert 0 < low <= value <= high <= 1


def test_an_offset_between_folds_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of two folds that differ by a constant put their discs in the same order."""
    monkeypatch.setattr(grading_scores, "DRAWS", 3)
    discs = made_discs(24)
    said = _said(discs)
    found, everyone = grading_tables.evaluated(discs, said), np.ones(24, bool)
    yes = found.together[NARROWED][:, 1] * np.where(said.fold == 0, 0.01, 1)
    assert context.gain(found, {NARROWED: np.stack([1 - yes, yes], 1)}, (NARROWED,), said.fold, everyone) == (0, 0, 0)


def test_the_table_says_how_each_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_models, "EPOCHS", 0)
    monkeypatch.setattr(grading_scores, "DRAWS", 3)
    discs = made_discs(24)
    said = _said(discs)
    found, ways = context.compare(discs, said, seeds=2)
    text = context.table(found, ways, said.fold, np.ones(24, bool))
    rows = [line for line in text.splitlines() if line.startswith("| transformer along the spine | log-odds |")]
    assert len(ways) == 6
    assert rows[1].count("+0.000 (+0.000 to +0.000)") == len(found.targets) + 1


def test_a_page_keeps_all_that_stands_outside_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    marked_page.write(page, ("<a>", "</a>"), "one")
    marked_page.write(page, ("<b>", "</b>"), "two")
    marked_page.write(page, ("<a>", "</a>"), "three")
    assert page.read_text() == "# Page\n\n<a>\n\nthree\n\n</a>\n\n<b>\n\ntwo\n\n</b>\n"
