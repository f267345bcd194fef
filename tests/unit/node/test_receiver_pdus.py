"""The longest PDU that the receiver announces is the longest that it takes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from tests.pdus import read_pdu, request, status_in, store
from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

LONGEST = 4096
AROUND_A_FRAGMENT = 6
"""Length, context and control of its presentation data value, which the length of the PDU counts."""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("receiver"), maximum_pdu_bytes=LONGEST) as running:
        yield running


def answer(receiver: Receiver, number: int, fragment_bytes: int) -> tuple[int, bytes]:
    """What is said to an image of 10 kB in fragments of that size."""
    image = mr_image(number)
    image.PixelData = bytes(10_000)
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as connection:
        connection.sendall(request((MRImageStorage, ExplicitVRLittleEndian)))
        assert read_pdu(connection)[0] == 2
        uid = f"1.2.3.1.{number}"
        connection.sendall(store(1, uid, MRImageStorage, encoded(image), fragment_bytes=fragment_bytes))
        return read_pdu(connection)


def test_pdus_as_long_as_announced_are_taken(receiver: Receiver) -> None:
    kind, said = answer(receiver, 1, LONGEST - AROUND_A_FRAGMENT)
    assert (kind, status_in(said)) == (4, 0x0000)


def test_a_longer_pdu_ends_the_association(receiver: Receiver) -> None:
    kind, _ = answer(receiver, 2, LONGEST - AROUND_A_FRAGMENT + 1)
    assert kind == 7, "A-ABORT"
    receiver.wait_for_log("association ended: P-DATA-TF longer than receiver.maximum_pdu_bytes")
    assert "1.2.3.1.2" not in receiver.kept()
