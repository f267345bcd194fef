"""The number of images of a study, asked of a real Orthanc, which may itself still wait for the rest of it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.ledger import open_ledger
from node.query import QueryError, image_counts
from node.records import StudyRecord, StudyState
from node.settings import SenderSettings
from tests import node_process, orthanc_process
from tests.node_process import Node, free_port
from tests.unit.node.encoded_images import mr_image

pytestmark = pytest.mark.peers


def sender(port: int) -> SenderSettings:
    return SenderSettings(ae_title="ORTHANC", query_host="127.0.0.1", query_port=port)


def test_orthanc_tells_how_many_images_each_series_has(require_program: Callable[[str], Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(1, 8):
        image = mr_image(number, series="1.2.3.1" if number < 6 else "1.2.3.2")
        image.save_as(images / f"{number}.dcm", enforce_file_format=True)
    with orthanc_process.running(require_program("Orthanc"), tmp_path / "orthanc") as orthanc:
        orthanc.upload(images)
        orthanc.ask_put("/modalities/spinenode", {"AET": "SPINENODE", "Host": "127.0.0.1", "Port": 104})
        found = image_counts(sender(orthanc.dicom_port), "SPINENODE", "1.2.3").series
        assert {(item.series_instance_uid, item.modality, item.instance_count) for item in found} == {
            ("1.2.3.1", "MR", 5),
            ("1.2.3.2", "MR", 2),
        }
        assert image_counts(sender(orthanc.dicom_port), "SPINENODE", "1.2.3.4.5").series == ()


@pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_archive_that_is_not_there_is_named() -> None:
    port = free_port()
    with pytest.raises(QueryError, match=rf"ORTHANC@127\.0\.0\.1:{port} makes no association"):
        image_counts(sender(port), "SPINENODE", "1.2.3")
    gc.collect()  # pynetdicom leaves the socket to it


@pytest.mark.timeout(120)
def test_an_orthanc_that_is_still_filling_ends_no_study(require_program: Callable[[str], Path], tmp_path: Path) -> None:
    """It has 10 images and sends them on; the other 5 reach it after a pause that is longer than a first question."""
    first, rest = folder_of(tmp_path / "first", range(1, 11)), folder_of(tmp_path / "rest", range(11, 16))
    with (
        orthanc_process.running(require_program("Orthanc"), tmp_path / "orthanc") as orthanc,
        asking_node(tmp_path / "node", orthanc.dicom_port) as node,
    ):
        study = orthanc.upload(first)
        orthanc.send_to_node(study, node.port)
        time.sleep(5)
        assert newest(node).state is StudyState.RECEIVING
        orthanc.upload(rest)
        assert until(
            node, lambda study: study.reason == "waits: 5 of 15 images that the sending archive has are missing"
        )
        orthanc.send_to_node(study, node.port)
        assert until(node, lambda study: study.state is not StudyState.RECEIVING)
        whole = newest(node)
        assert whole.generation == 1
        assert whole.reason.startswith("closed with 15 images: all that the sending archive has, and it told the same")


def folder_of(folder: Path, numbers: range) -> Path:
    folder.mkdir()
    for number in numbers:
        mr_image(number).save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


@contextmanager
def asking_node(folder: Path, archive_port: int) -> Iterator[Node]:
    """Receives and closes studies; the quiet time is too long to play a part."""
    asked = f'[[senders]]\nae_title = "ORTHANC"\nquery_host = "127.0.0.1"\nquery_port = {archive_port}\n'
    node = node_process.configured(folder, quiet_s=100, extra=asked)
    settings = node.config.read_text().replace("quiet_s = 100", "quiet_s = 100\ncount_confirmed_s = 12")
    node.config.write_text(settings.replace("[node]", '[node]\nparts = ["receiver", "dispatcher"]'), encoding="utf-8")
    node.start()
    try:
        yield node
    finally:
        node.stop()


def newest(node: Node) -> StudyRecord:
    ledger = open_ledger(f"sqlite:///{node.folder / 'data' / 'node.db'}")
    (study,) = ledger.study_overview(limit=9)
    ledger.close()
    return study.study


def until(node: Node, holds: Callable[[StudyRecord], bool]) -> bool:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if holds(newest(node)):
            return True
        time.sleep(0.2)
    return False
