"""kill -9 of the receiver: each image that it acknowledged is there, whole; sending all again completes the study."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from tests import postgresql_server
from tests.pdus import RELEASE, read_pdu, request, status_in, store
from tests.receiver_program import OBJECT_TO_STOP_AT, PAUSES
from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

pytestmark = pytest.mark.slow

SENDERS = 4
RANDOM_KILLS = int(os.environ.get("RECEIVER_KILLS", "10"))
"""On each database; RECEIVER_KILLS=200 is the long run, which takes about a quarter of an hour for each."""
IMAGES = max(100, 10 * RANDOM_KILLS)


def image(number: int) -> Dataset:
    """An image of 70 kB, so that a kill can fall into the writing of it; some of 560 kB, too big to wait in memory."""
    dataset = mr_image(number)
    dataset.PixelData = hashlib.sha256(str(number).encode()).digest() * (17600 if number % 5 == 4 else 2200)
    return dataset


def send(receiver: Receiver, numbers: Sequence[int], acknowledged: set[str]) -> None:
    """Sends until all are sent or the receiver is gone, and notes which were answered with success."""
    try:
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=60) as connection:
            connection.sendall(request((MRImageStorage, ExplicitVRLittleEndian)))
            read_pdu(connection)
            for number in numbers:
                uid = f"1.2.3.1.{number}"
                connection.sendall(store(1, uid, MRImageStorage, encoded(image(number))))
                if status_in(read_pdu(connection)[1]) == 0:
                    acknowledged.add(uid)
            connection.sendall(RELEASE)
            read_pdu(connection)
    except ConnectionError:
        return  # it was killed


def assert_whole(receiver: Receiver, acknowledged: set[str], looked_at: set[str] | None = None) -> None:
    """Every acknowledged image is kept, as it was sent; those in ``looked_at`` were compared before, and are there."""
    kept = receiver.kept_files()
    assert acknowledged <= set(kept), f"acknowledged and lost: {acknowledged - set(kept)}"
    looked_at = set() if looked_at is None else looked_at
    for uid, path in kept.items():
        if uid in looked_at:
            assert path.exists(), f"{uid} has lost its file"
        else:
            whole = encoded(image(int(uid.rpartition(".")[2])))
            assert path.read_bytes().endswith(whole), f"{uid} is not what was sent"
    looked_at |= set(kept)


def files(receiver: Receiver, folder: Path) -> tuple[int, int]:
    """How many finished and how many unfinished files the spool has."""
    received = folder / "data/spool/received"
    finished = len(list(received.glob("[0-9a-f][0-9a-f]/*.dcm")))
    return finished, len(list((received / "unfinished").iterdir()))


@pytest.mark.parametrize("step", PAUSES)
def test_killed_at_every_step(tmp_path: Path, step: str) -> None:
    receiver = Receiver(tmp_path, pause_at=step)
    acknowledged: set[str] = set()
    with receiver:
        sending = threading.Thread(target=send, args=(receiver, range(5), acknowledged))
        sending.start()
        assert receiver.wait_for("paused") == step
        receiver.kill()
        sending.join(timeout=60)
    assert len(acknowledged) == OBJECT_TO_STOP_AT - 1
    assert_whole(receiver, acknowledged)

    with Receiver(tmp_path) as again:
        assert files(again, tmp_path)[1] == 0
        everything: set[str] = set()
        send(again, range(5), everything)
        assert len(everything) == 5
        assert_whole(again, everything)
        assert len(again.kept()) == 5


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Empty: SQLite beside the spool."""
    if request.param == "sqlite":
        yield ""
    else:
        with postgresql_server.running_server() as server:
            yield f"{server}/postgres"


def rows(receiver: Receiver) -> int:
    ledger = receiver.ledger()
    (study,) = ledger.open_studies()
    ledger.close()
    return study.instance_count


@pytest.mark.timeout(120 + 20 * RANDOM_KILLS)
def test_killed_at_random_moments(tmp_path: Path, database_url: str) -> None:
    """Four senders at once, kill after kill on the same spool and ledger; each begins with what is not acknowledged."""
    moments = random.Random(20260301)
    acknowledged: set[str] = set()
    looked_at: set[str] = set()
    for _ in range(RANDOM_KILLS):
        with Receiver(tmp_path, database_url=database_url) as receiver:
            assert files(receiver, tmp_path)[1] == 0, "the start sweeps what a kill left unfinished"
            left = [number for number in range(IMAGES) if f"1.2.3.1.{number}" not in acknowledged] or range(IMAGES)
            senders = [
                threading.Thread(target=send, args=(receiver, left[first::SENDERS], acknowledged))
                for first in range(SENDERS)
            ]
            for sender in senders:
                sender.start()
            time.sleep(moments.uniform(0.05, 1.0))
            receiver.kill()
            for sender in senders:
                sender.join(timeout=60)
        assert_whole(receiver, acknowledged, looked_at)
    with Receiver(tmp_path, database_url=database_url) as receiver:
        everything: set[str] = set()
        send(receiver, range(IMAGES), everything)
        assert len(everything) == IMAGES
        assert_whole(receiver, everything)
        assert rows(receiver) == len(receiver.kept()) == IMAGES, "exactly one of each"
        finished, unfinished = files(receiver, tmp_path)
        assert unfinished == 0
        # files that were finished but not acknowledged are a waste of some kB at each kill, and never a second image
        assert IMAGES <= finished <= IMAGES + SENDERS * RANDOM_KILLS
        for path in (tmp_path / "data/spool/received").glob("[0-9a-f][0-9a-f]/*.dcm"):
            number = int(pydicom.dcmread(path, specific_tags=["InstanceNumber"]).InstanceNumber)
            assert path.read_bytes().endswith(encoded(image(number))), "every file under a final name is whole"
