"""What receivers in the field were caught out by: many contexts, rushes, big objects, odd values."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage
from pynetdicom.sop_class import EnhancedMRImageStorage  # type: ignore[attr-defined]

from tests.pdus import RELEASE, command, p_data, read_pdu, request, status_in, store
from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

pytestmark = pytest.mark.slow

AT_ONCE = 30
"""Studies that a PACS forwards at the same moment; libraries refuse the eleventh."""
BIG_BYTES = 64 * 2**20
PIECE_BYTES = 2**20
GROWTH_MB = 16


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


def connect(receiver: Receiver, *proposed: tuple[str, str]) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", receiver.port), timeout=60)
    connection.sendall(request(*proposed))
    assert read_pdu(connection)[0] == 2, "A-ASSOCIATE-AC"
    return connection


def sent(connection: socket.socket, number: int, uid: str, sop_class: str, dataset: bytes) -> int:
    connection.sendall(store(number, uid, sop_class, dataset))
    return status_in(read_pdu(connection)[1])


def test_of_128_contexts_the_last_is_as_good_as_the_first(receiver: Receiver) -> None:
    """As many as an association can have; the image is in the one that a list of known classes would not reach."""
    others = [(f"1.2.826.0.1.9999.{number}", ExplicitVRLittleEndian) for number in range(127)]
    connection = connect(receiver, *others, (EnhancedMRImageStorage, JPEG2000Lossless))
    image = mr_image(1)
    image.SOPClassUID = EnhancedMRImageStorage
    assert sent(connection, 255, "1.2.3.1.1", EnhancedMRImageStorage, encoded(image)) == 0
    connection.close()
    assert receiver.kept()["1.2.3.1.1"].endswith(encoded(image))


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


ODD_VALUES = {
    "a character set that nobody knows": element(8, 5, b"CS", b"ISO_IR 9999 "),
    "a name that is not in the character set": element(0x10, 0x10, b"PN", b"M\xfcller^\xff\xfe "),
    "a date that is none": element(0x10, 0x30, b"DA", b"31.12.1999"),
    "a number that is none": element(0x18, 0x80, b"DS", b"1,5e"),
    "a text longer than its VR allows": element(8, 0x1030, b"LO", b"x" * 200),
    "a private element of an unknown VR": struct.pack("<HH2sHL", 0x19, 0x1010, b"ZZ", 0, 4) + b"1234",
}


@pytest.mark.parametrize("what", ODD_VALUES)
def test_an_image_is_kept_byte_for_byte_whatever_its_values_are(receiver: Receiver, what: str) -> None:
    number = 100 + list(ODD_VALUES).index(what)
    image = mr_image(number)
    del image.PatientName
    plain, odd = encoded(image), ODD_VALUES[what]
    place = next(at for at, tag in _elements(plain) if tag > struct.unpack("<HH", odd[:4]))
    dataset = plain[:place] + odd + plain[place:]
    with connect(receiver, (MRImageStorage, ExplicitVRLittleEndian)) as connection:
        assert sent(connection, 1, f"1.2.3.1.{number}", MRImageStorage, dataset) == 0
    assert receiver.kept()[f"1.2.3.1.{number}"].endswith(dataset)


def _elements(dataset: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """Offset and tag of each element of an Explicit VR Little Endian data set without sequences."""
    at = 0
    while at < len(dataset):
        group, number, vr = struct.unpack_from("<HH2s", dataset, at)
        yield at, (group, number)
        if vr == b"OW":
            at += 12 + int(struct.unpack_from("<L", dataset, at + 8)[0])
        else:
            at += 8 + int(struct.unpack_from("<H", dataset, at + 6)[0])


def test_uids_with_leading_zeros_are_taken_as_they_are(receiver: Receiver) -> None:
    """Not allowed (PS3.5 section 9.1), and made by modalities in use."""
    image = encoded(mr_image(200)).replace(b"1.2.3.1.200\0", b"1.2.3.1.0200")
    with connect(receiver, (MRImageStorage, ExplicitVRLittleEndian)) as connection:
        assert sent(connection, 1, "1.2.3.1.0200", MRImageStorage, image) == 0
    assert "1.2.3.1.0200" in receiver.kept()


def test_thirty_who_come_at_the_same_moment_are_all_let_in(receiver: Receiver) -> None:
    together = threading.Barrier(AT_ONCE)
    statuses: list[int] = []

    def one(number: int) -> None:
        together.wait()
        with connect(receiver, (MRImageStorage, ExplicitVRLittleEndian)) as connection:
            together.wait()  # all are open
            image = encoded(mr_image(number, study=f"1.2.3.{number}"))
            statuses.append(sent(connection, 1, f"1.2.3.1.{number}", MRImageStorage, image))
            connection.sendall(RELEASE)
            read_pdu(connection)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(300, 300 + AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert statuses == [0] * AT_ONCE
    assert {f"1.2.3.1.{number}" for number in range(300, 300 + AT_ONCE)} <= set(receiver.kept())


def test_an_object_of_64_mb_needs_no_64_mb_of_memory(receiver: Receiver) -> None:
    """Enhanced multi-frame objects have hundreds: they go to the disk as they come."""
    image = mr_image(400)
    del image.PixelData
    head = encoded(image) + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, BIG_BYTES)
    piece = bytes(range(256)) * (PIECE_BYTES // 256)
    peak_mb = before_mb = receiver.rss_mb
    with connect(receiver, (MRImageStorage, ExplicitVRLittleEndian)) as connection:
        connection.sendall(p_data(1, 3, command(1, MRImageStorage, "1.2.3.1.400")) + p_data(1, 0, head))
        for number in range(BIG_BYTES // PIECE_BYTES):
            connection.sendall(p_data(1, 2 if (number + 1) * PIECE_BYTES == BIG_BYTES else 0, piece))
            peak_mb = max(peak_mb, receiver.rss_mb)
        assert status_in(read_pdu(connection)[1]) == 0
    assert peak_mb < before_mb + GROWTH_MB
    path = receiver.kept_files()["1.2.3.1.400"]
    assert path.stat().st_size > BIG_BYTES
    assert path.read_bytes().endswith(head + piece * (BIG_BYTES // PIECE_BYTES))
