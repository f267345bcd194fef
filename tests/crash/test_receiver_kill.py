"""kill -9 of the receiver: each image that it acknowledged is there, whole; sending all again completes the study."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE

from tests.receiver_program import OBJECT_TO_STOP_AT, PAUSES
from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

pytestmark = pytest.mark.slow

IMAGES = 60
RANDOM_KILLS = 6


def image(number: int) -> Dataset:
    """An image of some 70 kB, so that a kill can fall into the writing of it."""
    dataset = mr_image(number)
    dataset.PixelData = hashlib.sha256(str(number).encode()).digest() * 2200
    return dataset


def send(receiver: Receiver, numbers: range, acknowledged: set[str]) -> None:
    """Sends until all are sent or the receiver is gone, and notes which were answered with success."""
    ae = AE(ae_title="MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", receiver.port, ae_title="SPINENODE")
    connection = association.dul.socket.socket
    try:
        for number in numbers:
            status = association.send_c_store(image(number))
            if status and status.Status == 0x0000:
                acknowledged.add(f"1.2.3.1.{number}")
        association.release()
    except RuntimeError:
        return  # what pynetdicom says when the association is gone
    finally:
        connection.close()  # it forgets the socket then


def assert_whole(receiver: Receiver, acknowledged: set[str]) -> None:
    kept = receiver.kept()
    assert acknowledged <= set(kept), f"acknowledged and lost: {acknowledged - set(kept)}"
    for uid, content in kept.items():
        assert content.endswith(encoded(image(int(uid.rpartition(".")[2])))), f"{uid} is not what was sent"


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


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Two senders at once, kill after kill on the same spool and ledger."""
    moments = random.Random(20260301)
    acknowledged: set[str] = set()
    for _ in range(RANDOM_KILLS):
        with Receiver(tmp_path) as receiver:
            senders = [
                threading.Thread(target=send, args=(receiver, range(first, IMAGES, 2), acknowledged))
                for first in (0, 1)
            ]
            for sender in senders:
                sender.start()
            time.sleep(moments.uniform(0.05, 1.5))
            receiver.kill()
            for sender in senders:
                sender.join(timeout=60)
        assert_whole(receiver, acknowledged)
    with Receiver(tmp_path) as receiver:
        send(receiver, range(IMAGES), acknowledged)
        assert len(acknowledged) == IMAGES
        assert_whole(receiver, acknowledged)
        finished, unfinished = files(receiver, tmp_path)
        assert unfinished == 0
        # files that were finished but not acknowledged are a waste of some kB at each kill, and never a second image
        assert IMAGES <= finished <= IMAGES + 2 * RANDOM_KILLS
