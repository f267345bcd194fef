"""A study full of canaries through a whole node at DEBUG: nothing that it writes beside spool and database sings."""

from __future__ import annotations

import time
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from node import sender
from tests.node_process import Node, configured

pytestmark = pytest.mark.slow

CANARY = "CANARY"
FREE_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UT", "AE"})
BORN, UID_ROOT = "19580229", "1.2.826.0.1.3680043.10.1958"


def with_canaries(dataset: Dataset, number: int) -> Dataset:
    """Every free text sings, and the UIDs and the birth date can be told."""
    for element in dataset.iterall():
        if element.VR in FREE_TEXT and element.tag.group != 2:
            element.value = f"{CANARY}{element.tag.group:04X}"
    dataset.PatientName = f"{CANARY}^PATIENT"
    dataset.PatientID = f"{CANARY}-1"
    dataset.OtherPatientNames = f"{CANARY}^OTHER"
    dataset.PatientBirthDate = BORN
    dataset.AccessionNumber = f"{CANARY}A"
    dataset.PatientComments = f"{CANARY} comments"
    dataset.StudyInstanceUID = f"{UID_ROOT}.1"
    dataset.SeriesInstanceUID = f"{UID_ROOT}.2.{dataset.SeriesNumber}"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{UID_ROOT}.3.{number}")
    return dataset


def spoil(dataset: Dataset, number: int) -> Dataset:
    """Things that make libraries complain, and quote."""
    if number % 5 == 1:
        dataset.ImagePositionPatient = None
    if number % 5 == 2:
        dataset.SpecificCharacterSet = f"ISO {CANARY}"
    if number % 5 == 3:
        dataset.add_new(0x00101010, "AS", f"{CANARY}Y")
    if number % 5 == 4:
        dataset.EchoTime = None
    return dataset


def send(node: Node, folder: Path) -> None:
    peer = sender.Peer(
        host="127.0.0.1", port=node.port, ae_title="SPINENODE", calling_ae_title="MODALITY", connect_timeout_s=5
    )
    list(sender.send(sorted(folder.iterdir()), peer))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(240)
def test_a_node_at_debug_names_no_patient(tmp_path: Path, lumbar_study: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    for number, path in enumerate(sorted(lumbar_study.iterdir())):
        with_canaries(pydicom.dcmread(path), number).save_as(good / path.name)
        spoilt = spoil(with_canaries(pydicom.dcmread(path), 1000 + number), number)
        spoilt.StudyInstanceUID = f"{UID_ROOT}.9"
        spoilt.save_as(bad / path.name)
        if number % 10 == 0:  # the UID of one image with the content of another, and an object without a study
            spoilt.SOPInstanceUID = spoilt.file_meta.MediaStorageSOPInstanceUID = f"{UID_ROOT}.3.{number}"
            spoilt.save_as(bad / f"conflict-{path.name}")
            del spoilt.StudyInstanceUID
            spoilt.save_as(bad / f"nameless-{path.name}")
    node = configured(tmp_path / "node", quiet_s=1.0)
    toml = node.config.read_text(encoding="utf-8")
    node.config.write_text(toml.replace("[node]\n", '[node]\nlog_level = "DEBUG"\n'), encoding="utf-8")
    node.start()
    try:
        send(node, good)
        send(node, bad)
        deadline = time.monotonic() + 150
        while "receiving" in (status := node.command("status").stdout) or "queued" in status or "grading" in status:
            assert time.monotonic() < deadline, status
            time.sleep(1)
        assert f"{UID_ROOT}.1" in status, "the operator's own question is answered"
    finally:
        node.stop()

    data = node.folder / "data"
    names = [path.relative_to(data).as_posix() for path in data.rglob("*")]
    assert not [name for name in names if CANARY in name or "3680043" in name]
    kept = {"spool"}
    written = [node.log] + [
        path
        for path in data.rglob("*")
        if path.is_file() and path.relative_to(data).parts[0] not in kept and ".db" not in path.name
    ]
    for path in written:
        content = path.read_bytes()
        for secret in (CANARY.encode(), b"3680043", BORN.encode()):
            assert secret not in content, f"{path.name} holds an identifier: {_around(content, secret)!r}"
    assert len(node.log.read_text(encoding="utf-8").splitlines()) > 10


def _around(content: bytes, secret: bytes) -> bytes:
    place = content.index(secret)
    return content[max(0, place - 100) : place + 50]
