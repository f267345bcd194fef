"""A graded study, archives at given ports, and a clock that is set by hand: what the tests of sending stand on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from node.breaker import BreakerState
from node.ledger import Ledger
from node.records import DeliveryState, ReceivedInstance, ResultObject, StudyState
from node.sending import Post, deliver, give_up_old
from node.settings import Settings
from node.spool import Spool
from tests.scripted_archive import AE_TITLE, Archive

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
DAY_S = 86400


class Bench:
    """Studies with results for every archive; the first one is received, and ``grade`` brings it to its end."""

    def __init__(self, folder: Path, ledger: Ledger, ports: Mapping[str, int], **delivery: Any) -> None:
        self.ledger = ledger
        self.spool = Spool(folder / "spool", minimum_free_bytes=0)
        self.now = NOON
        self.use(ports, **delivery)
        self.study_id = self.receive(1)

    def use(self, ports: Mapping[str, int], **delivery: Any) -> None:
        """From now on the settings name these archives."""
        archives = [
            {"name": name, "ae_title": AE_TITLE, "host": "127.0.0.1", "port": port} for name, port in ports.items()
        ]
        limits = {"first_delay_s": 4, "maximum_delay_s": 64, "connect_timeout_s": 1} | delivery
        self.settings = Settings.model_validate({"archives": archives, "delivery": limits})

    def receive(self, number: int) -> int:
        """An image of study 2.25.<number>."""
        self.ledger.record_instance(
            ReceivedInstance(
                study_instance_uid=f"2.25.{number}",
                series_instance_uid=f"2.25.{number}.1",
                sop_instance_uid=f"2.25.{number}.1.1",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
                transfer_syntax_uid=ExplicitVRLittleEndian,
                modality="MR",
                calling_ae_title="MODALITY",
                path=Path(f"received/aa/image{number}.dcm"),
                sha256=f"{number:064d}",
                size_bytes=1,
                received_at=self.now,
            )
        )
        return self.ledger.open_studies()[-1].study_id

    def grade(self, number: int = 1, *, objects: int = 2, priority: int = 0) -> int:
        """Bring a study to its end, with results for every archive; study 1 is there already."""
        study_id = self.study_id if number == 1 else self.receive(number)
        self.ledger.close_study(study_id, last_received_at=self.now, reason="quiet", now=self.now, priority=priority)
        self.ledger.take_study(study_id, maximum_attempts=3, now=self.now)
        results = [self._result(1000 * number + count) for count in range(1, objects + 1)]
        uids = [result.sop_instance_uid for result in results]
        archives = {archive.name: uids for archive in self.settings.archives}
        self.ledger.finish_graded(study_id, results=results, archives=archives, reason="graded", now=self.now)
        return study_id

    def _result(self, number: int) -> ResultObject:
        item = Dataset()
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = TEXT_SR
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number}"
        item.StudyInstanceUID = f"2.25.{number // 1000}"
        item.SeriesInstanceUID = f"2.25.{number // 1000}.9"
        item.PatientName, item.PatientID, item.Modality = "Doe^Jane", "12345", "SR"
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

    @property
    def post(self) -> Post:
        return Post(self.ledger, self.spool, self.settings, lambda: self.now)

    def look(self, archive: str = "pacs", after_s: float = 0) -> None:
        """One tick of this archive, ``after_s`` later."""
        self.now += timedelta(seconds=after_s)
        (chosen,) = [item for item in self.settings.archives if item.name == archive]
        deliver(chosen, self.post)

    def look_when_due(self, archive: str = "pacs") -> None:
        """One tick when the archive is next asked."""
        self.now = self.ledger.archives.health(archive, now=self.now).not_before or self.now
        self.look(archive)

    def give_up_old(self) -> None:
        give_up_old(self.post)

    def counts(self, archive: str = "pacs") -> dict[DeliveryState, int]:
        return {state: n for state, n in self.ledger.delivery_counts().get(archive, {}).items() if n}

    @property
    def state(self) -> StudyState:
        return self.ledger.study(self.study_id).state


def uids(archive: Archive) -> list[str]:
    """What it has stored, in order."""
    return [str(item.SOPInstanceUID) for item in archive.stored]


def breaker_of(bench: Bench, archive: str = "pacs") -> BreakerState:
    return bench.ledger.archives.health(archive, now=bench.now).state


def deliveries(bench: Bench) -> dict[str, tuple[DeliveryState, int, str]]:
    """SOP Instance UID -> state, attempts, last status of what has not arrived."""
    return {
        item.sop_instance_uid: (item.state, item.attempts, item.last_status)
        for item in bench.ledger.undelivered(limit=100)
    }
