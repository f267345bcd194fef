"""A receiver that runs out of files: as a real process with a small limit, it recovers and says what limits it."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from node.file_limit import FILES_OF_ASSOCIATION, RESERVE, fitting, most_files
from node.settings import ReceiverSettings
from tests.pdus import RELEASE, read_pdu, request
from tests.receiving import Receiver

FILES = 64
BEGUN = b"\1\0\0\0\0\x64" + bytes(10)
"""The beginning of an A-ASSOCIATE-RQ."""


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_is_raised_as_far_as_it_may_be(limits: tuple[int, int]) -> None:
    hard = limits[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    assert most_files() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize(
    ("files", "associations"),
    [
        (resource.RLIM_INFINITY, 100),
        (RESERVE + 100 * FILES_OF_ASSOCIATION, 100),
        (RESERVE + 100 * FILES_OF_ASSOCIATION - 1, 99),
        (RESERVE + 3 * FILES_OF_ASSOCIATION, 3),
        (10, 1),
    ],
)
def test_no_more_associations_than_there_are_files_for(
    files: int, associations: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert fitting(ReceiverSettings(maximum_associations=100), files).maximum_associations == associations
    assert ("receiver.maximum_associations = 100" in caplog.text) == (associations < 100)


def test_out_of_files_it_closes_connections_and_takes_associations_again_afterwards(tmp_path: Path) -> None:
    with Receiver(tmp_path, acse_timeout_s=1) as receiver:
        resource.prlimit(receiver.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        associate(receiver)  # what is loaded late is loaded now
        before = receiver.open_files
        for _ in range(3):
            flood(receiver)
        receiver.wait_for_log("nothing of it was read: Too many open files")
        deadline = time.monotonic() + 15
        while receiver.open_files > before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert receiver.open_files <= before
        for _ in range(4):
            associate(receiver)


def flood(receiver: Receiver) -> None:
    opened = []
    for _ in range(60):
        connection = socket.create_connection(("127.0.0.1", receiver.port), timeout=5)
        opened.append(connection)
        try:
            connection.sendall(BEGUN)
        except OSError:
            continue  # sent off already
    time.sleep(1)
    for connection in opened:
        connection.close()


def associate(receiver: Receiver) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
        connection.sendall(request((MRImageStorage, ExplicitVRLittleEndian)))
        assert read_pdu(connection)[0] == 2, "A-ASSOCIATE-AC"
        connection.sendall(RELEASE)
        assert read_pdu(connection)[0] == 6
