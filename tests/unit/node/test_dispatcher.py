"""The dispatcher's looks at the ledger: studies close, results go out, failures wait, refusals end loudly."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import evt

from node.dispatcher import Post, close_studies, deliver, end_strays
from node.enquiries import Enquiries
from node.ledger import Ledger, open_ledger
from node.records import DeliveryState, ReceivedInstance, ResultObject, StudyState
from node.settings import Settings
from node.spool import Spool
from tests.scripted_archive import AE_TITLE, Archive, answering, closed_port

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/node.db")
    yield opened
    opened.close()
    gc.collect()


class Bench:
    """One study with two results, a clock that is set by hand, and archives at given ports."""

    def __init__(self, folder: Path, ledger: Ledger, ports: Mapping[str, int]) -> None:
        self.ledger = ledger
        self.spool = Spool(folder / "spool", minimum_free_bytes=0)
        self.now = NOON
        archives = [
            {"name": name, "ae_title": AE_TITLE, "host": "127.0.0.1", "port": port} for name, port in ports.items()
        ]
        self.settings = Settings.model_validate(
            {"archives": archives, "delivery": {"first_delay_s": 4, "maximum_delay_s": 64, "connect_timeout_s": 1}}
        )
        self.study_id = self._receive()

    def _receive(self) -> int:
        self.ledger.record_instance(
            ReceivedInstance(
                study_instance_uid="2.25.1",
                series_instance_uid="2.25.2",
                sop_instance_uid="2.25.3",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
                transfer_syntax_uid=ExplicitVRLittleEndian,
                modality="MR",
                calling_ae_title="MODALITY",
                path=Path("received/aa/image.dcm"),
                sha256="0" * 64,
                size_bytes=1,
                received_at=NOON,
            )
        )
        return self.ledger.open_studies()[0].study_id

    def grade(self) -> None:
        """Bring the study to its end, with two results for every archive."""
        self.ledger.close_study(self.study_id, last_received_at=NOON, reason="quiet", now=NOON)
        self.ledger.take_study(self.study_id, maximum_attempts=3, now=NOON)
        results = [self._result(number) for number in (1, 2)]
        uids = [result.sop_instance_uid for result in results]
        archives = {archive.name: uids for archive in self.settings.archives}
        self.ledger.finish_graded(self.study_id, results=results, archives=archives, reason="graded", now=NOON)

    def _result(self, number: int) -> ResultObject:
        item = Dataset()
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = TEXT_SR
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = f"2.25.100{number}"
        encoded = BytesIO()
        item.save_as(encoded, enforce_file_format=True)
        stored = self.spool.store_result(encoded.getvalue())
        return ResultObject(
            sop_instance_uid=item.SOPInstanceUID,
            sop_class_uid=TEXT_SR,
            kind="text_report",
            path=stored.path,
            sha256=stored.sha256,
        )

    def look(self, archive: str = "pacs", after_s: float = 0) -> None:
        """One tick of this archive, ``after_s`` later."""
        self.now += timedelta(seconds=after_s)
        (chosen,) = [item for item in self.settings.archives if item.name == archive]
        deliver(chosen, Post(self.ledger, self.spool, self.settings, lambda: self.now))

    def counts(self, archive: str = "pacs") -> dict[DeliveryState, int]:
        return {state: n for state, n in self.ledger.delivery_counts().get(archive, {}).items() if n}

    @property
    def state(self) -> StudyState:
        return self.ledger.study(self.study_id).state


def uids(archive: Archive) -> list[str]:
    return [str(item.SOPInstanceUID) for item in archive.stored]


def nobody_to_ask(ledger: Ledger) -> Enquiries:
    return Enquiries(ledger, lambda _sender, _uid: ())


def test_a_study_closes_when_it_has_been_quiet_and_not_before(tmp_path: Path, ledger: Ledger) -> None:
    bench = Bench(tmp_path, ledger, {})
    close_studies(ledger, bench.settings, lambda: NOON + timedelta(seconds=29), nobody_to_ask(ledger))
    assert bench.state is StudyState.RECEIVING
    close_studies(ledger, bench.settings, lambda: NOON + timedelta(seconds=30), nobody_to_ask(ledger))
    assert bench.state is StudyState.QUEUED
    assert ledger.study(bench.study_id).reason == "closed with 1 image: no new image for 30 s"


def test_results_are_delivered_once_and_the_study_is_done(tmp_path: Path, ledger: Ledger) -> None:
    with answering() as archive:
        bench = Bench(tmp_path, ledger, {"pacs": archive.port})
        bench.grade()
        bench.look()
        bench.look(after_s=100)
    assert uids(archive) == ["2.25.1001", "2.25.1002"]
    assert bench.state is StudyState.DELIVERED


def test_an_archive_that_is_down_gets_everything_when_it_is_back(tmp_path: Path, ledger: Ledger) -> None:
    port = closed_port()
    bench = Bench(tmp_path, ledger, {"pacs": port})
    bench.grade()
    bench.look()
    assert bench.counts() == {DeliveryState.DUE: 2}
    with answering(port=port) as archive:
        bench.look(after_s=3.9)
        assert uids(archive) == []
        bench.look(after_s=0.1)
        assert uids(archive) == ["2.25.1001", "2.25.1002"]
        assert archive.associations == 1
    assert bench.state is StudyState.DELIVERED


def test_the_delay_grows_with_each_failure_and_the_reason_is_kept(tmp_path: Path, ledger: Ledger) -> None:
    port = closed_port()
    bench = Bench(tmp_path, ledger, {"pacs": port})
    bench.grade()
    waits = []
    for _ in range(6):
        bench.look()
        (first, _) = ledger.due_deliveries(bench.now + timedelta(days=1), limit=2)
        waits.append((first.not_before - bench.now).total_seconds())
        bench.now = first.not_before
    doubled = [4, 8, 16, 32, 64, 64]
    assert all(0.75 * longest <= wait <= longest for wait, longest in zip(waits, doubled, strict=True))
    assert first.attempts == 6
    assert first.last_status == f"cannot connect to 127.0.0.1:{port}: Connection refused"


def test_a_refusal_for_good_ends_the_delivery_loudly_and_the_operator_can_repeat_it(
    tmp_path: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    mended = False

    def refuse(_: evt.Event) -> int:
        return 0x0000 if mended else 0xA900

    with answering(refuse) as archive, caplog.at_level(logging.ERROR, "node"):
        bench = Bench(tmp_path, ledger, {"pacs": archive.port})
        bench.grade()
        bench.look()
        assert bench.counts() == {DeliveryState.DEAD: 2}
        bench.look(after_s=1e6)
        assert archive.stored == []
        mended = True
        assert ledger.retry_study("2.25.1", now=bench.now) == 2
        bench.look()
    assert uids(archive) == ["2.25.1001", "2.25.1002"]
    assert caplog.messages == ["given up until `spinenode retry`: 0xA900 data set does not match SOP class"] * 2


def test_a_dead_archive_does_not_hold_up_another(tmp_path: Path, ledger: Ledger) -> None:
    with answering() as archive:
        bench = Bench(tmp_path, ledger, {"broken": closed_port(), "pacs": archive.port})
        bench.grade()
        bench.look("pacs")
        assert len(archive.stored) == 2
    bench.look("broken")
    assert bench.counts("broken") == {DeliveryState.DUE: 2}
    assert bench.state is StudyState.GRADED


def test_a_result_whose_file_is_gone_ends_its_delivery_and_the_other_goes(tmp_path: Path, ledger: Ledger) -> None:
    with answering() as archive:
        bench = Bench(tmp_path, ledger, {"pacs": archive.port})
        bench.grade()
        gone = ledger.due_deliveries(NOON, limit=1)[0]
        bench.spool.absolute(gone.path).unlink()
        bench.look()
    assert uids(archive) == ["2.25.1002"]
    assert bench.counts() == {DeliveryState.DELIVERED: 1, DeliveryState.DEAD: 1}


def test_deliveries_to_an_archive_that_left_the_settings_end_with_the_reason(tmp_path: Path, ledger: Ledger) -> None:
    bench = Bench(tmp_path, ledger, {"old": 104})
    bench.grade()
    end_strays(ledger, Settings(), lambda: NOON)
    assert bench.counts("old") == {DeliveryState.DEAD: 2}


def test_deliveries_to_a_known_archive_are_no_strays(tmp_path: Path, ledger: Ledger) -> None:
    bench = Bench(tmp_path, ledger, {"pacs": 104})
    bench.grade()
    end_strays(ledger, bench.settings, lambda: NOON)
    assert bench.counts() == {DeliveryState.DUE: 2}
