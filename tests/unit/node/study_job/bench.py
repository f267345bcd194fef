"""A worker of which only the networks are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pydicom

from inference.report import Declined, Report
from node.ledger import Ledger
from node.records import ReceivedInstance, StudyState
from node.settings import Settings
from node.spool import Spool
from node.study_job import StudyJob
from tests.report_factories import MODEL, STUDY_UID

START = datetime(2026, 3, 14, 15, 0, tzinfo=UTC)
CLOSED = START + timedelta(minutes=1)

Answer = Callable[[Sequence[pydicom.Dataset]], Report | Declined]


class Left(BaseException):
    """Stands for the end of the process."""


def node_settings(**results: object) -> Settings:
    archive = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    return Settings.model_validate({"archives": [archive], "results": results, "inference": {"maximum_attempts": 2}})


class Bench:
    """A worker with a ledger, a spool and an answer instead of networks."""

    def __init__(self, ledger: Ledger, spool: Spool, answer: Answer, settings: Settings | None = None) -> None:
        self.ledger, self.spool, self.seen = ledger, spool, 0
        self.answer = answer
        self.clock = CLOSED
        self.left: list[int] = []
        self.job = StudyJob(
            settings or node_settings(), ledger, spool, grade=self._grade, now=self._now, leave=self._leave
        )

    def _grade(self, instances: Sequence[pydicom.Dataset]) -> Report | Declined:
        self.seen += 1
        return self.answer(instances)

    def _leave(self, status: int) -> None:
        self.left.append(status)
        raise Left

    def _now(self) -> datetime:
        self.clock += timedelta(seconds=1)
        return self.clock

    def receive(self, images: Sequence[pydicom.Dataset], at: datetime = START) -> int:
        """Take images in and close their study; returns its number."""
        for image in images:
            encoded = BytesIO()
            image.save_as(encoded, enforce_file_format=True)
            stored = self.spool.store_received([encoded.getvalue()])
            self.ledger.record_instance(
                ReceivedInstance(
                    study_instance_uid=image.StudyInstanceUID,
                    series_instance_uid=image.SeriesInstanceUID,
                    sop_instance_uid=image.SOPInstanceUID,
                    sop_class_uid=image.SOPClassUID,
                    transfer_syntax_uid="1.2.840.10008.1.2.1",
                    modality=image.Modality,
                    calling_ae_title="MODALITY",
                    path=stored.path,
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                    received_at=at,
                )
            )
        (opened,) = self.ledger.open_studies()
        assert self.ledger.close_study(opened.study_id, last_received_at=at, reason="quiet", now=CLOSED)
        return opened.study_id

    def work(self, study_id: int) -> StudyState:
        """Both steps of the job, as the engine runs them."""
        outcome = self.job.attempt(study_id)
        if outcome is not None:
            self.job.finish(study_id, outcome)
        return self.ledger.study(study_id).state


def declined(instances: Sequence[pydicom.Dataset]) -> Declined:
    return Declined(study_instance_uid=STUDY_UID, reason="no T2 sagittal series", rejected=(), model=MODEL)
