"""Associations with a peer, plain or with TLS, and why one did not come about."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from node.host_names import why_unknown
from node.retry import Failure
from node.settings_delivery import ArchiveSettings
from node.transport_security import BadCertificates, ClientTls, client_context, shake_hands, why_no_handshake

_config.LOG_HANDLER_LEVEL = "none"  # the standard handlers log identifiers

NEGOTIATION_TIMEOUT_S = 30
ANSWER_TIMEOUT_S = 120
"""An archive may commit an object to tape before it answers; beyond this it is not going to."""
ABORTED_WITHIN_S = 2
"""Then the connection is cut, in whatever the peer was dripping: pynetdicom's limits are for each read."""
RELEASED_LATE_S = 5
"""Beyond the time that the peer has to answer a release."""


class SendError(Exception):
    """The peer made no association or did not answer; the message says why, and what to look at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """The other side of an association, and what we call ourselves to it."""

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    connect_timeout_s: float
    tls: ClientTls | None = None

    @property
    def address(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


def peer_of(archive: ArchiveSettings, connect_timeout_s: float) -> Peer:
    """The archive of the settings as a peer."""
    return Peer(
        host=archive.host,
        port=archive.port,
        ae_title=archive.ae_title,
        calling_ae_title=archive.calling_ae_title,
        connect_timeout_s=connect_timeout_s,
        tls=tls_of(archive) if archive.tls else None,
    )


def tls_of(archive: ArchiveSettings) -> ClientTls:
    """How the settings of an archive have us speak TLS."""
    return ClientTls(
        ca_file=archive.tls_ca_file,
        certificate_file=archive.tls_certificate_file,
        key_file=archive.tls_key_file,
        server_name=archive.tls_server_name,
    )


def associate(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    handlers: Sequence[tuple[Any, ...]] = (),
    answer_within_s: float | None = None,
    roles: Sequence[Any] = (),
) -> Association | Failure:
    """An established association, or why there is none.

    Args:
        peer: to associate with.
        contexts: proposed.
        handlers: (event, function) pairs for pynetdicom.
        answer_within_s: for each DIMSE message, and for whatever we send to be read; ``ANSWER_TIMEOUT_S`` when None.
        roles: of role selection negotiation (PS3.7 annex D.3.3.4).
    """
    if unknown := why_unknown(peer.host, peer.port):
        return _out_of_reach(unknown)
    try:
        tls = (client_context(peer.tls), peer.tls.server_name or peer.host) if peer.tls else None
    except BadCertificates as error:
        return _out_of_reach(str(error))
    ae = AE(ae_title=peer.calling_ae_title)
    ae.connection_timeout = peer.connect_timeout_s
    ae.acse_timeout = NEGOTIATION_TIMEOUT_S
    limit_s = ANSWER_TIMEOUT_S if answer_within_s is None else answer_within_s
    ae.dimse_timeout = ae.network_timeout = limit_s
    with _cut_after(peer.connect_timeout_s + NEGOTIATION_TIMEOUT_S) as note_association:
        association = ae.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.ae_title,
            max_pdu=0,
            ext_neg=list(roles) or None,
            tls_args=tls,
            evt_handlers=[(evt.EVT_REQUESTED, note_association), (evt.EVT_ABORTED, _cut_soon), *handlers],
        )
    if not association.is_established:
        return _why_not(association, peer)
    connection = association.dul.socket
    if connection is not None and connection.socket is not None:
        # pynetdicom takes the time limit off: a peer that neither reads nor hangs up would hold us for ever
        connection.socket.settimeout(limit_s)
    return association


def leave(association: Association) -> None:
    """Release, unless it has ended already; abort it where that does not come to an end.

    pynetdicom's release waits without a limit for its own thread to pause. A report that has just been answered on this
    association takes the sign of that pause away, and then both would wait for each other for ever.
    """
    if not association.is_established:
        return
    timer = threading.Timer(NEGOTIATION_TIMEOUT_S + RELEASED_LATE_S, association.abort, kwargs={"block": False})
    timer.daemon = True
    timer.start()
    try:
        association.release()
    finally:
        timer.cancel()


@contextmanager
def _cut_after(limit_s: float) -> Iterator[Callable[[evt.Event], None]]:
    """A limit for the whole of a negotiation, TLS included; gives what is to be told of its beginning."""
    begun: list[Association] = []

    def cut() -> None:
        for association in begun:
            _cut(association)

    timer = threading.Timer(limit_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield lambda event: begun.append(event.assoc)
    finally:
        timer.cancel()


def _cut_soon(event: evt.Event) -> None:
    """Aborting waits for the thread that reads, and that for the peer: it must not wait for ever."""
    timer = threading.Timer(ABORTED_WITHIN_S, _cut, [event.assoc])
    timer.daemon = True
    timer.start()


def _cut(association: Association) -> None:
    connection = association.dul.socket.socket if association.dul.socket is not None else None
    if connection is not None:
        with suppress(OSError):  # it has ended by itself
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not that of TLS, which another thread may be in


def _why_not(association: Association, peer: Peer) -> Failure:
    """The reason in words an operator can act on: pynetdicom does not tell "nobody there" from "aborted"."""
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = answer.reason_str if answer is not None else "no reason given"
        return _out_of_reach(f"{peer.address} rejected the association: {reason}")
    if association.rejected_contexts:
        what = f"{peer.address} accepts none of the presentation contexts"
        return Failure(what=what, permanent=True, class_refused=True)
    return _knocked(peer)


def _knocked(peer: Peer) -> Failure:
    """What a bare connection, and a bare TLS handshake, tell."""
    where = f"{peer.host}:{peer.port}"
    try:
        connection = socket.create_connection((peer.host, peer.port), timeout=peer.connect_timeout_s)
    except OSError as error:
        reason = "timed out" if isinstance(error, TimeoutError) else (error.strerror or type(error).__name__)
        return _out_of_reach(f"cannot connect to {where}: {reason}")
    with connection:
        if peer.tls is not None:
            try:
                context = client_context(peer.tls)
                name = peer.tls.server_name or peer.host
                with context.wrap_socket(connection, server_hostname=name, do_handshake_on_connect=False) as wrapped:
                    shake_hands(wrapped, time.monotonic() + peer.connect_timeout_s)
                    _require_no_alert(wrapped)
            except (OSError, BadCertificates) as error:
                reason = str(error) if isinstance(error, BadCertificates) else why_no_handshake(error)
                return _out_of_reach(f"no TLS with {where}: {reason}")
    asks = "does it expect plain DICOM, and" if peer.tls is not None else "is it DICOM (without TLS), and"
    said = f"{where} answers but makes no association: {asks} does it know {peer.ae_title} and {peer.calling_ae_title}?"
    return _out_of_reach(said)


def _require_no_alert(wrapped: socket.socket) -> None:
    """With TLS 1.3 a server that refuses our certificate says so only after the handshake."""
    wrapped.settimeout(1.0)
    try:
        wrapped.recv(1)
    except TimeoutError:
        return


def _out_of_reach(what: str) -> Failure:
    return Failure(what=what, permanent=False, of_archive=True, tried=False, out_of_reach=True)
