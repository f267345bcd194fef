"""What is measured of a stack is kept and read back; other weights or other code measure it again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.grades import Finding
from inference.report import Method
from inference.training import evidence_run
from inference.training.evidence_run import Scores, load, merged, store
from inference.training.evidence_sanity import CurveRow, RandomisedRow
from inference.training.evidence_scores import Row


def one_stack(patient: int) -> Scores:
    curve = np.array([0.5, 0.25])
    return Scores(
        located=[Row(map="x", finding=Finding.PFIRRMANN, patient=patient, abnormal=True, pointing=1.0, energy=0.25)],
        curves=[
            CurveRow(
                map="x",
                finding=Finding.DISC_BULGING,
                patient=patient,
                deletion=curve,
                deletion_random=2 * curve,
                insertion=3 * curve,
                insertion_random=4 * curve,
            )
        ],
        randomised=[RandomisedRow(map="x", layer="first layer", patient=patient, rank_correlation=0.5)],
        mean_maps={(Method.GRADIENT_SALIENCY, Finding.PFIRRMANN): np.eye(28, 56)},
        mean_regions={Finding.PFIRRMANN: np.eye(28, 56)},
        discs=[7],
        missed=[1],
    )


def test_a_stack_is_read_back_as_it_was(tmp_path: Path) -> None:
    scores = one_stack(3)
    store(scores, tmp_path / "kept" / "3.npz")
    again = load(tmp_path / "kept" / "3.npz")
    assert (again.located, again.randomised, again.discs, again.missed) == (
        scores.located,
        scores.randomised,
        [7],
        [1],
    )
    np.testing.assert_array_equal(again.curves[0].insertion_random, [2.0, 1.0])
    assert again.curves[0].finding is Finding.DISC_BULGING
    assert again.mean_maps.keys() == scores.mean_maps.keys()
    np.testing.assert_array_equal(again.mean_regions[Finding.PFIRRMANN], np.eye(28, 56))


def test_stacks_are_joined_and_their_maps_added() -> None:
    both = merged([one_stack(3), one_stack(5)])
    assert [row.patient for row in both.located] == [3, 5]
    assert both.discs == [7, 7]
    np.testing.assert_array_equal(both.mean_regions[Finding.PFIRRMANN], 2 * np.eye(28, 56))


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    monkeypatch.setattr(evidence_run, "read", lambda root, patient, models: patient)

    def of_stack(patient: int, models: Any, is_checked: bool) -> Scores:
        measured.append(patient)
        return one_stack(patient)

    monkeypatch.setattr(evidence_run, "_measured", of_stack)
    models: Any = SimpleNamespace(identity=SimpleNamespace(sha256="5a" * 32))
    evidence_run.evaluate(Path(), models, [3, 5], tmp_path)
    whole = evidence_run.evaluate(Path(), models, [3, 5, 8], tmp_path)
    assert measured == [3, 5, 8]
    assert [row.patient for row in whole.located] == [3, 5, 8]
    other: Any = SimpleNamespace(identity=SimpleNamespace(sha256="6b" * 32))
    evidence_run.evaluate(Path(), other, [3], tmp_path)
    assert measured == [3, 5, 8, 3]
