"""A study whose images retention has had: what becomes of late images, of the study sent again, and of `retry`."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest

from node import overview
from node.ledger import Ledger, open_ledger
from node.records import StudyState
from node.retention import Keeper
from node.settings import Settings
from node.spool import Spool
from tests.report_factories import GradedStudy, graded_study
from tests.unit.node.study_job.bench import CLOSED, START, Bench

LATE = START + timedelta(days=60)
REASON = (
    "15 images of it were deleted on 2026-04-13, after the archives had proved that they hold its results: "
    "send the whole study again"
)


@pytest.fixture(scope="module")
def study() -> GradedStudy:
    return graded_study()


def late_image(study: GradedStudy) -> pydicom.Dataset:
    image = deepcopy(study.source[-1])
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "2.25.16"
    return image


@pytest.fixture(autouse=True)
def _captures_only_where_they_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sr_templates.secondary_capture.captures", lambda *_: ())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    archive = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    return Settings.model_validate({"archives": [archive], "node": {"data_dir": tmp_path}})


@pytest.fixture
def bench(settings: Settings, study: GradedStudy) -> Iterator[Bench]:
    """Of a study of which fifteen images were graded, proven and deleted."""
    ledger = open_ledger(settings.database_url)
    made = Bench(ledger, Spool(settings.spool_dir, minimum_free_bytes=0), lambda _: study.report, settings)
    assert made.work(made.receive(study.source)) is StudyState.GRADED
    prove(ledger, made)
    Keeper(settings, ledger, made.spool, lambda: CLOSED + timedelta(days=30, hours=1)).look()
    yield made
    ledger.close()


def prove(ledger: Ledger, bench: Bench) -> None:
    for delivery in ledger.due_deliveries(bench.clock, limit=99):
        ledger.delivery_delivered(delivery.delivery_id, status="0x0000", now=bench.clock)
    numbers = [item.delivery_id for item in ledger.proofs.due("pacs", bench.clock, limit=99)]
    ledger.proofs.found(numbers, how="C-FIND", now=bench.clock)


def test_a_late_image_is_not_graded_as_if_it_were_the_study(bench: Bench, study: GradedStudy) -> None:
    bench.seen = 0
    study_id = bench.receive([late_image(study)], at=LATE)
    assert bench.work(study_id) is StudyState.DECLINED
    assert bench.ledger.study(study_id).reason == REASON
    assert bench.seen == 0


def test_sent_again_it_is_graded_with_the_late_image(bench: Bench, study: GradedStudy) -> None:
    bench.work(bench.receive([late_image(study)], at=LATE))
    study_id = bench.receive([*study.source, late_image(study)], at=LATE + timedelta(hours=1))
    assert bench.work(study_id) is StudyState.GRADED
    assert len(bench.ledger.instances(study_id)) == 16


def test_sent_again_unchanged_its_results_stand(bench: Bench, study: GradedStudy) -> None:
    study_id = bench.receive(study.source, at=LATE)
    assert bench.work(study_id) is StudyState.UNCHANGED


def test_retry_says_what_to_do(bench: Bench, study: GradedStudy, settings: Settings) -> None:
    study_id = bench.receive([late_image(study)], at=LATE)
    bench.work(study_id)
    with pytest.raises(overview.NothingToRetry, match=f"study {study_id}: {REASON}"):
        overview.retry(settings, str(study_id))
    assert bench.ledger.study(study_id).state is StudyState.DECLINED


def test_retry_asks_for_proof_that_is_missing(settings: Settings, study: GradedStudy) -> None:
    ledger = open_ledger(settings.database_url)
    bench = Bench(ledger, Spool(settings.spool_dir, minimum_free_bytes=0), lambda _: study.report, settings)
    study_id = bench.receive(study.source)
    bench.work(study_id)
    for delivery in ledger.due_deliveries(bench.clock, limit=99):
        ledger.delivery_delivered(delivery.delivery_id, status="0x0000", now=bench.clock)
    ledger.proofs.postpone("pacs", why="away", until=bench.clock + timedelta(days=9999), now=bench.clock)
    assert not ledger.proofs.due("pacs", bench.clock + timedelta(days=999), limit=9)
    assert overview.retry(settings, str(study_id)).startswith(f"study {study_id}: tried again (2 set going)")
    assert len(ledger.proofs.due("pacs", bench.clock + timedelta(days=999), limit=9)) == 2
    ledger.close()
