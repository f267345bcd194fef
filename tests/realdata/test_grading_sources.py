"""SPIDER as it lies here: who and what is taught, and the folds that the figures were made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.training import grading_sources, spider
from inference.training.grading_sources import Layout
from inference.training.gradings import MARROW_TARGET

pytestmark = pytest.mark.realdata


def test_every_t2_image_and_stack_is_taken_with_the_labels_of_its_patient(data_root: Path) -> None:
    root = data_root / "spider"
    data = grading_sources.read(root, Layout.SHARED)
    assert len(data.patients) == 179
    assert sum(not each.name.endswith("SPACE") for each in data.series) == 172
    assert sum(each.name.endswith("SPACE") for each in data.series) == 30
    assert data.left_out == ()
    for series in data.series:
        for level, labels in series.labels.items():
            assert "central_canal_stenosis" not in labels, level
    first = next(each for each in data.series if each.patient == 1)
    assert [labels["pfirrmann"] for labels in first.labels.values()][:2] == [3, 3]
    assert [labels[MARROW_TARGET] for labels in first.labels.values()][:2] == [0, 0]


def test_folds_are_dealt_as_ever(data_root: Path) -> None:
    root = data_root / "spider"
    dealt = spider.folds(spider.patients(root), 5, 20, apart=spider.stack_patients(root))
    fold = grading_sources.folds(grading_sources.read(root, Layout.SHARED), 5, 20)
    assert fold == {patient: k for k, patients in enumerate(dealt) for patient in patients}
