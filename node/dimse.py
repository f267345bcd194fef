"""The DIMSE messages of the receiver, as bytes: requests for C-STORE, C-ECHO and N-EVENT-REPORT, and the answers. Pure.

Command sets are Implicit VR Little Endian, whatever was negotiated (PS3.7 section 6.3.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
C_ECHO_RQ = 0x0030
C_ECHO_RSP = 0x8030
N_EVENT_REPORT_RQ = 0x0100
N_EVENT_REPORT_RSP = 0x8100
SUCCESS = 0x0000
NO_DATA_SET = 0x0101
"""Value of Command Data Set Type that says there is none (PS3.7 section E.1)."""

_AFFECTED_SOP_CLASS_UID = 0x00000002
_COMMAND_FIELD = 0x00000100
_MESSAGE_ID = 0x00000110
_RESPONDED_TO = 0x00000120
_DATA_SET_TYPE = 0x00000800
_STATUS = 0x00000900
_AFFECTED_SOP_INSTANCE_UID = 0x00001000
_EVENT_TYPE_ID = 0x00001002
_P_DATA_TF = 0x04
_LAST_COMMAND_FRAGMENT, _COMMAND_FRAGMENT = 3, 1
_SMALLEST_PDU = 64


class NotACommand(Exception):
    """The bytes are no command set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What a request asks for; UIDs as they came, for the answer must repeat them."""

    context_id: int
    field: int
    message_id: int
    has_dataset: bool
    sop_class_uid: bytes
    sop_instance_uid: bytes
    event_type: int = 0
    """Of an N-EVENT-REPORT; 0 where there is none."""


def read_command(encoded: bytes, context_id: int) -> Command:
    """A command set (PS3.7 section 6.3).

    Raises:
        NotACommand
    """
    values: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + 8 > len(encoded):
            raise NotACommand("command that ends inside an element")
        group, element, length = struct.unpack_from("<HHL", encoded, position)
        position += 8 + length
        if position > len(encoded):
            raise NotACommand("command that ends inside an element")
        values[group << 16 | element] = encoded[position - length : position]
    return Command(
        context_id=context_id,
        field=_number(values, _COMMAND_FIELD),
        message_id=_number(values, _MESSAGE_ID),
        has_dataset=_number(values, _DATA_SET_TYPE) != NO_DATA_SET,
        sop_class_uid=values.get(_AFFECTED_SOP_CLASS_UID, b""),
        sop_instance_uid=values.get(_AFFECTED_SOP_INSTANCE_UID, b""),
        event_type=int.from_bytes(values.get(_EVENT_TYPE_ID, b"")[:2], "little"),
    )


def _number(values: dict[int, bytes], tag: int) -> int:
    value = values.get(tag, b"")
    if len(value) != 2:
        raise NotACommand("command without one of its numbers")
    return int.from_bytes(value, "little")


def uid_text(value: bytes) -> str:
    """A UID of a command without its padding; whatever else it is stays as it is."""
    return value.rstrip(b"\0 ").decode("latin-1")


def store_response(request: Command, status: int) -> bytes:
    """The C-STORE response (PS3.7 section 9.3.1.2)."""
    return _response(request, C_STORE_RSP, status, _element(_AFFECTED_SOP_INSTANCE_UID, request.sop_instance_uid))


def event_report_response(request: Command, status: int) -> bytes:
    """The N-EVENT-REPORT response, without an Event Reply (PS3.7 section 10.3.1.2)."""
    instance = _element(_AFFECTED_SOP_INSTANCE_UID, request.sop_instance_uid)
    event_type = _element(_EVENT_TYPE_ID, struct.pack("<H", request.event_type))
    return _response(request, N_EVENT_REPORT_RSP, status, instance + event_type)


def echo_response(request: Command) -> bytes:
    """The C-ECHO response (PS3.7 section 9.3.5.2): success."""
    return _response(request, C_ECHO_RSP, SUCCESS, b"")


def _response(request: Command, field: int, status: int, rest: bytes) -> bytes:
    elements = b"".join(
        (
            _element(_AFFECTED_SOP_CLASS_UID, request.sop_class_uid),
            _element(_COMMAND_FIELD, struct.pack("<H", field)),
            _element(_RESPONDED_TO, struct.pack("<H", request.message_id)),
            _element(_DATA_SET_TYPE, struct.pack("<H", NO_DATA_SET)),
            _element(_STATUS, struct.pack("<H", status)),
            rest,
        )
    )
    return _element(0, struct.pack("<L", len(elements))) + elements


def _element(tag: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def p_data_pdus(context_id: int, command: bytes, maximum_pdu_bytes: int | None) -> Iterator[bytes]:
    """A command set as P-DATA-TF PDUs of one fragment each (PS3.8 section 9.3.5); 0 or None = no maximum."""
    room = max(maximum_pdu_bytes, _SMALLEST_PDU) - 6 if maximum_pdu_bytes else len(command)
    for begin in range(0, len(command), room):
        fragment = command[begin : begin + room]
        control = _LAST_COMMAND_FRAGMENT if begin + room >= len(command) else _COMMAND_FRAGMENT
        value_bytes = len(fragment) + 2
        yield struct.pack(">BxLLBB", _P_DATA_TF, value_bytes + 4, value_bytes, context_id, control) + fragment
