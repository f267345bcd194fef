"""Associations and PDUs made by hand, and what a receiver is like when they are over."""

from __future__ import annotations

import socket
import struct
import threading
import time

from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests.receiving import Receiver

SECONDS_OF_SILENCE = 4


def associate(receiver: Receiver) -> Association:
    ae = AE(ae_title="MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    ae.add_requested_context(Verification)
    return ae.associate("127.0.0.1", receiver.port, ae_title="SPINENODE")


def echo(receiver: Receiver) -> None:
    """It answers as ever."""
    association = associate(receiver)
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    association.release()


def connect(receiver: Receiver) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", receiver.port))
    connection.settimeout(10)
    return connection


def request(*, called: str = "SPINENODE") -> bytes:
    """An A-ASSOCIATE-RQ PDU that proposes MR images as context 1 and verification as context 3."""
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "MODALITY", called
    images, verification = build_context(MRImageStorage, ExplicitVRLittleEndian), build_context(Verification)
    images.context_id, verification.context_id = 1, 3
    asked.presentation_context_definition_list = [images, verification]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    asked.user_information = [length, implementation]
    return A_ASSOCIATE_RQ(asked).encode()


def negotiated(receiver: Receiver) -> socket.socket:
    """A connection with an association on it, to send anything over."""
    connection = connect(receiver)
    connection.sendall(request())
    assert read_pdu(connection)[0] == 2, "A-ASSOCIATE-AC"
    return connection


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and content; 0 where the peer hung up."""
    head = b""
    while len(head) < 6:
        got = connection.recv(6 - len(head))
        if not got:
            return 0, b""
        head += got
    kind, length = struct.unpack(">BxL", head)
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return kind, body


def p_data(*values: tuple[int, int, bytes]) -> bytes:
    """A P-DATA-TF PDU of (context, control, fragment)."""
    body = b"".join(
        struct.pack(">LBB", len(fragment) + 2, context, control) + fragment for context, control, fragment in values
    )
    return struct.pack(">BxL", 4, len(body)) + body


def command(field: int, *, has_dataset: bool = True, uid: bytes = b"1.2.3.1.1") -> bytes:
    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    return b"".join(
        (
            element(2, MRImageStorage.encode()),
            element(0x100, struct.pack("<H", field)),
            element(0x110, struct.pack("<H", 1)),
            element(0x800, struct.pack("<H", 1 if has_dataset else 0x0101)),
            element(0x1000, uid),
        )
    )


def ended(connection: socket.socket) -> bool:
    """Whether the receiver aborts or hangs up."""
    try:
        return read_pdu(connection)[0] in (0, 7)
    except ConnectionResetError:
        return True


def load(receiver: Receiver) -> tuple[int, int]:
    return receiver.threads, receiver.open_files


def wait_until_it_is_as_before(receiver: Receiver, before: tuple[int, int]) -> None:
    """Threads and files each: as tuples one would make up for the other."""
    threads, open_files = before
    deadline = time.monotonic() + 30
    while (receiver.threads > threads or receiver.open_files > open_files) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert receiver.threads <= threads
    assert receiver.open_files <= open_files


def assert_it_is_as_it_was(receiver: Receiver) -> None:
    """At the end of a file."""
    deadline = time.monotonic() + 20
    while receiver.threads > 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert receiver.threads <= 3
    assert receiver.open_files < 20
    assert receiver.rss_mb < 100
    senders = [threading.Thread(target=echo, args=(receiver,)) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(timeout=60)
    outside = [path for path in receiver.log_file.parent.rglob("*") if path.is_file() and "data" not in path.parts]
    assert {path.name for path in outside} == {"node.toml", "receiver.log"}
    assert "Traceback" not in receiver.log


def assert_its_log_names_nobody(receiver: Receiver) -> None:
    log = "\n".join(line for line in receiver.log.splitlines() if "alembic" not in line)
    assert "association ended" in log
    assert "SECRET" not in log
    assert "1.2.3" not in log
