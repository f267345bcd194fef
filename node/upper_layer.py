"""What the receiver does otherwise than pynetdicom, which does the rest: negotiation, state machine, release, abort.

Each change has its reason:

* Threads wait for the peer and for each other (poll, a pipe, an event). pynetdicom's look a thousand times a second:
  fifty idle associations would take the processor from one that sends.
* Messages are read by ``messages``: without its copies, queues and a change of threads, an image costs a third of the
  processor time. What was not negotiated ends the association, where pynetdicom would start threads for some of it.
* Every read has a deadline: pynetdicom gives two threads for ever to a peer that falls silent inside a PDU.
* Threads end with their connection: pynetdicom's association waits another acse_timeout for a peer that hung up.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RQ, A_RELEASE_RP, A_RELEASE_RQ
from pynetdicom.transport import AddressInformation, AssociationSocket

from node.arriving import Incoming
from node.connection import Connection, Gone
from node.dimse import Command
from node.messages import Invalid, Messages, Negotiated
from node.records import Recorded
from node.waking import WAKE_EVERY_S, Announced, Checkpoint

LARGEST_NEGOTIATION_BYTES = 2**20
"""An A-ASSOCIATE-RQ with 128 presentation contexts of 30 transfer syntaxes each has 300 kB."""
DISCARDED_READS = 64
"""Of 64 KiB: more than a peer has under way when it is aborted."""

_P_DATA = 4
_PDUS = {1: (A_ASSOCIATE_RQ, "Evt6"), 5: (A_RELEASE_RQ, "Evt12"), 6: (A_RELEASE_RP, "Evt13"), 7: (A_ABORT_RQ, "Evt16")}
"""PS3.8 section 9.3, with the events of its state machine. An acceptor gets no A-ASSOCIATE-AC or -RJ."""
_GONE, _INVALID = "Evt17", "Evt19"
_UNDECODABLE = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    struct.error,
)
"""What the decoders of pynetdicom stumble with."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long the node waits for a peer, in seconds."""

    negotiation_s: float
    """For a PDU that negotiates, releases or aborts, from its first byte."""
    network_s: float
    """For the next byte, or the next PDU."""


class Desk(Protocol):
    """Where objects go."""

    def begin(
        self, association: Association, command: Command, transfer_syntax_uid: str, buffer: bytearray
    ) -> Incoming: ...

    def answered(self, association: Association, status: int, recorded: Recorded | None) -> None: ...

    def breach(self, association: Association, why: str) -> None: ...

    def ended(self, association: Association) -> None: ...


def accept(ae: AE, wire: socket.socket, *, desk: Desk, heard_by: float, patience: Patience) -> Association:
    """An association on a connection, not yet started. Bind its events, then ``start()`` it.

    Args:
        heard_by: ``time.monotonic()`` by which its request must be whole.

    Raises:
        OSError: the peer is gone.
    """
    here, there = wire.getsockname(), wire.getpeername()
    association = _Reception(ae, wire, desk, heard_by, patience)
    association.set_socket(AssociationSocket(association, client_socket=wire))
    association.acceptor.maximum_length = ae.maximum_pdu_size
    association.acceptor.ae_title = ae.ae_title
    association.acceptor.address_info = AddressInformation.from_tuple(here)
    association.acceptor.implementation_class_uid = ae.implementation_class_uid
    association.acceptor.implementation_version_name = ae.implementation_version_name
    association.acceptor.supported_contexts = ae.supported_contexts
    association.requestor.address_info = AddressInformation.from_tuple(there)
    return association


class _Reception(Association):
    """The thread that negotiates, and hears of release and abort."""

    dul: _PeerReader

    def __init__(self, ae: AE, wire: socket.socket, desk: Desk, heard_by: float, patience: Patience) -> None:
        super().__init__(ae, "acceptor")
        self._desk = desk
        self._wire = wire
        self._reactor_checkpoint = Checkpoint()
        self.dul = _PeerReader(self, Connection(wire, self._heard), desk, heard_by, patience)
        self.dul.to_user_queue = Announced(self._reactor_checkpoint.set)
        self.acse_timeout = patience.negotiation_s  # these two set the timers of dul, too
        self.network_timeout = patience.network_s
        self.daemon = True

    def run_reactor(self) -> None:
        try:
            if self.dul.open():
                super().run_reactor()
        finally:
            self.dul.close()
            self._wire.close()
            self._desk.ended(self)

    def _heard(self) -> None:
        self.dul._idle_timer.restart()

    # What messages.Reception asks for.

    def context(self, context_id: int) -> Negotiated | None:
        found = self._accepted_cx.get(context_id)
        if found is None:
            return None
        return Negotiated(sop_class_uid=str(found.abstract_syntax), transfer_syntax_uid=str(found.transfer_syntax[0]))

    def begin(self, command: Command, transfer_syntax_uid: str, buffer: bytearray) -> Incoming:
        return self._desk.begin(self, command, transfer_syntax_uid, buffer)

    def answered(self, status: int, recorded: Recorded | None) -> None:
        self._desk.answered(self, status, recorded)

    def maximum_pdu_bytes(self) -> int:
        return self.requestor.maximum_length or 0


class _PeerReader(DULServiceProvider):
    """The thread that reads from the peer, and writes what the other one has to say."""

    def __init__(
        self, reception: _Reception, connection: Connection, desk: Desk, heard_by: float, patience: Patience
    ) -> None:
        super().__init__(reception)
        self._desk = desk
        self.daemon = True
        self._connection = connection
        self._messages = Messages(reception, patience.network_s)
        self._heard_by = heard_by
        self._patience = patience
        self._awake = self._wake = -1
        self._pipe_lock = threading.Lock()
        self.to_provider_queue = Announced(self._rouse)

    def run_reactor(self) -> None:
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread:
                self._one_step()
        except InvalidEventError:
            self._desk.breach(self.assoc, "its peer did what the protocol has no answer to")
        finally:
            self._messages.close()
            self._kill_thread = True
            self.state_machine.current_state = "Sta1"
            if self.socket is not None:
                self.socket._shutdown_socket()
            self.to_user_queue.put(cast(Any, None))  # whoever waits for a word of the peer need not wait longer

    def _one_step(self) -> None:
        if not self.event_queue.empty():
            self.state_machine.do_action(self.event_queue.get())
        elif self.artim_timer.expired:
            self.event_queue.put("Evt18")
        elif not self._process_recv_primitive():
            self._await_peer()

    def _await_peer(self) -> None:
        if self.socket is None or self.socket.socket is None:
            self.event_queue.put(_GONE)
            return
        if self.state_machine.current_state == "Sta13":  # our last word is said: nothing of the peer's counts any more
            self._discard()
            self.socket.close()
            return
        if not (self._messages.is_amid or self._has_word(WAKE_EVERY_S)):
            return
        try:
            self._read_pdu()
        except (Gone, OSError):
            self.event_queue.put(_GONE)
        except Invalid as error:
            self._desk.breach(self.assoc, str(error))
            self.event_queue.put(_INVALID)
        self._idle_timer.restart()

    def _discard(self) -> None:
        """Read away what has come, up to a bound: a close with bytes unread would take our last word back."""
        for _ in range(DISCARDED_READS):
            try:
                if not self._has_word(0) or not self._connection.wire.recv(65536):
                    return
            except (OSError, ValueError):
                return

    def _has_word(self, within_s: float) -> bool:
        """Whether the peer sent something; False after ``within_s``, or when our other thread has something."""
        wire = self._connection.wire
        if isinstance(wire, ssl.SSLSocket) and wire.pending():
            return True
        poll = select.poll()
        poll.register(self._awake, select.POLLIN)
        try:
            poll.register(wire, select.POLLIN)
            ready = {number for number, _ in poll.poll(within_s * 1000)}
        except (OSError, ValueError):  # closed meanwhile
            return True
        if self._awake in ready:
            os.read(self._awake, 4096)
        return wire.fileno() in ready

    def _read_pdu(self) -> None:
        """One PDU of PS3.8 section 9.3."""
        state = self.state_machine.current_state
        deadline = self._heard_by if state == "Sta2" else time.monotonic() + self._patience.negotiation_s
        kind, length = struct.unpack(">BxL", self._connection.exactly(6, deadline))
        if kind == _P_DATA and state == "Sta6":
            if 0 < (self.assoc.acceptor.maximum_length or 0) < length:
                raise Invalid("P-DATA-TF longer than receiver.maximum_pdu_bytes, which it was told")
            self._messages.read_p_data(self._connection, length)
            return
        if kind not in _PDUS or length > LARGEST_NEGOTIATION_BYTES:
            raise Invalid(f"a PDU of type {kind}, which is none to expect here, or too long")
        body = self._connection.exactly(length, deadline)
        self._connection.acknowledge()
        make, event = _PDUS[kind]
        pdu: Any = make()
        try:
            pdu.decode(struct.pack(">BxL", kind, length) + body)
            pdu.to_primitive()
        except _UNDECODABLE as error:
            raise Invalid(f"PDU of type {kind} that cannot be decoded ({type(error).__name__})") from error
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    # Being woken and stopped by the other thread.

    def _rouse(self) -> None:
        with self._pipe_lock:
            if self._wake >= 0:
                try:
                    os.write(self._wake, b"\0")
                except BlockingIOError:
                    return  # it is full of calls already

    def kill_dul(self) -> None:
        self._kill_thread = True
        self._rouse()

    def stop_dul(self) -> bool:
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join(WAKE_EVERY_S)
        return not self.is_alive()

    def open(self) -> bool:
        """Makes the pipe by which the other thread wakes this one, before it starts; False where it cannot be had."""
        try:
            self._awake, self._wake = os.pipe()
        except OSError as error:
            _log.error("a connection is closed, nothing of it was read: %s", error.strerror)
            return False
        os.set_blocking(self._awake, False)
        os.set_blocking(self._wake, False)
        return True

    def close(self) -> None:
        """Ends the thread and gives back the pipe."""
        self.kill_dul()
        if self.is_alive():
            self.join()
        with self._pipe_lock:
            for end in (self._awake, self._wake):
                if end >= 0:
                    os.close(end)
            self._awake = self._wake = -1
