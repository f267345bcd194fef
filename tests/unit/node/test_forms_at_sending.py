"""What an archive does not take goes there in another form: recorded, shown, and taken back when the archive mends."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from node import status, status_text
from node.ledger import Ledger, open_ledger
from node.records import DeliveryState, ReceivedInstance, ResultObject, StudyState
from node.routing import destinations
from node.sending import Post, deliver
from node.settings import Settings
from node.spool import Spool
from tests.scripted_archive import AE_TITLE, Archive, answering

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SR_3D, SR, SR_ENHANCED = (f"1.2.840.10008.5.1.4.1.1.88.{last}" for last in (34, 33, 22))
TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
RESULTS = (
    ("2.25.101", SR_3D, "measurement_report"),
    ("2.25.102", SR, "measurement_report"),
    ("2.25.103", SR_ENHANCED, "measurement_report"),
    ("2.25.104", TEXT_SR, "text_report"),
    ("2.25.105", CAPTURE, "secondary_capture"),
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/node.db")
    yield opened
    opened.close()
    gc.collect()


class Bench:
    """A graded study with every form of its results, and one archive."""

    def __init__(self, folder: Path, ledger: Ledger, port: int, outputs: Sequence[str] = ()) -> None:
        self.ledger, self.spool = ledger, Spool(folder / "spool", minimum_free_bytes=0)
        archive = {"name": "pacs", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": port, "outputs": outputs}
        self.settings = Settings.model_validate({"archives": [archive], "node": {"data_dir": folder}})
        ledger.record_instance(
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
        self.study_id = ledger.open_studies()[0].study_id
        ledger.close_study(self.study_id, last_received_at=NOON, reason="quiet", now=NOON)
        ledger.take_study(self.study_id, maximum_attempts=3, now=NOON)
        results = [self._result(*row) for row in RESULTS]
        archives = destinations(results, self.settings.archives)
        ledger.finish_graded(self.study_id, results=results, archives=archives, reason="graded", now=NOON)

    def _result(self, uid: str, sop_class: str, kind: str) -> ResultObject:
        item = Dataset()
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = sop_class
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = uid
        encoded = BytesIO()
        item.save_as(encoded, enforce_file_format=True)
        stored = self.spool.store_result(encoded.getvalue())
        return ResultObject(
            sop_instance_uid=uid, sop_class_uid=sop_class, kind=kind, path=stored.path, sha256=stored.sha256
        )

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            deliver(self.settings.archives[0], Post(self.ledger, self.spool, self.settings, lambda: NOON))

    def counts(self) -> dict[DeliveryState, int]:
        return {state: n for state, n in self.ledger.delivery_counts()["pacs"].items() if n}

    @property
    def state(self) -> StudyState:
        return self.ledger.study(self.study_id).state


def names(archive: Archive) -> list[str]:
    return [str(item.SOPInstanceUID) for item in archive.stored]


def test_an_archive_that_takes_everything_gets_one_form_of_each(tmp_path: Path, ledger: Ledger) -> None:
    with answering() as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        bench.look(3)
    assert names(archive) == ["2.25.101", "2.25.104", "2.25.105"]
    assert bench.state is StudyState.DELIVERED


@pytest.mark.parametrize(
    ("taken", "arrived"),
    [
        ([SR, SR_ENHANCED, TEXT_SR, CAPTURE], ["2.25.104", "2.25.105", "2.25.102"]),
        ([SR_ENHANCED, TEXT_SR, CAPTURE], ["2.25.104", "2.25.105", "2.25.103"]),
        ([TEXT_SR, CAPTURE], ["2.25.104", "2.25.105"]),
        ([CAPTURE], ["2.25.105"]),
    ],
    ids=["comprehensive", "enhanced", "text", "captures only"],
)
def test_what_is_refused_goes_in_its_next_form(
    taken: list[str], arrived: list[str], tmp_path: Path, ledger: Ledger
) -> None:
    with answering(sop_classes=taken) as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        bench.look(4)
    assert names(archive) == arrived
    assert bench.state is StudyState.DELIVERED


def test_a_status_that_says_the_class_is_unknown_counts_as_refused(tmp_path: Path, ledger: Ledger) -> None:
    def answer(event: object) -> int:
        return 0x0122 if event.request.AffectedSOPClassUID == SR_3D else 0x0000  # type: ignore[attr-defined]

    with answering(answer) as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        bench.look(2)
    assert names(archive) == ["2.25.104", "2.25.105", "2.25.102"]


def test_text_goes_to_an_archive_that_wanted_only_the_measurements_and_takes_none(
    tmp_path: Path, ledger: Ledger
) -> None:
    with answering(sop_classes=[TEXT_SR]) as archive:
        bench = Bench(tmp_path, ledger, archive.port, outputs=["measurement_report"])
        bench.look(4)
    assert names(archive) == ["2.25.104"]
    assert bench.state is StudyState.DELIVERED


def test_the_status_tells_what_went_instead_of_what(tmp_path: Path, ledger: Ledger) -> None:
    with answering(sop_classes=[SR, TEXT_SR, CAPTURE]) as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        bench.look(2)
    shown = status_text.of_node(status.of_node(bench.settings, limit=5))
    assert "1 replaced" in shown
    assert "not delivered" not in shown
    assert (
        f"pacs: {AE_TITLE}@127.0.0.1:{archive.port} accepts no presentation context for Comprehensive 3D SR Storage in "
        "Explicit VR Little Endian; measurement_report goes there as Comprehensive SR Storage instead" in shown
    )


def test_an_archive_that_takes_nothing_leaves_something_for_the_operator(tmp_path: Path, ledger: Ledger) -> None:
    with answering(sop_classes=[]) as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        bench.look(6)
        assert names(archive) == []
    assert bench.counts()[DeliveryState.DEAD] == 1
    assert bench.state is StudyState.GRADED


def test_after_the_archive_was_mended_a_retry_sends_the_first_forms_once(tmp_path: Path, ledger: Ledger) -> None:
    with answering(sop_classes=[]) as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        bench.look(6)
    with answering(port=archive.port) as mended:
        assert ledger.retry_study("2.25.1", now=NOON) > 0
        bench.look(3)
    assert names(mended) == ["2.25.101", "2.25.104", "2.25.105"]
    assert bench.state is StudyState.DELIVERED


def test_a_retry_leaves_a_form_alone_that_has_arrived(tmp_path: Path, ledger: Ledger) -> None:
    """Two measurement reports of one run in one study would be two opinions to a viewer."""
    with answering(sop_classes=[SR, TEXT_SR, CAPTURE]) as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        bench.look(2)
    with answering(port=archive.port) as richer:
        assert ledger.retry_study("2.25.1", now=NOON) == 0
        bench.look(2)
        assert names(richer) == []


@pytest.mark.parametrize("status", [0xA900, 0xC000])
def test_a_content_that_is_refused_goes_in_its_next_form_too(status: int, tmp_path: Path, ledger: Ledger) -> None:
    def answer(event: object) -> int:
        return status if event.request.AffectedSOPClassUID == SR_3D else 0x0000  # type: ignore[attr-defined]

    with answering(answer) as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        bench.look(2)
    assert names(archive) == ["2.25.104", "2.25.105", "2.25.102"]
    assert bench.state is StudyState.DELIVERED


def test_what_is_refused_in_every_form_ends_with_one_dead_letter(tmp_path: Path, ledger: Ledger) -> None:
    with answering(lambda _: 0xA900) as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        bench.look(6)
    assert bench.counts() == {DeliveryState.REPLACED: 4, DeliveryState.DEAD: 1}


def test_a_file_s_own_fault_replaces_nothing(tmp_path: Path, ledger: Ledger) -> None:
    with answering() as archive:
        bench = Bench(tmp_path, ledger, archive.port)
        first = ledger.due_deliveries(NOON, limit=1)[0]
        bench.spool.absolute(first.path).unlink()
        bench.look(2)
    assert bench.counts() == {DeliveryState.DEAD: 1, DeliveryState.DELIVERED: 2}
