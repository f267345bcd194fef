"""Studies that cannot be graded, through a running node: a clear outcome each, told to the archive, and it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, generate_uid

from node import demo_archive, sender
from tests import node_process
from tests.node_process import Archive, Node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def archive_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def node(archive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with demo_archive.running(archive_folder) as port:
        archive = Archive(name="archive", ae_title=demo_archive.AE_TITLE, port=port)
        with node_process.running(tmp_path_factory.mktemp("node"), [archive], quiet_s=1.0) as running:
            yield running


def images(folder: Path, description: str) -> list[pydicom.Dataset]:
    """One series of the phantom's study, read anew, as a study of its own."""
    read = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    series = [item for item in read if item.SeriesDescription == description]
    study, series_uid = generate_uid(), generate_uid()
    for item in series:
        item.StudyInstanceUID, item.SeriesInstanceUID = study, series_uid
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return series


def send(node: Node, instances: Sequence[pydicom.Dataset], folder: Path) -> str:
    """Send a study; gives its Study Instance UID."""
    for number, instance in enumerate(instances):
        instance.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    outcomes = list(sender.send(sorted(folder.glob("*.dcm")), peer_of(node)))
    assert all(isinstance(item.answer, sender.Stored) for item in outcomes), outcomes
    return str(instances[0].StudyInstanceUID)


def peer_of(node: Node) -> sender.Peer:
    return sender.Peer(
        host="127.0.0.1", port=node.port, ae_title="SPINENODE", calling_ae_title="SCANNER", connect_timeout_s=5
    )


def outcome_of(node: Node, study_instance_uid: str, within_s: float = 60) -> tuple[str, str]:
    """(state, reason) of a study once it has come to an end."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        lines = node.command("status").stdout.splitlines()
        for number, line in enumerate(lines):
            if study_instance_uid in line:
                state = line.split()[3]
                if state in {"declined", "delivered", "failed", "unchanged"}:
                    return state, lines[number + 1].strip()
        time.sleep(0.5)
    pytest.fail(f"no end within {within_s} s:\n{node.command('status').stdout}\n{node.words()[-1500:]}")


def told_to_the_archive(folder: Path, study_instance_uid: str, within_s: float = 20) -> str:
    """The words of the report that says why a study was not graded."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for path in folder.glob("*.dcm"):
            report = pydicom.dcmread(path)
            if report.StudyInstanceUID == study_instance_uid:
                texts = [item.value for item in report.iterall() if item.keyword == "TextValue"]
                return " ".join(texts).replace("\r\n", " ").replace("\n", " ")
        time.sleep(0.3)
    pytest.fail("the archive was told nothing")


def test_a_ct_is_declined(node: Node, lumbar_study: Path, archive_folder: Path, tmp_path: Path) -> None:
    ct = images(lumbar_study, "T2_TSE_SAG")
    for item in ct:
        item.Modality, item.SOPClassUID = "CT", CTImageStorage
        item.file_meta.MediaStorageSOPClassUID = CTImageStorage
    uid = send(node, ct, tmp_path)

    state, reason = outcome_of(node, uid)

    assert state == "declined"
    assert "MR" in reason
    assert "not graded" in told_to_the_archive(archive_folder, uid).lower()


def test_a_lumbar_t1_alone_is_declined(node: Node, lumbar_study: Path, archive_folder: Path, tmp_path: Path) -> None:
    uid = send(node, images(lumbar_study, "T1_TSE_SAG"), tmp_path)

    state, reason = outcome_of(node, uid)

    assert state == "declined"
    assert "T1" in reason or "T1" in told_to_the_archive(archive_folder, uid)


def test_a_single_slice_is_declined_by_the_service(node: Node, lumbar_study: Path, tmp_path: Path) -> None:
    uid = send(node, images(lumbar_study, "T2_TSE_SAG")[7:8], tmp_path)

    state, reason = outcome_of(node, uid)

    assert state == "declined"
    assert "1 slice" in reason


def test_pixels_that_end_too_early_are_declined_by_name(node: Node, lumbar_study: Path, tmp_path: Path) -> None:
    series = images(lumbar_study, "T2_TSE_SAG")
    series[4].PixelData = series[4].PixelData[: len(series[4].PixelData) // 2]
    uid = send(node, series, tmp_path)

    state, reason = outcome_of(node, uid)

    assert state == "declined"
    assert "pixel" in reason.lower()


def test_a_text_file_is_refused_by_name(node: Node, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("To whom it may concern")

    outcome = next(iter(sender.send([tmp_path / "letter.txt"], peer_of(node))))

    assert not isinstance(outcome.answer, sender.Stored)
    assert "not a DICOM file" in outcome.answer.what


def test_a_file_that_ends_inside_its_header_is_refused(node: Node, lumbar_study: Path, tmp_path: Path) -> None:
    whole = next(lumbar_study.glob("*.dcm")).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:700])

    outcome = next(iter(sender.send([tmp_path / "cut.dcm"], peer_of(node))))

    assert not isinstance(outcome.answer, sender.Stored)


@pytest.mark.realdata
def test_a_brain_is_declined(node: Node, data_root: Path, archive_folder: Path, tmp_path: Path) -> None:
    brain = [pydicom.dcmread(path) for path in sorted((data_root / "enhanced_vs_classic/classic").glob("*.dcm"))]
    uid = send(node, brain, tmp_path)

    state, _ = outcome_of(node, uid)

    assert state == "declined"
    assert "brain" in told_to_the_archive(archive_folder, uid)


def test_after_all_of_this_a_good_study_is_graded(node: Node, lumbar_study: Path, tmp_path: Path) -> None:
    uid = send(node, images(lumbar_study, "T2_TSE_SAG"), tmp_path)

    assert outcome_of(node, uid)[0] == "delivered"
    assert node.words().count("worker started") == 1, "the worker was never taken down"
