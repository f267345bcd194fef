"""STOW-RS on a disk that comes below its watermark: while a body comes, and between the parts of one."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest

from node.intake import Intake
from node.ledger import open_ledger
from node.refusals import Refusals
from node.settings import ReceiverSettings
from node.spool import Spool, StoredFile
from node.stow import StowServer
from tests.unit.node.encoded_images import mr_image

TOKEN = "a-token-of-more-than-20-characters"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/related; boundary=MARK"}


class Disk(Spool):
    """It has room for so many objects, and no more."""

    objects = 1000

    def free_bytes(self) -> int:
        return 2 if self.objects else 0

    def store_received(self, parts: Iterable[bytes | memoryview]) -> StoredFile:
        stored = super().store_received(parts)
        self.objects -= 1
        return stored


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "spool", minimum_free_bytes=1)


@pytest.fixture
def connection(tmp_path: Path, disk: Disk) -> Iterator[http.client.HTTPConnection]:
    """To a server that keeps its objects there."""
    ledger = open_ledger(f"sqlite:///{tmp_path / 'node.db'}")
    intake = Intake(disk, ledger, lambda: datetime.now(UTC))
    server = StowServer(ReceiverSettings(), TOKEN, intake, tmp_path, None, Refusals())
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    asking = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    yield asking
    asking.close()
    server.shutdown()
    server.server_close()
    serving.join()
    ledger.close()


def test_a_body_that_would_fill_the_disk_is_refused_before_it_is_whole(
    connection: http.client.HTTPConnection, disk: Disk
) -> None:
    connection.putrequest("POST", "/studies")
    for name, value in (HEADERS | {"Content-Length": str(2**30)}).items():
        connection.putheader(name, value)
    connection.endheaders(bytes(2**24))  # more than the buffers on the way hold: it has begun to read
    disk.objects = 0
    with contextlib.suppress(OSError):  # it has answered already
        connection.send(bytes(2**20))
    assert connection.getresponse().status == 503


def test_what_there_is_no_room_for_is_refused_part_by_part(connection: http.client.HTTPConnection, disk: Disk) -> None:
    disk.objects = 1
    body = b""
    for number in (1, 2):
        stream = BytesIO()
        mr_image(number).save_as(stream, enforce_file_format=True)
        body += b"--MARK\r\n\r\n" + stream.getvalue() + b"\r\n"
    connection.request("POST", "/studies", body + b"--MARK--", HEADERS)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    assert answer.status == 202
    assert said["00081199"]["Value"][0]["00081155"]["Value"] == ["1.2.3.1.1"]
    assert said["00081198"]["Value"][0]["00081155"]["Value"] == ["1.2.3.1.2"]
    assert said["00081198"]["Value"][0]["00081197"]["Value"] == [0xA700]
