"""Figures of the whole node: draining a queue, being idle, and how soon an archive has proved that it holds a study.

    python -m tests.bench_delivery [STUDIES]

Run by `make bench`. CPU is process time, of all processes of the node together.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import psutil
from pydicom import Dataset

from inference import phantom
from node import demo_archive, sender
from node.ledger import Ledger, open_ledger
from node.records import ReceivedInstance, ResultObject, StudyState
from node.spool import Spool
from node.timeline import stages
from tests import node_process, orthanc_process

STUDIES = 100
WAITING = 1000
WATCHED_S = 120.0
SETTLED_AFTER_S = 15.0
QUIET_S = 2.0
T2_SAGITTAL = "T2_TSE_SAG"

Row = tuple[str, float, float, str]


def rows(folder: Path, studies: int = STUDIES) -> Iterator[Row]:
    """Name, measured, bound, unit."""
    yield from _idle(folder)
    yield from _drain(folder / "drain", studies)
    yield from _proven(folder / "proven")


def _idle(folder: Path) -> Iterator[Row]:
    alone = _cpu_percent(folder / "idle", waiting=0)
    yield "node: idle, of one core", alone, 3, "%"
    yield (
        f"node: {WAITING} deliveries waiting, beyond idle, of one core",
        (_cpu_percent(folder / "waiting", waiting=WAITING) - alone),
        0.5,
        "%",
    )


def _cpu_percent(folder: Path, waiting: int) -> float:
    archive = node_process.Archive(name="archive", ae_title="ARCHIVE", port=node_process.free_port())
    node = node_process.configured(folder, [archive])
    with _ledger_of(node) as (ledger, _):
        if waiting:
            _list_deliveries(ledger, waiting)
    with _started(node):
        time.sleep(SETTLED_AFTER_S)
        assert node.process is not None
        supervisor = psutil.Process(node.process.pid)
        processes = [supervisor, *supervisor.children(recursive=True)]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        time.sleep(WATCHED_S)
        after = [sum(process.cpu_times()[:2]) for process in processes]
    return 100 * (sum(after) - sum(before)) / WATCHED_S


def _list_deliveries(ledger: Ledger, count: int) -> None:
    """A graded study with so many results, none of which is due within the hour."""
    now = datetime.now(UTC)
    ledger.record_instance(_received(Path("received/00/none.dcm"), "0" * 64, "2.25.1", "2.25.2", "2.25.3", now))
    (study,) = ledger.open_studies()
    ledger.close_study(study.study_id, last_received_at=study.last_received_at, reason="bench", now=now)
    ledger.take_study(study.study_id, maximum_attempts=1, now=now)
    results = [
        ResultObject(
            sop_instance_uid=f"2.25.9{number:04d}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11",
            kind="text_report",
            path=Path(f"results/00/{number}.dcm"),
            sha256=f"{number:064d}",
        )
        for number in range(count)
    ]
    uids = [result.sop_instance_uid for result in results]
    ledger.finish_graded(study.study_id, results=results, archives={"archive": uids}, reason="bench", now=now)
    for delivery in ledger.due_deliveries(now, limit=count):
        ledger.delivery_postponed(delivery.delivery_id, status="0xA700", not_before=now + timedelta(hours=1), now=now)


def _drain(folder: Path, studies: int) -> Iterator[Row]:
    with demo_archive.running(folder / "archive") as port:
        archive = node_process.Archive(name="archive", ae_title=demo_archive.AE_TITLE, port=port)
        node = node_process.configured(folder, [archive], quiet_s=QUIET_S)
        with _ledger_of(node) as (ledger, spool):
            for number in range(1, studies + 1):
                _take_in(ledger, spool, _study(number))
        with _started(node), _ledger_of(node) as (ledger, _):
            while ledger.counts_by_state()[StudyState.DELIVERED] < studies:
                time.sleep(1)
            lives = [life for number in range(1, studies + 1) for life in ledger.timelines.of(str(number))]
    spent: defaultdict[str, float] = defaultdict(float)
    for life in lives:
        for stage in stages(life.history, life.study.last_received_at):
            spent[stage.name] += stage.seconds
    began = min(_moment(life.history, StudyState.GRADING) for life in lives)
    ended = max(_moment(life.history, StudyState.GRADED) for life in lives)
    total = (ended - began).total_seconds()
    own = total - spent["grading"] - spent["rendering"]
    yield f"drain: {studies} studies that had been received, each", total / studies, 30, "s"
    yield "drain: of it the model (grade, localise, evidence)", spent["grading"] / studies, 30, "s"
    yield "drain: of it making the DICOM objects", spent["rendering"] / studies, 30, "s"
    for stage in ("reading", "storing"):
        yield f"drain: of it {stage}", spent[stage] / studies, 30, "s"
    between = total - sum(spent[stage] for stage in ("reading", "grading", "rendering", "storing"))
    yield "drain: of it queue and ledger", between / studies, 30, "s"
    yield "drain: the node's own work, of the whole", 100 * own / total, 10, "%"


def _moment(history: Sequence[object], state: StudyState) -> datetime:
    return next(entry.at for entry in history if entry.state is state)  # type: ignore[attr-defined]


def _proven(folder: Path) -> Iterator[Row]:
    program = shutil.which("Orthanc")
    if program is None:
        print("Orthanc is not installed (apt-get install orthanc orthanc-dicomweb): no figure of proof")
        return
    with orthanc_process.running(Path(program), folder / "orthanc") as orthanc:
        archive = node_process.Archive(name="archive", ae_title=orthanc_process.AE_TITLE, port=orthanc.dicom_port)
        node = node_process.configured(folder, [archive], quiet_s=QUIET_S)
        orthanc.ask_put("/modalities/spinenode", {"AET": "SPINENODE", "Host": "127.0.0.1", "Port": node.port})
        paths = _saved(phantom.lumbar_study(seed=0), folder / "study")
        with _started(node), _ledger_of(node) as (ledger, _):
            peer = sender.Peer(
                host="127.0.0.1", port=node.port, ae_title="SPINENODE", calling_ae_title="BENCH", connect_timeout_s=5
            )
            assert all(isinstance(outcome.answer, sender.Stored) for outcome in sender.send(paths, peer))
            while not (rows := ledger.study_overview(limit=1)) or rows[0].study.proven_at is None:
                time.sleep(0.2)
            study = rows[0].study
    assert study.proven_at is not None
    beyond = (study.proven_at - study.last_received_at).total_seconds() - QUIET_S
    yield "node: last image in to PROVEN by Orthanc, - quiet", beyond, 10, "s"


_series = [item for item in phantom.lumbar_study(seed=0) if item.SeriesDescription == T2_SAGITTAL]


def _study(number: int) -> list[Dataset]:
    """The phantom's T2 series as another patient's."""
    images = deepcopy(_series)
    for index, image in enumerate(images):
        image.StudyInstanceUID, image.SeriesInstanceUID = f"2.25.{number}000", f"2.25.{number}001"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number}1{index:02d}"
        image.PatientID = f"PATIENT{number}"
    return images


def _saved(images: Sequence[Dataset], folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"{number:03d}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


def _take_in(ledger: Ledger, spool: Spool, images: Sequence[Dataset]) -> None:
    """As the receiver does, and the dispatcher that closes."""
    now = datetime.now(UTC)
    for image in images:
        encoded = BytesIO()
        image.save_as(encoded, enforce_file_format=True)
        stored = spool.store_received([encoded.getvalue()])
        uids = (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
        ledger.record_instance(_received(stored.path, stored.sha256, *uids, now))
    (study,) = ledger.open_studies()
    assert ledger.close_study(study.study_id, last_received_at=study.last_received_at, reason="bench", now=now)


def _received(path: Path, sha256: str, study: str, series: str, image: str, now: datetime) -> ReceivedInstance:  # noqa: PLR0917
    return ReceivedInstance(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uid=image,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="MR",
        calling_ae_title="BENCH",
        path=path,
        sha256=sha256,
        size_bytes=1,
        received_at=now,
    )


@contextmanager
def _ledger_of(node: node_process.Node) -> Iterator[tuple[Ledger, Spool]]:
    data = node.folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    ledger = open_ledger(f"sqlite:///{data}/node.db")
    try:
        yield ledger, Spool(data / "spool", minimum_free_bytes=0)
    finally:
        ledger.close()


@contextmanager
def _started(node: node_process.Node) -> Iterator[None]:
    node.start(within_s=600)
    try:
        yield
    finally:
        node.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for name, value, bound, unit in rows(Path(temporary), int(sys.argv[1]) if len(sys.argv) > 1 else STUDIES):
            print(f"{name:<64}{value:>9.2f} {unit:<3}{bound:>8g} {unit}", flush=True)
