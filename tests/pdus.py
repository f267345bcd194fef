"""PDUs and DIMSE messages written by hand, for tests that send what no library would, or count every microsecond."""

from __future__ import annotations

import socket
import struct

from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

RELEASE = struct.pack(">BxLL", 5, 4, 0)
"""A-RELEASE-RQ."""


def request(*proposed: tuple[str, str]) -> bytes:
    """An A-ASSOCIATE-RQ of (SOP class, transfer syntax), as contexts 1, 3, 5 and so on."""
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "MODALITY", "SPINENODE"
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in proposed]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    asked.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    asked.user_information = [length, implementation]
    return bytes(A_ASSOCIATE_RQ(asked).encode())


def p_data(context: int, control: int, fragment: bytes) -> bytes:
    """A P-DATA-TF PDU of one fragment; ``control``: 3 whole command, 2 end of a data set, 1 and 0 more to come."""
    return struct.pack(">BxLLBB", 4, len(fragment) + 6, len(fragment) + 2, context, control) + fragment


def store(number: int, uid: str, sop_class_uid: str, dataset: bytes, *, fragment_bytes: int = 2**16) -> bytes:
    """A C-STORE request in context ``number`` as storescu sends it, in fragments."""
    sent = [p_data(number, 3, command(1, sop_class_uid, uid))]
    for begin in range(0, len(dataset), fragment_bytes):
        is_last = begin + fragment_bytes >= len(dataset)
        sent.append(p_data(number, 2 if is_last else 0, dataset[begin : begin + fragment_bytes]))
    return b"".join(sent)


def command(field: int, sop_class_uid: str, sop_instance_uid: str = "") -> bytes:
    """A request; with a SOP Instance UID it has a data set."""
    elements = [
        (2, _uid(sop_class_uid)),
        (0x100, struct.pack("<H", field)),
        (0x110, struct.pack("<H", 1)),
        (0x800, struct.pack("<H", 1 if sop_instance_uid else 0x0101)),
    ]
    if sop_instance_uid:
        elements.append((0x1000, _uid(sop_instance_uid)))
    return b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements)


def _uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and content; raises ``OSError`` where the receiver has hung up."""
    kind, length = struct.unpack(">BxL", _exactly(connection, 6))
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        piece = connection.recv(count - len(got))
        if not piece:
            raise ConnectionResetError("the receiver hung up")
        got += piece
    return got


def status_in(answer: bytes) -> int:
    """Of a DIMSE response."""
    place = answer.index(struct.pack("<HHL", 0, 0x900, 2)) + 8
    return int(struct.unpack_from("<H", answer, place)[0])
