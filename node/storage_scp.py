"""The Storage SCP and Verification SCP: objects of every SOP class in every transfer syntax, handed to ``intake``.

Archives may also report here about storage commitment, over associations of their own (PS3.4 section J.3.3).

Log lines name AE titles and addresses, never a patient, a study or an instance.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time

from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node import quiet_libraries, upper_layer
from node.commitment_report import COMMITMENT_CLASS, Filing
from node.desk import Desk
from node.front_door import Caller, FrontDoor, Listener, open_listener
from node.intake import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Intake
from node.refusals import Refusals
from node.settings import ReceiverSettings
from node.transport_security import BadCertificates, RenewedContext, shake_hands

END_WITHIN_S = 2.0
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
    return Server(settings, Desk(intake, filing, settings), listeners, context)


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
        desk: Desk,
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
