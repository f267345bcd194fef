"""The dispatcher's look at what is received: studies close, with the priority of their sender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from node.dispatcher import close_studies
from node.enquiries import Enquiries
from node.ledger import Ledger, open_ledger
from node.looks import Looks
from node.records import ArchiveCounts, StudyState
from node.settings import SenderSettings, Settings
from tests.unit.node.sending_bench import NOON, Bench


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/node.db")
    yield opened
    opened.close()


def nobody_to_ask(ledger: Ledger) -> Enquiries:
    return Enquiries(ledger, lambda _sender, _uid: ArchiveCounts(series=()), ae_titles=(), count_confirmed_s=15)


def test_a_study_closes_when_it_has_been_quiet_and_not_before(tmp_path: Path, ledger: Ledger) -> None:
    bench = Bench(tmp_path, ledger, {})
    close_studies(
        ledger, bench.settings, lambda: NOON + timedelta(seconds=29), nobody_to_ask(ledger), Looks(ledger, bench.spool)
    )
    assert bench.state is StudyState.RECEIVING
    close_studies(
        ledger, bench.settings, lambda: NOON + timedelta(seconds=30), nobody_to_ask(ledger), Looks(ledger, bench.spool)
    )
    assert bench.state is StudyState.QUEUED
    assert ledger.study(bench.study_id).reason == "closed with 1 image: no new image for 30 s"


@pytest.mark.parametrize(("sender", "priority"), [("MODALITY", 5), ("ANOTHER", 0)])
def test_a_study_has_the_priority_of_its_sender(sender: str, priority: int, tmp_path: Path, ledger: Ledger) -> None:
    bench = Bench(tmp_path, ledger, {})
    settings = Settings.model_validate({"senders": [{"ae_title": sender, "priority": 5}]})
    close_studies(
        ledger, settings, lambda: NOON + timedelta(seconds=30), nobody_to_ask(ledger), Looks(ledger, bench.spool)
    )
    assert ledger.study(bench.study_id).priority == priority


def test_a_study_with_a_short_quiet_time_is_asked_about_before_it_closes(tmp_path: Path, ledger: Ledger) -> None:
    bench = Bench(tmp_path, ledger, {})
    asked = SenderSettings(ae_title="MODALITY", query_host="127.0.0.1", quiet_s=1)
    settings = Settings(senders=(asked,))
    enquiries = Enquiries(
        ledger, lambda _sender, _uid: ArchiveCounts(series=()), ae_titles=["MODALITY"], count_confirmed_s=1
    )
    looks = Looks(ledger, bench.spool)
    close_studies(ledger, settings, lambda: NOON + timedelta(seconds=1.5), enquiries, looks)
    assert bench.state is StudyState.RECEIVING
    enquiries.ask(asked, lambda: NOON + timedelta(seconds=2))
    close_studies(ledger, settings, lambda: NOON + timedelta(seconds=2), enquiries, looks)
    assert bench.state is StudyState.QUEUED
    reason = "closed with 1 image: no new image for 1 s; the sending archive tells no counts"
    assert ledger.study(bench.study_id).reason == reason


def test_an_archive_that_is_still_filling_ends_no_study(tmp_path: Path, ledger: Ledger) -> None:
    """It has as many images as came, because the scanner pauses."""
    bench = Bench(tmp_path, ledger, {})
    asked = SenderSettings(ae_title="MODALITY", query_host="127.0.0.1")
    settings = Settings(senders=(asked,))
    (series,) = ledger.series_counts(ledger.study(bench.study_id).study_instance_uid)
    more = replace(series, instance_count=5)
    has = ArchiveCounts(series=(series,))
    enquiries = Enquiries(ledger, lambda _sender, _uid: has, ae_titles=["MODALITY"], count_confirmed_s=15)
    looks = Looks(ledger, bench.spool)

    def at(seconds: float) -> str:
        enquiries.ask(asked, lambda: NOON + timedelta(seconds=seconds))
        close_studies(ledger, settings, lambda: NOON + timedelta(seconds=seconds), enquiries, looks)
        return ledger.study(bench.study_id).reason

    assert bench.state is StudyState.RECEIVING
    at(2)
    at(12)
    has = ArchiveCounts(series=(more,))
    assert at(17) == "waits: 4 of 5 images that the sending archive has are missing"
    at(40)
    assert bench.state is StudyState.RECEIVING
    has = ArchiveCounts(series=(series,))  # they were deleted there
    at(50)
    assert bench.state is StudyState.QUEUED
    assert ledger.study(bench.study_id).reason == (
        "closed with 1 image: no new image for 30 s; all that the sending archive has"
    )
