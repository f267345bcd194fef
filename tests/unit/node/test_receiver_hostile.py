"""The receiver as a real process against the hostile corpus: each object gets its status, and nothing is left of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from tests.hostile_corpus import EITHER, PRIVATE, STORED, Sent, objects, requests
from tests.pdus import RELEASE, command, p_data, read_pdu, request, status_in
from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

pytestmark = pytest.mark.slow

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, PRIVATE)
REFUSALS = (0xA700, 0xA900, 0xC000)
GROWTH_MB = 1.5
"""Over two passes of the corpus, which are 1460 objects."""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("hostile")
    with Receiver(folder, acse_timeout_s=3, network_timeout_s=20, maximum_associations_per_address=50) as running:
        yield running


def proposal() -> bytes:
    """MR images in each of the transfer syntaxes, as contexts 1, 3, 5 and 7."""
    return request(*((MRImageStorage, syntax) for syntax in SYNTAXES))


def connect(receiver: Receiver) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", receiver.port))
    connection.settimeout(30)
    return connection


def send(connection: socket.socket, sent: Sent) -> int:
    """The status that the receiver answers to an object."""
    context = 2 * SYNTAXES.index(sent.transfer_syntax_uid) + 1
    connection.sendall(p_data(context, 3, command(1, MRImageStorage, sent.uid)) + p_data(context, 2, sent.content))
    kind, answer = read_pdu(connection)
    assert kind == 4, f"{sent.name}: the association ended"
    return status_in(answer)


def send_all(receiver: Receiver) -> dict[str, int]:
    with connect(receiver) as connection:
        connection.sendall(proposal())
        assert read_pdu(connection)[0] == 2
        answers = {sent.name: send(connection, sent) for sent in objects()}
        connection.sendall(RELEASE)
        assert read_pdu(connection)[0] == 6, "A-RELEASE-RP"
    return answers


def test_every_object_gets_its_status_and_the_association_goes_on(receiver: Receiver) -> None:
    answers = send_all(receiver)
    assert len(answers) > 600
    expected = {sent.name: sent.becomes for sent in objects()}
    wrong = {
        name: hex(status)
        for name, status in answers.items()
        if status
        not in ((0, *REFUSALS) if expected[name] == EITHER else (0,) if expected[name] == STORED else REFUSALS)
    }
    assert wrong == {}


def test_what_may_legally_be_sent_is_kept_byte_for_byte(receiver: Receiver) -> None:
    kept = receiver.kept()
    for sent in objects():
        if sent.becomes == STORED:
            assert kept[sent.uid].endswith(sent.content), sent.name


def test_more_of_the_same_costs_no_more_memory(receiver: Receiver) -> None:
    for _ in range(2):  # by then everything has been loaded, and the allocator has what it needs
        send_all(receiver)
    rss_mb, threads, files = receiver.rss_mb, receiver.threads, receiver.open_files
    for _ in range(2):
        send_all(receiver)
    assert receiver.rss_mb < rss_mb + GROWTH_MB
    assert receiver.threads <= threads + 2, "the last association may still be ending"
    assert receiver.open_files <= files + 3
    assert receiver.rss_mb < 100


def test_a_request_of_which_any_byte_is_wrong_does_no_harm(receiver: Receiver) -> None:
    for damaged in requests(proposal()):
        with connect(receiver) as connection:
            connection.sendall(damaged)
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                continue  # an answer as good as any
    with connect(receiver) as connection:
        connection.sendall(proposal())
        assert read_pdu(connection)[0] == 2
        good = Sent(name="good", content=encoded(mr_image(9100)), becomes=STORED, uid="1.2.3.1.9100")
        assert send(connection, good) == 0


def test_zz_no_file_lies_anywhere_but_in_the_spool(receiver: Receiver) -> None:
    folder = receiver.log_file.parent
    assert list(receiver.spool.absolute(Path("received/unfinished")).iterdir()) == []
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    outside = {path for path in files if path.parts[:2] != ("data", "spool")}
    assert {path.name for path in outside} <= {"node.toml", "receiver.log", "node.db", "node.db-wal", "node.db-shm"}
    named = {path.parts[:3] for path in files - outside}
    assert named == {("data", "spool", "received")}
    assert "Traceback" not in receiver.log
    assert "SECRET" not in receiver.log
