"""Evidence maps of the shipped networks on real stacks with masks. ``docs/evidence.md`` has the whole comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.evidence import DEFAULT_METHOD
from inference.report import Method
from inference.training import evidence_page, evidence_run, spider
from inference.training.evidence_run import Scores
from inference.training.evidence_scores import BASELINE, UNIFORM
from inference.weights import load_models

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def scores(data_root: Path) -> Scores:
    root = data_root / "spider"
    return evidence_run.evaluate(root, load_models("cpu"), spider.stack_patients(root)[:3], sanity_stacks=3)


def _mean_energy(scores: Scores, name: str) -> float:
    return float(np.mean([row.energy for row in scores.located if row.map == name]))


def test_every_disc_found_is_a_disc(scores: Scores) -> None:
    assert sum(scores.missed) == 0
    assert all(6 <= count <= 9 for count in scores.discs)


def test_every_method_puts_more_into_the_expected_regions_than_the_centre_gaussian(scores: Scores) -> None:
    for method in Method:
        assert _mean_energy(scores, method.value) > _mean_energy(scores, BASELINE) > _mean_energy(scores, UNIFORM)


def _lost(scores: Scores, name: str) -> float:
    return float(np.mean([row.deletion_random - row.deletion for row in scores.curves if row.map == name]))


def test_deleting_what_the_default_map_shows_lowers_the_score_more_than_deleting_the_centre(scores: Scores) -> None:
    assert _lost(scores, DEFAULT_METHOD.value) > _lost(scores, BASELINE) > 0


def test_deleting_and_showing_what_any_map_shows_moves_the_score_more_than_random_order(scores: Scores) -> None:
    for method in Method:
        rows = [row for row in scores.curves if row.map == method.value]
        assert _lost(scores, method.value) > 0.5
        assert np.mean([row.insertion - row.insertion_random for row in rows]) > 0.5


def test_the_default_map_changes_with_the_weights(scores: Scores) -> None:
    spoilt = [row.rank_correlation for row in scores.randomised if row.map == DEFAULT_METHOD.value]
    assert spoilt[-1] < evidence_page.MOST_ALIKE
