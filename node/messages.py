"""The DIMSE messages of one association: from fragments in P-DATA-TF PDUs to answers. Knows C-STORE, C-ECHO
and the N-EVENT-REPORT of storage commitment.

The bytes of an object go from the socket to where they stay, and its answer goes out in the thread that has read it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from node.arriving import Incoming, TooBig
from node.connection import LEAST_BYTES_PER_S, READ_AT_ONCE_BYTES, Connection
from node.dimse import (
    C_ECHO_RQ,
    C_STORE_RQ,
    N_EVENT_REPORT_RQ,
    Command,
    NotACommand,
    echo_response,
    event_report_response,
    p_data_pdus,
    read_command,
    store_response,
)
from node.records import Recorded

LARGEST_COMMAND_BYTES = 2**16
_VERIFICATION = "1.2.840.10008.1.1"
_STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
_COMMAND, _LAST = 1, 2
"""Bits of the message control header (PS3.8 section E.2)."""


class Invalid(Exception):
    """What the peer sent breaks the protocol, or was not negotiated; the text says how, without what it held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Negotiated:
    """What the reader needs to know of a presentation context."""

    sop_class_uid: str
    transfer_syntax_uid: str


class Reception(Protocol):
    """The association, as far as messages concern it."""

    def context(self, context_id: int) -> Negotiated | None: ...

    def begin(self, command: Command, transfer_syntax_uid: str, buffer: bytearray) -> Incoming: ...

    def answered(self, status: int, recorded: Recorded | None) -> None: ...

    def maximum_pdu_bytes(self) -> int: ...


class Messages:
    """Reads one message after the other; call ``read_p_data`` for each P-DATA-TF PDU, and ``close`` in the end."""

    def __init__(self, reception: Reception, silence_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._reception = reception
        self._silence_s = silence_s
        self._clock = clock
        self._encoded = bytearray()
        self._command: Command | None = None
        self._arriving: Incoming | None = None
        self._buffer = bytearray()
        self._began = 0.0
        self._bytes = 0

    @property
    def is_amid(self) -> bool:
        """Whether a message has begun that is not whole: the next bytes are due, and nothing else is to be done."""
        return self._command is not None or bool(self._encoded)

    def read_p_data(self, connection: Connection, left: int) -> None:
        """The presentation data values of one PDU of ``left`` bytes: PS3.8 sections 9.3.5 and E.2.

        Raises:
            Invalid, Gone, OSError
        """
        while left:
            if left < 6:
                raise Invalid("P-DATA-TF that ends inside a presentation data value")
            if self._command is None and not self._encoded:
                self._began, self._bytes = self._clock(), 0
            length, context_id, control = struct.unpack(">LBB", connection.exactly(6, self._deadline()))
            if not 2 <= length <= left - 4:
                raise Invalid("presentation data value longer than its PDU, or empty")
            left -= 4 + length
            if control & _COMMAND:
                self._read_command(connection, length - 2, context_id, bool(control & _LAST))
            else:
                self._read_data(connection, length - 2, context_id, bool(control & _LAST))

    def close(self) -> None:
        """Leaves nothing behind of an object that did not come whole."""
        if self._arriving is not None:
            self._arriving.discard()
        self._arriving, self._buffer = None, bytearray()

    def _deadline(self) -> float:
        """By when the next bytes of this message must be here."""
        at_least_pace = self._began + self._silence_s + self._bytes / LEAST_BYTES_PER_S
        return min(self._clock() + self._silence_s, at_least_pace)

    def _read_command(self, connection: Connection, length: int, context_id: int, is_last: bool) -> None:
        if self._command is not None or len(self._encoded) + length > LARGEST_COMMAND_BYTES:
            raise Invalid("command that is too long, or inside a data set")
        self._encoded += connection.exactly(length, self._deadline())
        connection.acknowledge()
        if not is_last:
            return
        encoded, self._encoded = bytes(self._encoded), bytearray()
        try:
            self._follow(connection, read_command(encoded, context_id))
        except NotACommand as error:
            raise Invalid(str(error)) from error

    def _follow(self, connection: Connection, command: Command) -> None:
        context = self._reception.context(command.context_id)
        if context is None:
            raise Invalid("command in a presentation context that was not accepted")
        is_for = {_VERIFICATION: C_ECHO_RQ, _STORAGE_COMMITMENT: N_EVENT_REPORT_RQ}.get(
            context.sop_class_uid, C_STORE_RQ
        )
        if command.field == is_for == C_ECHO_RQ and not command.has_dataset:
            self._send(connection, command.context_id, echo_response(command))
        elif command.field == is_for != C_ECHO_RQ and command.has_dataset:
            self._command = command
            self._arriving = self._reception.begin(command, context.transfer_syntax_uid, self._buffer)
        else:
            raise Invalid(f"DIMSE command 0x{command.field:04X} that its presentation context is not for")

    def _read_data(self, connection: Connection, left: int, context_id: int, is_last: bool) -> None:
        if self._command is None or self._arriving is None or self._command.context_id != context_id:
            raise Invalid("data set without a command")
        try:
            while left:
                with self._arriving.room(min(left, READ_AT_ONCE_BYTES)) as room:
                    got = connection.some(room, self._deadline())
                self._arriving.filled(got)
                self._bytes += got
                left -= got
        except TooBig:
            raise Invalid("object bigger than receiver.maximum_object_mb") from None
        connection.acknowledge()
        if is_last:
            command, arriving = self._command, self._arriving
            status, recorded = arriving.end()
            self._command = self._arriving = None
            if command.field == N_EVENT_REPORT_RQ:
                self._send(connection, context_id, event_report_response(command, status))
                return
            self._reception.answered(status, recorded)
            self._send(connection, context_id, store_response(command, status))

    def _send(self, connection: Connection, context_id: int, command: bytes) -> None:
        for pdu in p_data_pdus(context_id, command, self._reception.maximum_pdu_bytes()):
            connection.send(pdu, self._silence_s)
