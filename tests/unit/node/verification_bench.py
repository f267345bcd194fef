"""Studies with delivered results and an archive that is asked to prove them; the clock is set by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from node import verification
from node.ledger import Ledger
from node.proofs import CommitmentState
from node.records import DeliveryState, ReceivedInstance, ResultObject
from node.settings import Settings
from node.spool import Spool
from tests import committing_archive as archives
from tests.committing_archive import Archive

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


class Bench:
    """Studies with two delivered results each, which the archive does hold unless a test takes them away."""

    def __init__(self, folder: Path, ledger: Ledger, archive: Archive | int, **proof: object) -> None:
        self.ledger = ledger
        self.spool = Spool(folder / "spool", minimum_free_bytes=0)
        self.now = NOON
        self.archive = archive
        how = proof.pop("proof", "auto")
        port = archive if isinstance(archive, int) else archive.port
        pacs = {"name": "pacs", "ae_title": archives.AE_TITLE, "host": "127.0.0.1", "port": port, "proof": how}
        self.settings = Settings.model_validate(
            {
                "archives": [pacs],
                "delivery": {"first_delay_s": 10, "connect_timeout_s": 1},
                "proof": {"report_wait_s": 0.5, "sent_again": 1} | proof,
            }
        )
        self.prover = self.new_prover()

    def new_prover(self) -> verification.Prover:
        """As after a start of the dispatcher."""
        return verification.Prover(
            self.settings.archives[0], self.settings, self.ledger, self.spool, now=lambda: self.now
        )

    def deliver_study(self, number: int = 1) -> int:
        study = f"2.25.{number}"
        self.ledger.record_instance(_image(study))
        (open_study,) = self.ledger.open_studies()
        study_id = open_study.study_id
        self.ledger.close_study(study_id, last_received_at=NOON, reason="quiet", now=NOON)
        self.ledger.take_study(study_id, maximum_attempts=3, now=NOON)
        results = [self._result(study, f"{study}.100{item}") for item in (1, 2)]
        uids = [result.sop_instance_uid for result in results]
        self.ledger.finish_graded(study_id, results=results, archives={"pacs": uids}, reason="graded", now=NOON)
        self.deliver()
        return study_id

    def deliver(self) -> list[str]:
        """What is due arrives; returns the SOP Instance UIDs."""
        due = self.ledger.due_deliveries(self.now, limit=100)
        for delivery in due:
            self.ledger.delivery_delivered(delivery.delivery_id, status="0x0000 success", now=self.now)
            if isinstance(self.archive, Archive) and delivery.sop_instance_uid not in self.archive.loses:
                self.archive.held[delivery.sop_instance_uid] = self._dataset(
                    self.ledger.study(delivery.study_id).study_instance_uid, delivery.sop_instance_uid
                )
        return [delivery.sop_instance_uid for delivery in due]

    @staticmethod
    def _dataset(study: str, uid: str) -> Dataset:
        item = Dataset()
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = TEXT_SR
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = uid
        item.StudyInstanceUID = study
        item.SeriesInstanceUID = f"{study}.9"
        return item

    def _result(self, study: str, uid: str) -> ResultObject:
        encoded = BytesIO()
        self._dataset(study, uid).save_as(encoded, enforce_file_format=True)
        stored = self.spool.store_result(encoded.getvalue())
        return ResultObject(
            sop_instance_uid=uid, sop_class_uid=TEXT_SR, kind="text_report", path=stored.path, sha256=stored.sha256
        )

    def look(self, after_s: float = 0) -> None:
        self.now += timedelta(seconds=after_s)
        self.prover.look()

    @property
    def counts(self) -> dict[DeliveryState, int]:
        return {state: n for state, n in self.ledger.delivery_counts()["pacs"].items() if n}

    @property
    def requests(self) -> list[CommitmentState]:
        return [state for _, state in self.ledger.proofs.requests("pacs")]

    def said(self) -> str:
        """The last line in the history of the first result."""
        number = min(item.delivery_id for item in self.ledger.proofs.due("pacs", NOON + timedelta(days=999), limit=9))
        return self.ledger.delivery_events(number)[-1].status


def _image(study: str) -> ReceivedInstance:
    return ReceivedInstance(
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=f"{study}.2",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        modality="MR",
        calling_ae_title="MODALITY",
        path=Path(f"received/aa/{study}.dcm"),
        sha256="0" * 64,
        size_bytes=1,
        received_at=NOON,
    )
