"""A study is graded while its sender still sends: the T2 sagittal series is whole, the rest changes nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from inference import phantom, wholeness
from node.ledger import open_ledger
from node.records import StudyOverview, StudyState
from tests import node_process
from tests.node_process import Node
from tests.pdus import RELEASE, read_pdu, request, status_in, store
from tests.unit.node.encoded_images import encoded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    early = "start_early = true\nseries_quiet_s = 1.5\n[monitoring]"
    node = node_process.configured(tmp_path / "node", quiet_s=5.0)
    node.config.write_text(node.config.read_text().replace("[monitoring]", early), encoding="utf-8")
    node.start()
    try:
        yield node
    finally:
        node.stop()


class Sender:
    """One association for all."""

    def __init__(self, node: Node) -> None:
        self._connection = socket.create_connection(("127.0.0.1", node.port), timeout=60)
        self._connection.sendall(request((MRImageStorage, ExplicitVRLittleEndian)))
        read_pdu(self._connection)

    def send(self, images: Sequence[pydicom.Dataset], pause_s: float = 0.0) -> None:
        for image in images:
            self._connection.sendall(store(1, image.SOPInstanceUID, MRImageStorage, encoded(image)))
            assert status_in(read_pdu(self._connection)[1]) == 0
            time.sleep(pause_s)

    def end(self) -> None:
        self._connection.sendall(RELEASE)
        read_pdu(self._connection)
        self._connection.close()


def generations(node: Node) -> list[StudyOverview]:
    ledger = open_ledger(f"sqlite:///{node.folder / 'data' / 'node.db'}")
    overview = sorted(ledger.study_overview(limit=9), key=lambda item: item.study.generation)
    ledger.close()
    return overview


def until(states: Sequence[StudyState], node: Node, within_s: float = 120) -> list[StudyOverview]:
    deadline = time.monotonic() + within_s
    while True:
        seen = generations(node)
        if [item.study.state for item in seen] == list(states):
            return seen
        told = [(item.study.state.value, item.study.reason) for item in seen]
        assert time.monotonic() < deadline, f"{told}\n{node.words()[-2000:]}"
        time.sleep(0.2)


def test_the_result_is_there_before_the_last_image_is(node: Node) -> None:
    study = phantom.lumbar_study()
    t2 = wholeness.look(study).series_instance_uid
    rest = [image for image in study if image.SeriesInstanceUID != t2]
    sender = Sender(node)
    sender.send([image for image in study if image.SeriesInstanceUID == t2])
    graded = threading.Event()

    def send_the_rest() -> None:
        sender.send(rest[:-1], pause_s=1.0)  # nearly a minute, in which the study never falls quiet
        graded.wait(120)
        sender.send(rest[-1:])
        sender.end()

    sending = threading.Thread(target=send_the_rest)
    sending.start()
    first, _ = until([StudyState.GRADED, StudyState.RECEIVING], node)
    assert first.study.instance_count < len(study)
    graded.set()
    sending.join()
    first, second = until([StudyState.GRADED, StudyState.UNCHANGED], node)
    assert second.study.instance_count == len(study)
    assert first.study.digest == second.study.digest
