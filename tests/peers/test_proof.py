"""Proof from real archives: Orthanc by storage commitment and by QIDO-RS, dcmqrscp by C-FIND; deletion afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pydicom
import pytest

from node.ledger import Ledger, open_ledger
from node.proofs import CommitmentState
from node.records import DeliveryState, StudyState
from tests import dcmqrscp_process, dicom_factories, node_process, orthanc_process
from tests.node_process import Node
from tests.orthanc_process import Orthanc

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(400)]

QUIET_S = 2.0
SPIDER_PATIENT = "127"
PROVEN_WITHIN_S = 10.0
"""Beyond the quiet time: from the last image to the proof of every result, with grading in between."""


@pytest.fixture(scope="module")
def orthanc(require_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc_process.running(require_program("Orthanc"), tmp_path_factory.mktemp("orthanc")) as archive:
        yield archive


@pytest.fixture(scope="module")
def dcmqrscp_port(require_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with dcmqrscp_process.running(require_program("dcmqrscp"), tmp_path_factory.mktemp("dcmqrscp")) as port:
        yield port


def archives(orthanc: Orthanc, dcmqrscp_port: int) -> str:
    return f"""
[[archives]]
name = "committing"
ae_title = "{orthanc_process.AE_TITLE}"
host = "127.0.0.1"
port = {orthanc.dicom_port}

[[archives]]
name = "answering"
ae_title = "{dcmqrscp_process.AE_TITLE}"
host = "127.0.0.1"
port = {dcmqrscp_port}
outputs = ["measurement_report", "text_report"]

[[archives]]
name = "web"
stow_url = "http://127.0.0.1:{orthanc.http_port}/dicom-web"
outputs = ["text_report"]
"""


@pytest.fixture(scope="module")
def node(orthanc: Orthanc, dcmqrscp_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    extra = archives(orthanc, dcmqrscp_port)
    with node_process.running(tmp_path_factory.mktemp("node"), quiet_s=QUIET_S, extra=extra) as running:
        yield running


@pytest.fixture
def ledger(node: Node) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{node.folder / 'data' / 'node.db'}")
    yield opened
    opened.close()


def proven_study(ledger: Ledger, uid: str, node: Node, within_s: float = 90) -> tuple[int, datetime]:
    """The study's number and when it was proven, once every archive has proved it."""
    deadline = time.monotonic() + within_s
    while True:
        for shown in ledger.study_overview(limit=20):
            if shown.study.study_instance_uid == uid and shown.study.proven_at is not None:
                return shown.study.study_id, shown.study.proven_at
        counts = {name: dict(counts) for name, counts in ledger.delivery_counts().items()}
        assert time.monotonic() < deadline, f"not proven in time: {counts}\n{node.words()[-4000:]}"
        time.sleep(0.2)


def study_uid(folder: Path) -> str:
    return str(pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True).StudyInstanceUID)


def test_every_archive_proves_in_its_own_way(orthanc: Orthanc, node: Node, ledger: Ledger, lumbar_study: Path) -> None:
    orthanc.send_to_node(orthanc.upload(lumbar_study), node.port)
    study_id, _ = proven_study(ledger, study_uid(lumbar_study), node)

    assert ledger.study(study_id).state is StudyState.DELIVERED
    counts = ledger.delivery_counts()
    assert {name: set(states) for name, states in counts.items()} == {
        "committing": {DeliveryState.PROVEN},
        "answering": {DeliveryState.PROVEN},
        "web": {DeliveryState.PROVEN},
    }
    assert [state for _, state in ledger.proofs.requests("committing")] == [CommitmentState.ANSWERED]
    assert ledger.proofs.requests("answering") == ()
    assert "'ORTHANC' commits itself to" in node.words()


@pytest.mark.realdata
def test_a_real_study_is_proven_soon_after_its_quiet_time(
    orthanc: Orthanc, node: Node, ledger: Ledger, data_root: Path, tmp_path: Path
) -> None:
    dicom_factories.write_spider_stack(tmp_path, data_root, SPIDER_PATIENT)
    orthanc.send_to_node(orthanc.upload(tmp_path), node.port)
    study_id, proven_at = proven_study(ledger, study_uid(tmp_path), node)
    study = ledger.study(study_id)
    took_s = (proven_at - study.last_received_at).total_seconds() - QUIET_S
    graded_s = next(item.at for item in ledger.history(study_id) if item.state is StudyState.GRADED)
    print(
        f"\nlast image to PROVEN beyond the quiet time: {took_s:.1f} s, of which after grading "
        f"{(proven_at - graded_s).total_seconds():.1f} s"
    )
    assert proven_at - graded_s < timedelta(seconds=PROVEN_WITHIN_S)
