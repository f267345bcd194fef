"""The Storage SCP and Verification SCP: objects of every SOP class in every transfer syntax, handed to ``intake``.

Archives may also report here about storage commitment, over associations of their own (PS3.4 section J.3.3).

Log lines name AE titles and addresses, never a patient, a study or an instance.
"""

from __future__ import annotations

import gc
import logging
import socket
import ssl
import threading
import time
from collections import Counter

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node import admission, commitment_report, quiet_libraries, upper_layer
from node.arriving import Arriving, Incoming
from node.arriving_report import ArrivingReport
from node.commitment_report import COMMITMENT_CLASS, Filing
from node.dimse import N_EVENT_REPORT_RQ, Command, uid_text
from node.front_door import Caller, FrontDoor, Listener, open_listener
from node.intake import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, SUCCESS, Intake, SentObject
from node.records import Recorded
from node.refusals import Refusals
from node.settings import ReceiverSettings
from node.transport_security import BadCertificates, RenewedContext, shake_hands

MORE_CONNECTIONS = 20
"""Beyond the limits of associations: room to tell a few more peers that there is none."""
END_WITHIN_S = 2.0
ASSOCIATIONS_BETWEEN_COLLECTIONS = 20
NATIVE = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")

_log = logging.getLogger(__name__)


class CannotListen(Exception):
    """The address, a port or the certificates cannot be had; the message says which, and what to do."""


def listen(settings: ReceiverSettings, intake: Intake, filing: Filing) -> Server:
    """A server on its ports; associations are accepted from ``serve_forever`` to ``stop``.

    Changes the settings of pynetdicom and pydicom for the whole process.

    Raises:
        CannotListen
    """
    quiet_libraries.prepare()
    ports = [(settings.port, False)] if settings.plain else []
    if settings.tls_port:
        ports.append((settings.tls_port, True))
    context = certificates(settings) if settings.tls_port else None
    listeners: list[Listener] = []
    for port, is_tls in ports:
        try:
            listeners.append(open_listener(settings.host, port, is_tls=is_tls))
        except OSError as error:
            for opened in listeners:
                opened.socket.close()
            key = "receiver.tls_port" if is_tls else "receiver.port"
            raise CannotListen(
                f"cannot listen on {settings.host} port {port}: {error.strerror}. "
                f"Stop the program that has the port, or set receiver.host and {key}"
            ) from error
    return Server(settings, _Desk(intake, filing, settings), listeners, context)


def certificates(settings: ReceiverSettings) -> RenewedContext:
    ca_file = settings.tls_client_ca_file
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        raise CannotListen("receiver.tls_port needs receiver.tls_certificate_file and receiver.tls_key_file")
    try:
        return RenewedContext(settings.tls_certificate_file, settings.tls_key_file, ca_file, _log.error)
    except BadCertificates as error:
        raise CannotListen(str(error)) from error


class Server:
    """The ports and the associations that came through them."""

    def __init__(
        self,
        settings: ReceiverSettings,
        desk: _Desk,
        listeners: list[Listener],
        tls: RenewedContext | None,
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._tls = tls
        self._refusals = desk.refusals
        self._desk = desk
        self._ae = _application_entity(settings)
        self._patience = upper_layer.Patience(
            negotiation_s=settings.acse_timeout_s, network_s=settings.network_timeout_s
        )
        self._door = FrontDoor(
            listeners,
            networks=settings.allowed_addresses,
            silence_s=settings.acse_timeout_s,
            admit=self._admit,
            refusals=self._refusals,
        )

    def serve_forever(self) -> None:
        self._door.serve_forever()

    def port(self, *, is_tls: bool) -> int | None:
        """The TCP port, of use where the settings leave the choice to the system; None where there is none."""
        return next((listener.port for listener in self._listeners if listener.is_tls is is_tls), None)

    @property
    def refusals(self) -> Refusals:
        """Who was turned away; whatever else listens in this process notes it here, too."""
        return self._refusals

    def stop(self) -> None:
        """Ends ``serve_forever``, closes the ports and aborts what still runs: nothing of it was acknowledged."""
        self._door.stop()
        for association in self._desk.associations():
            association.abort(block=False)
        deadline = time.monotonic() + END_WITHIN_S
        while self._desk.associations() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _admit(self, caller: Caller) -> None:
        if not self._desk.enter(caller):
            self._refusals.note(str(caller.address), "connection closed: too many are open")
            caller.connection.close()
        elif caller.is_tls and self._tls is not None:
            context = self._tls.current()
            shaking = threading.Thread(target=self._after_handshake, args=(caller, context), daemon=True)
            try:
                shaking.start()  # never in this thread: a peer may take its time
            except RuntimeError:
                self._give_up(caller, caller.connection, "no more threads")
        else:
            self._associate(caller, caller.connection)

    def _after_handshake(self, caller: Caller, context: ssl.SSLContext) -> None:
        connection = caller.connection
        try:
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            shake_hands(connection, caller.heard_by)
        except OSError as error:  # ssl.SSLError is one
            reason = (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or type(error).__name__
            self._refusals.note(str(caller.address), f"no TLS: {reason}", kind="no TLS")
            connection.close()
            self._desk.leave(caller)
            return
        self._associate(caller, connection)

    def _associate(self, caller: Caller, connection: socket.socket) -> None:
        try:
            association = upper_layer.accept(
                self._ae, connection, desk=self._desk, heard_by=caller.heard_by, patience=self._patience
            )
            self._desk.watch(association, caller)
            association.start()
        except (OSError, RuntimeError) as error:  # the peer is gone already, or there are no more threads or files
            self._give_up(caller, connection, type(error).__name__)

    def _give_up(self, caller: Caller, connection: socket.socket, why: str) -> None:
        _log.warning("connection of %s closed: %s", caller.address, why)
        connection.close()
        self._desk.leave(caller)


def _application_entity(settings: ReceiverSettings) -> AE:
    ae = AE(ae_title=settings.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_associations = 2**31  # admission counts them
    ae.maximum_pdu_size = settings.maximum_pdu_bytes
    ae.acse_timeout = settings.acse_timeout_s
    ae.network_timeout = settings.network_timeout_s
    ae.add_supported_context(Verification)  # storage needs no list: see quiet_libraries
    ae.add_supported_context(COMMITMENT_CLASS, list(NATIVE), scu_role=False, scp_role=True)  # the peer is the SCP
    return ae


class _Desk:
    """Keeps the list of those who are in, and takes what they bring."""

    def __init__(self, intake: Intake, filing: Filing, settings: ReceiverSettings) -> None:
        self._intake = intake
        self._filing = filing
        self._settings = settings
        self.refusals = Refusals()
        self._lock = threading.Lock()
        self._inside: set[Caller] = set()
        self._open: dict[Association, Caller] = {}
        self._tallies: dict[Association, Counter[str]] = {}
        self._ended = 0

    # Coming and going.

    def enter(self, caller: Caller) -> bool:
        """Whether there is room for one more connection."""
        with self._lock:
            same = sum(other.address == caller.address for other in self._inside)
            if (
                len(self._inside) >= self._settings.maximum_associations + MORE_CONNECTIONS
                or same >= self._settings.maximum_associations_per_address + MORE_CONNECTIONS
            ):
                return False
            self._inside.add(caller)
            return True

    def leave(self, caller: Caller) -> None:
        """Of one whose association did not start."""
        with self._lock:
            self._inside.discard(caller)
            for association in [begun for begun, its_caller in self._open.items() if its_caller is caller]:
                del self._open[association], self._tallies[association]

    def watch(self, association: Association, caller: Caller) -> None:
        with self._lock:
            self._open[association] = caller
            self._tallies[association] = Counter()
        association.bind(evt.EVT_REQUESTED, self._on_request)
        association.bind(evt.EVT_RELEASED, self._on_end, ["released"])
        association.bind(evt.EVT_ABORTED, self._on_end, ["aborted"])

    def ended(self, association: Association) -> None:
        with self._lock:
            self._tallies.pop(association, None)
            caller = self._open.pop(association, None)
            if caller is not None:
                self._inside.discard(caller)
            self._ended += 1
            is_time_to_tidy = self._ended % ASSOCIATIONS_BETWEEN_COLLECTIONS == 0
        if is_time_to_tidy:
            gc.collect()  # pynetdicom's associations are circles, which Python leaves lying about for long

    def associations(self) -> list[Association]:
        with self._lock:
            return list(self._open)

    # Objects.

    def begin(
        self, association: Association, command: Command, transfer_syntax_uid: str, buffer: bytearray
    ) -> Incoming:
        if command.field == N_EVENT_REPORT_RQ:
            return self._begin_report(association, command, transfer_syntax_uid)
        sent = SentObject(
            dataset=memoryview(b""),
            sop_class_uid=uid_text(command.sop_class_uid),
            sop_instance_uid=uid_text(command.sop_instance_uid),
            transfer_syntax_uid=transfer_syntax_uid,
            calling_ae_title=association.requestor.ae_title,
        )
        most = self._settings.maximum_object_mb * 2**20
        return Arriving(self._intake, sent, maximum_bytes=most, buffer=buffer)

    def _begin_report(self, association: Association, command: Command, transfer_syntax_uid: str) -> Incoming:
        def answer(encoded: bytes) -> int:
            sent_by = association.requestor.ae_title
            return commitment_report.answer(
                encoded, transfer_syntax_uid, command.event_type, sent_by=sent_by, filing=self._filing
            )

        return ArrivingReport(answer)

    def answered(self, association: Association, status: int, recorded: Recorded | None) -> None:
        if status != SUCCESS:
            self.refusals.count(f"answered with 0x{status:04X}")
        what = "refused" if status != SUCCESS else "reports" if recorded is None else recorded.value
        self._tallies[association][what] += 1

    # Events of pynetdicom.

    def _on_request(self, event: evt.Event) -> None:
        association = event.assoc
        asked = association.requestor.primitive
        if asked is None:
            return
        with self._lock:
            caller = self._open[association]
            others = [other for other in self._open.values() if other is not caller]
        request = admission.Request(
            calling_ae_title=asked.calling_ae_title.strip(),
            called_ae_title=asked.called_ae_title.strip(),
            open_associations=len(others),
            open_of_this_address=sum(other.address == caller.address for other in others),
            has_room=self._intake.has_room(),
        )
        if refused := admission.refusal(request, self._settings):
            peer = f"association of {request.calling_ae_title!r} at {caller.address} refused"
            self.refusals.note(peer, refused.why, kind=refused.kind)
            association.acse.send_reject(refused.result, refused.source, refused.diagnostic)
            association.kill()  # returns when the peer was told

    def _on_end(self, event: evt.Event, how: str) -> None:
        """One line about what an association has brought."""
        association = event.assoc
        tally = self._tallies.get(association, Counter())
        if tally or how == "aborted":
            brought = ", ".join(f"{tally[what]} {what}" for what in (*Recorded, "reports", "refused") if tally[what])
            requestor = association.requestor
            _log.info(
                "association of %r at %s %s: %s", requestor.ae_title, requestor.address, how, brought or "nothing"
            )
