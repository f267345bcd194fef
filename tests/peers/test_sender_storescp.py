"""DCMTK's storescp as the archive: takes, refuses, is down and comes back."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from node.retry import Failure
from node.sender import Outcome, Peer, SendError, Stored, echo, send

pytestmark = [
    pytest.mark.peers,
    # pynetdicom leaves the socket of a connection that failed to the garbage collector
    pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

RequireProgram = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _failed_sockets_end_with_their_test() -> Iterator[None]:
    yield
    gc.collect()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def storescp(program: Path, folder: Path, port: int, *options: str) -> Iterator[Path]:
    """A running storescp; yields the folder that it stores into."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [str(program), "-aet", "ARCHIVE", *options, "-od", str(folder), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 10
    while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    try:
        yield folder
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def write_results(folder: Path) -> list[Path]:
    """Two text reports and a capture of 300 kB."""
    paths = []
    for number, sop_class in enumerate(
        ("1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"), start=1
    ):
        item = Dataset()
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = sop_class
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number}"
        item.StudyInstanceUID, item.SeriesInstanceUID = "2.25.90", "2.25.91"
        item.Rows = item.Columns = 320
        item.SamplesPerPixel, item.PhotometricInterpretation, item.PlanarConfiguration = 3, "RGB", 0
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 8, 8, 7, 0
        item.PixelData = bytes(range(256)) * 1200
        paths.append(folder / f"{number}.dcm")
        item.save_as(paths[-1], enforce_file_format=True)
    return paths


def peer_at(port: int) -> Peer:
    return Peer(host="127.0.0.1", port=port, ae_title="ARCHIVE", calling_ae_title="SPINENODE", connect_timeout_s=2)


def answers(outcomes: Sequence[Outcome]) -> list[Stored | Failure]:
    return [outcome.answer for outcome in outcomes]


def test_storescp_gets_every_object_with_its_bytes(tmp_path: Path, require_program: RequireProgram) -> None:
    paths = write_results(tmp_path)
    with storescp(require_program("storescp"), tmp_path / "archive", port := free_port()) as archive:
        outcomes = tuple(send(paths, peer_at(port)))
    assert answers(outcomes) == [Stored(status="0x0000 success")] * 3
    stored = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in archive.iterdir()}
    assert stored == {item.SOPInstanceUID: item for item in map(pydicom.dcmread, paths)}


def test_a_storescp_that_only_takes_implicit_gets_implicit(tmp_path: Path, require_program: RequireProgram) -> None:
    paths = write_results(tmp_path)
    with storescp(require_program("storescp"), tmp_path / "archive", port := free_port(), "+xi") as archive:
        outcomes = tuple(send(paths, peer_at(port)))
    assert answers(outcomes) == [Stored(status="0x0000 success")] * 3
    syntaxes = {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in archive.iterdir()}
    assert syntaxes == {"1.2.840.10008.1.2"}


def test_a_storescp_that_refuses_the_association_is_tried_again_later(
    tmp_path: Path, require_program: RequireProgram
) -> None:
    paths = write_results(tmp_path)
    with storescp(require_program("storescp"), tmp_path / "archive", port := free_port(), "--refuse") as archive:
        outcomes = tuple(send(paths, peer_at(port)))
    assert list(archive.iterdir()) == []
    for answer in answers(outcomes):
        assert isinstance(answer, Failure)
        assert not answer.permanent
        assert "rejected the association" in answer.what


def test_a_storescp_that_aborts_while_it_stores_is_tried_again_later(
    tmp_path: Path, require_program: RequireProgram
) -> None:
    paths = write_results(tmp_path)
    with storescp(require_program("storescp"), tmp_path / "archive", port := free_port(), "--abort-during"):
        outcomes = tuple(send(paths, peer_at(port)))
    assert all(isinstance(answer, Failure) and not answer.permanent for answer in answers(outcomes))


def test_what_failed_while_storescp_was_down_goes_when_it_is_up(
    tmp_path: Path, require_program: RequireProgram
) -> None:
    paths, port = write_results(tmp_path), free_port()
    down = tuple(send(paths, peer_at(port)))
    said = f"cannot connect to 127.0.0.1:{port}: Connection refused"
    expected = Failure(what=said, permanent=False, of_archive=True, tried=False, out_of_reach=True)
    assert answers(down) == [expected] * 3
    with storescp(require_program("storescp"), tmp_path / "archive", port) as archive:
        up = tuple(send(paths, peer_at(port)))
        assert answers(up) == [Stored(status="0x0000 success")] * 3
        assert len(list(archive.iterdir())) == 3


def test_storescp_answers_an_echo(tmp_path: Path, require_program: RequireProgram) -> None:
    port = free_port()
    with pytest.raises(SendError, match="Connection refused"):
        echo(peer_at(port))
    with storescp(require_program("storescp"), tmp_path / "archive", port):
        assert echo(peer_at(port)) == "0x0000 success"


@pytest.mark.parametrize(("encoder", "syntax"), [("dcmcrle", "RLE Lossless"), ("dcmcjpeg", "JPEG Lossless")])
def test_a_compressed_file_is_sent_as_it_is(
    tmp_path: Path, require_program: RequireProgram, encoder: str, syntax: str
) -> None:
    source = write_results(tmp_path)[2]
    compressed = tmp_path / "compressed.dcm"
    subprocess.run([str(require_program(encoder)), str(source), str(compressed)], check=True, timeout=30)
    program = require_program("storescp")
    with storescp(program, tmp_path / "archive", port := free_port(), "+xa") as archive:
        (outcome,) = send([compressed], peer_at(port))
    assert outcome.answer == Stored(status="0x0000 success")
    (stored,) = archive.iterdir()
    assert pydicom.dcmread(stored).file_meta.TransferSyntaxUID.name.startswith(syntax)
    assert pydicom.dcmread(stored).PixelData == pydicom.dcmread(compressed).PixelData


def listener_of(port: int) -> psutil.Process:
    return next(
        psutil.Process(item.pid)
        for item in psutil.net_connections("tcp")
        if item.status == psutil.CONN_LISTEN and item.laddr.port == port and item.pid
    )


def test_an_archive_that_freezes_while_it_is_sent_to_does_not_hold_us_for_ever(
    tmp_path: Path, require_program: RequireProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither reads nor hangs up, and what we send fills the buffers on the way."""
    monkeypatch.setattr("node.association.ANSWER_TIMEOUT_S", 2)
    first, *_ = write_results(tmp_path)
    large = pydicom.dcmread(first)
    large.SOPInstanceUID = large.file_meta.MediaStorageSOPInstanceUID = "2.25.77"
    large.add_new((0x0042, 0x0011), "OB", bytes(40_000_000))
    large.save_as(tmp_path / "large.dcm")
    port = free_port()
    with storescp(require_program("storescp"), tmp_path / "archive", port):
        outcomes = send([first, tmp_path / "large.dcm", first], peer_at(port))
        assert isinstance(next(outcomes).answer, Stored)
        listener_of(port).suspend()
        started = time.monotonic()
        stuck, untried = (outcome.answer for outcome in outcomes)
        assert time.monotonic() - started < 30
    assert isinstance(stuck, Failure)
    assert (stuck.of_archive, stuck.permanent, stuck.tried) == (True, False, True)
    assert isinstance(untried, Failure)
    assert not untried.tried
