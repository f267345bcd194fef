"""A study full of canaries through a whole node at DEBUG: nothing that it writes beside spool and database sings."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from node import sender
from tests.node_process import Node, configured, free_port
from tests.pdus import command, p_data, request

pytestmark = pytest.mark.slow

CANARY = "CANARY"
TOKEN = "a-token-of-more-than-20-characters"
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


def post(port: int, files: Sequence[Path]) -> int:
    """By STOW-RS, to a path that names the study; returns the HTTP status."""
    parts = b"".join(b"--MARK\r\n\r\n" + file.read_bytes() + b"\r\n" for file in files)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/related; boundary=MARK"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", f"/{CANARY}/studies/{UID_ROOT}.1?{CANARY}", parts + b"--MARK--", headers)
    status = connection.getresponse().status
    connection.close()
    return status


def sing(port: int, *words: bytes) -> None:
    """Words of the protocol, and what is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, contextlib.suppress(OSError):
        for word in words:
            connection.sendall(word)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def sing_in_every_voice(port: int) -> None:
    good = request((MRImageStorage, ExplicitVRLittleEndian))
    canaries = CANARY.encode() * 20
    sing(port, canaries)
    sing(port, request((CANARY, ExplicitVRLittleEndian)))
    sing(port, request((f"O'{CANARY}", ExplicitVRLittleEndian)))
    sing(port, request((MRImageStorage, CANARY)))
    sing(port, good, p_data(1, 3, canaries))
    sing(port, good, p_data(1, 3, command(1, MRImageStorage, f"../{CANARY}")), p_data(1, 2, canaries))
    sing(port, good, p_data(1, 3, command(1, MRImageStorage, f"{UID_ROOT}.5")), p_data(1, 2, canaries))
    sing(port, good, p_data(1, 3, command(1, f"{UID_ROOT}.6", f"{UID_ROOT}.5")), p_data(1, 2, canaries))


def answer_of_monitor(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse().read()
    connection.close()
    return answer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(240)
def test_a_node_at_debug_names_no_patient(tmp_path: Path, lumbar_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
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
    web_port, token = free_port(), tmp_path / "token"
    token.write_text(TOKEN, encoding="ascii")
    token.chmod(0o600)
    toml = toml.replace("[node]\n", '[node]\nlog_level = "DEBUG"\n')
    stow = f'[receiver]\nstow_port = {web_port}\nstow_token_file = "{token}"\n'
    node.config.write_text(toml.replace("[receiver]\n", stow), encoding="utf-8")
    node.start()
    try:
        send(node, good)
        assert post(web_port, sorted(good.iterdir())[:5]) == 200
        assert post(web_port, sorted(bad.iterdir())[:5]) == 409
        sing(web_port, f"{CANARY} /studies/{UID_ROOT} HTTP/1.1\r\n{CANARY}: {CANARY}\r\n\r\n".encode())
        sing_in_every_voice(node.port)
        send(node, bad)
        deadline = time.monotonic() + 150
        while "receiving" in (status := node.command("status").stdout) or "queued" in status or "grading" in status:
            assert time.monotonic() < deadline, status
            time.sleep(1)
        assert f"{UID_ROOT}.1" in status, "the operator's own question is answered"
        told = {path: answer_of_monitor(node.monitoring_port, path) for path in ("/metrics", "/health")}
    finally:
        node.stop()

    data = node.folder / "data"
    left = list(temporary.rglob("*"))
    names = [path.as_posix() for path in [*(path.relative_to(data) for path in data.rglob("*")), *left]]
    assert not [name for name in names if CANARY in name or "3680043" in name]
    kept = {"spool"}
    written = [node.log, *(path for path in left if path.is_file())] + [
        path
        for path in data.rglob("*")
        if path.is_file() and path.relative_to(data).parts[0] not in kept and ".db" not in path.name
    ]
    for name, content in [*((path.name, path.read_bytes()) for path in written), *told.items()]:
        for secret in (CANARY.encode(), b"3680043", BORN.encode()):
            assert secret not in content, f"{name} holds an identifier: {_around(content, secret)!r}"
    assert b"spinenode_" in told["/metrics"]
    assert len(node.log.read_text(encoding="utf-8").splitlines()) > 10


def _around(content: bytes, secret: bytes) -> bytes:
    place = content.index(secret)
    return content[max(0, place - 100) : place + 50]
