"""Studies that still receive are looked at: gaps keep them open, a whole T2 series may start them early."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset

from inference import phantom, wholeness
from node.dispatcher import close_studies
from node.enquiries import Enquiries
from node.ledger import open_ledger
from node.looks import Looks
from node.records import ArchiveCounts, ReceivedInstance, StudyRecord, StudyState
from node.settings import Settings
from node.spool import Spool
from tests.unit.node.received_instances import NOON, after


@functools.cache
def phantom_study() -> tuple[list[Dataset], list[Dataset]]:
    """The slices of its sagittal T2 series, and all its other images."""
    study = phantom.lumbar_study()
    uid = wholeness.look(study).series_instance_uid
    slices = [image for image in study if image.SeriesInstanceUID == uid]
    return slices, [image for image in study if image.SeriesInstanceUID != uid]


class Node:
    """A spool and a ledger, and the dispatcher's look at them."""

    def __init__(self, folder: Path, **assembly: object) -> None:
        self.ledger = open_ledger(f"sqlite:///{folder}/node.db")
        self.spool = Spool(folder / "spool", minimum_free_bytes=0)
        self.looks = Looks(self.ledger, self.spool)
        self.settings = Settings.model_validate({"assembly": {"quiet_s": 30} | assembly})

    def receive(self, images: list[Dataset], at: datetime) -> None:
        for image in images:
            content = io.BytesIO()
            image.save_as(content, enforce_file_format=True)
            file = self.spool.store_received([content.getvalue()])
            self.ledger.record_instance(
                ReceivedInstance(
                    study_instance_uid=image.StudyInstanceUID,
                    series_instance_uid=image.SeriesInstanceUID,
                    sop_instance_uid=image.SOPInstanceUID,
                    sop_class_uid=image.SOPClassUID,
                    transfer_syntax_uid=image.file_meta.TransferSyntaxUID,
                    modality=image.Modality,
                    calling_ae_title="MODALITY",
                    path=file.path,
                    sha256=file.sha256,
                    size_bytes=file.size_bytes,
                    received_at=at,
                )
            )

    def close(self, at: datetime) -> StudyRecord:
        """What the newest generation is after a look at this moment."""
        nobody = Enquiries(
            self.ledger, lambda _sender, _uid: ArchiveCounts(series=()), ae_titles=(), count_confirmed_s=15
        )
        close_studies(self.ledger, self.settings, lambda: at, nobody, self.looks)
        return self.newest

    @property
    def newest(self) -> StudyRecord:
        studies = (*self.ledger.open_studies(), *self.ledger.queued_studies())
        return self.ledger.study(max(study.study_id for study in studies))


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.ledger.close()


@pytest.fixture
def early(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, start_early=True, series_quiet_s=5)
    yield node
    node.ledger.close()


def test_a_gap_in_the_series_to_be_graded_keeps_a_quiet_study_open_until_the_slice_comes(patient: Node) -> None:
    slices, others = phantom_study()
    patient.receive([*others, *slices[:4], *slices[5:]], NOON)
    waiting = patient.close(after(31))
    assert waiting.state is StudyState.RECEIVING
    assert waiting.reason == (
        f"waits: 1 slice is missing between the {len(slices) - 1} that came of the series to be graded"
    )
    patient.receive([slices[4]], after(600))
    assert patient.close(after(629)).state is StudyState.RECEIVING
    closed = patient.close(after(630))
    assert closed.state is StudyState.QUEUED
    assert closed.reason == f"closed with {len(slices) + len(others)} images: no new image for 30 s"


def test_a_slice_that_never_comes_costs_the_longest_wait_and_is_told(patient: Node) -> None:
    slices, _ = phantom_study()
    patient.receive([*slices[:4], *slices[5:]], NOON)
    assert patient.close(after(3599)).state is StudyState.RECEIVING
    closed = patient.close(after(3600))
    assert closed.state is StudyState.QUEUED
    assert "1 slice is missing" in closed.reason


def test_files_that_cannot_be_read_keep_no_study_open(patient: Node) -> None:
    slices, _ = phantom_study()
    patient.receive([*slices[:4], *slices[5:]], NOON)
    for file in patient.spool.absolute(Path("received")).rglob("*.dcm"):
        file.write_bytes(b"not DICOM")
    assert patient.close(after(30)).state is StudyState.QUEUED


def test_a_whole_series_starts_while_the_rest_arrives_and_the_rest_changes_nothing(early: Node) -> None:
    slices, others = phantom_study()
    early.receive(slices, NOON)
    early.receive(others[:3], after(4))
    assert early.close(after(4.5)).state is StudyState.RECEIVING
    early.receive(others[3:6], after(5))
    first = early.close(after(5))
    assert first.state is StudyState.QUEUED
    assert "the rest may still come" in first.reason
    early.receive(others[6:], after(6))
    assert early.close(after(20)).state is StudyState.RECEIVING, "the rest is no early start of its own"
    rest = early.close(after(36))
    assert (rest.generation, rest.state) == (2, StudyState.QUEUED)
    assert rest.digest == first.digest, "so that the worker finds nothing new to grade"


def test_one_more_slice_of_the_series_is_graded_again(early: Node) -> None:
    slices, _ = phantom_study()
    early.receive(slices[:-1], NOON)
    first = early.close(after(5))
    early.receive(slices[-1:], after(60))
    second = early.close(after(65))
    assert (second.generation, second.state) == (2, StudyState.QUEUED)
    assert second.digest != first.digest


def test_without_the_setting_nothing_starts_early(patient: Node) -> None:
    slices, others = phantom_study()
    patient.receive(slices, NOON)
    patient.receive(others, after(25))
    assert patient.close(after(54)).state is StudyState.RECEIVING


def test_images_are_read_again_only_when_some_came(early: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    slices, _ = phantom_study()
    looked: list[int] = []
    look = wholeness.look
    monkeypatch.setattr(wholeness, "look", lambda images: (looked.append(len(images)), look(images))[1])
    early.receive(slices[:3], NOON)
    for tick in range(10):
        early.close(NOON + timedelta(seconds=6 + tick))
    assert looked in ([0, 3], [3])


def test_a_look_that_fails_leaves_the_other_studies_to_be_looked_at_and_closed(
    patient: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slices, others = phantom_study()
    odd = [image.copy() for image in slices[:3]]
    for number, image in enumerate(odd):
        image.StudyInstanceUID, image.SOPInstanceUID = "2.25.77", f"2.25.77.{number}"
    look = wholeness.look

    def fails(images: list[Dataset]) -> wholeness.Wholeness:
        if images[0].StudyInstanceUID == "2.25.77":
            raise MemoryError
        return look(images)

    monkeypatch.setattr(wholeness, "look", fails)
    patient.receive(odd, NOON)
    patient.receive([*others, *slices], NOON)
    patient.close(after(31))
    assert {study.state for study in patient.ledger.queued_studies()} == {StudyState.QUEUED}
    assert len(patient.ledger.queued_studies()) == 2
    said = [record.getMessage() for record in caplog.records if "look" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("the look at its images failed: MemoryError at ")
