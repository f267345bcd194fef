"""Disks that are full, broken or read-only, and a database that goes away: 0xA700, nothing lost, back by itself."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association

from tests import postgresql_server
from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

OUT_OF_RESOURCES = 0xA700
BIG = 3 * 2**20


@contextmanager
def association(receiver: Receiver) -> Iterator[Association]:
    ae = AE(ae_title="MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    opened = ae.associate("127.0.0.1", receiver.port, ae_title="SPINENODE")
    assert opened.is_established
    yield opened
    opened.release()


def send(opened: Association, number: int, size: int = 8) -> int:
    image = mr_image(number)
    image.PixelData = bytes([number % 256]) * size
    # pynetdicom's own reader of this association may still be between its look at this flag and its pause, and then
    # takes the answer away as an "unexpected C-STORE": it is given the time to come to rest
    opened._reactor_checkpoint.clear()
    time.sleep(0.05)
    return int(opened.send_c_store(image).Status)


def files(receiver: Receiver) -> set[Path]:
    return set(receiver.spool.absolute(Path("received")).rglob("*.dcm")) | set(
        receiver.spool.absolute(Path("received/unfinished")).iterdir()
    )


@pytest.mark.parametrize(
    "fault", ["write ENOSPC", "write EIO", "fsync EIO", "fsync ENOSPC", "open EROFS", "open EMFILE"]
)
def test_a_disk_that_fails_is_out_of_resources_until_it_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    switch = tmp_path / "fault"
    monkeypatch.setenv("RECEIVER_FAULT", str(switch))
    with Receiver(tmp_path) as receiver:
        with association(receiver) as opened:
            assert send(opened, 1) == 0
            before = files(receiver)
            switch.write_text(fault, encoding="ascii")
            assert [send(opened, number, size) for number in (2, 3) for size in (8, BIG)] == [OUT_OF_RESOURCES] * 4
            assert files(receiver) == before, "nothing is half written"
            switch.unlink()
            assert [send(opened, 2), send(opened, 3, BIG)] == [0, 0], "the same association goes on"
        assert set(receiver.kept()) == {"1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"}
        receiver.wait_for_log("refused with 0xA700")


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; only root may make one."""
    folder.mkdir(parents=True)
    is_mounted = os.geteuid() == 0 and (
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False).returncode == 0
    )
    if not is_mounted:
        pytest.skip("a disk for the test needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """8 MB."""
    with mounted(tmp_path / "small", "8m") as folder:
        yield folder


@pytest.fixture
def disk_of_the_spool(tmp_path: Path) -> Iterator[Path]:
    """Ledger and log lie elsewhere, so that it can be made read-only while the receiver runs."""
    with mounted(tmp_path / "data" / "spool", "64m") as folder:
        yield folder


def test_a_disk_that_really_becomes_read_only_is_out_of_resources_until_it_is_writable_again(
    tmp_path: Path, disk_of_the_spool: Path
) -> None:
    with Receiver(tmp_path) as receiver:
        with association(receiver) as opened:
            assert send(opened, 1) == 0
            subprocess.run(["mount", "-o", "remount,ro", disk_of_the_spool], check=True)
            assert [send(opened, number, size) for number in (2, 3) for size in (8, BIG)] == [OUT_OF_RESOURCES] * 4
            assert send(opened, 1) == OUT_OF_RESOURCES, (
                "even what is there already: it cannot be compared before it is kept"
            )
            subprocess.run(["mount", "-o", "remount,rw", disk_of_the_spool], check=True)
            assert [send(opened, 2), send(opened, 3, BIG)] == [0, 0], "the same association goes on"
        assert set(receiver.kept()) == {"1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"}
        assert len(files(receiver)) == 3
        receiver.wait_for_log("Read-only file system")


def test_a_disk_that_really_fills_up_loses_nothing_and_works_again_when_there_is_room(small_disk: Path) -> None:
    with Receiver(small_disk) as receiver:
        acknowledged = set()
        with association(receiver) as opened:
            for number in range(100):
                if send(opened, number, 200_000) == 0:
                    acknowledged.add(number)
            assert 5 < len(acknowledged) < 60
            assert send(opened, 200, BIG) == OUT_OF_RESOURCES
        kept = receiver.kept()
        assert set(kept) == {f"1.2.3.1.{number}" for number in acknowledged}
        for number in acknowledged:
            assert kept[f"1.2.3.1.{number}"].endswith(bytes([number % 256]) * 200_000)
        assert list(receiver.spool.absolute(Path("received/unfinished")).iterdir()) == []

        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        with association(receiver) as opened:
            assert {send(opened, number, 200_000) for number in range(100)} == {0}


@pytest.mark.peers
@pytest.mark.slow
def test_a_database_that_is_stopped_is_out_of_resources_and_nothing_is_lost(tmp_path: Path) -> None:
    with (
        postgresql_server.running_cluster() as cluster,
        Receiver(tmp_path, database_url=f"{cluster.url}/postgres") as receiver,
    ):
        with association(receiver) as opened:
            assert send(opened, 1) == 0
            cluster.stop()
            began = time.monotonic()
            assert send(opened, 2) == OUT_OF_RESOURCES
            assert time.monotonic() - began < 30, "senders commonly wait no longer"
            cluster.start()
            assert [send(opened, 2), send(opened, 3)] == [0, 0]
        kept = receiver.kept()
        assert set(kept) == {"1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"}
        expected = mr_image(2)
        expected.PixelData = bytes([2]) * 8
        assert kept["1.2.3.1.2"].endswith(encoded(expected))
        assert len(files(receiver)) == 3
