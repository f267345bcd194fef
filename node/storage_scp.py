"""The Storage SCP and Verification SCP: objects of every SOP class in every transfer syntax, handed to ``intake``.

Log lines name AE titles and addresses, never a patient, a study or an instance.
"""

from __future__ import annotations

import logging
import re
import socket
import sys
from collections import Counter
from ipaddress import IPv6Address, ip_address, ip_network
from socketserver import BaseServer
from typing import Any
from weakref import WeakKeyDictionary

import pydicom.config
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from node import logs
from node.intake import CANNOT_UNDERSTAND, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Intake, SentObject
from node.records import Recorded
from node.settings import ReceiverSettings

_log = logging.getLogger(__name__)


class CannotListen(Exception):
    """The address or port cannot be had; the message says which, and what to do."""


def listen(settings: ReceiverSettings, intake: Intake) -> Server:
    """A server on its port; associations are accepted from ``serve_forever`` to ``stop``.

    Changes the settings of pynetdicom and pydicom for the whole process.

    Raises:
        CannotListen: the address cannot be had.
    """
    _prepare_libraries()
    ae = AE(ae_title=settings.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.require_called_aet = settings.require_called_ae_title
    ae.require_calling_aet = list(settings.allowed_calling_ae_titles)
    ae.maximum_associations = settings.maximum_associations
    ae.maximum_pdu_size = settings.maximum_pdu_bytes
    ae.acse_timeout = settings.acse_timeout_s
    ae.dimse_timeout = settings.dimse_timeout_s
    ae.network_timeout = settings.network_timeout_s
    ae.add_supported_context(Verification)  # storage needs no list: see _prepare_libraries
    desk = _Desk(intake, settings)
    handlers: list[Any] = [
        (evt.EVT_C_STORE, desk.on_store),
        (evt.EVT_DATA_RECV, _acknowledge_at_once),
        (evt.EVT_REJECTED, desk.on_rejected),
        (evt.EVT_RELEASED, desk.on_end, ["released"]),
        (evt.EVT_ABORTED, desk.on_end, ["aborted"]),
    ]
    try:
        return Server(
            ae,
            (settings.host, settings.port),
            settings.ae_title,
            ae.supported_contexts,
            evt_handlers=handlers,
            networks=settings.allowed_addresses,
        )
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}. "
            "Stop the program that has the port, or set receiver.host and receiver.port"
        ) from error


class Server(ThreadedAssociationServer):
    """Accepts connections from the allowed addresses only, before anything is read from them."""

    def __init__(self, *arguments: Any, networks: tuple[str, ...], **named: Any) -> None:
        self._networks = [ip_network(network, strict=False) for network in networks]
        super().__init__(*arguments, **named)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        address = ip_address(str(client_address[0]).partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if not any(address in network for network in self._networks):
            _log.warning("connection from %s closed: not in receiver.allowed_addresses", address)
            return False
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True

    @property
    def port(self) -> int:
        """The TCP port, of use where the settings leave the choice to the system."""
        return int(self.server_address[1])

    def stop(self) -> None:
        """Ends ``serve_forever``, closes the port and aborts what still runs."""
        BaseServer.shutdown(self)  # that of AssociationServer is for servers which an AE keeps
        self.server_close()
        for association in self.active_associations:
            association.abort()


def _acknowledge_at_once(event: evt.Event) -> None:
    """Tells the kernel to send its TCP acknowledgement now: DCMTK and Orthanc wait up to 40 ms for it, each image."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None and sys.platform == "linux":
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class _Desk:
    """Answers the events of the associations."""

    def __init__(self, intake: Intake, settings: ReceiverSettings) -> None:
        self._intake = intake
        self._settings = settings
        self._tallies: WeakKeyDictionary[Association, Counter[str]] = WeakKeyDictionary()

    def on_store(self, event: evt.Event) -> int:
        """The status of a C-STORE response."""
        request: Any = event.request
        if request.DataSet is None:
            return CANNOT_UNDERSTAND
        with request.DataSet.getbuffer() as dataset:
            status, recorded = self._intake.keep(
                SentObject(
                    dataset=dataset,
                    sop_class_uid=str(request.AffectedSOPClassUID),
                    sop_instance_uid=str(request.AffectedSOPInstanceUID),
                    transfer_syntax_uid=str(event.context.transfer_syntax),
                    calling_ae_title=event.assoc.requestor.ae_title,
                )
            )
        tally = self._tallies.setdefault(event.assoc, Counter())
        tally["refused" if recorded is None else recorded.value] += 1
        return status

    def on_end(self, event: evt.Event, how: str) -> None:
        """One line about what an association has brought."""
        tally = self._tallies.pop(event.assoc, Counter())
        if tally or how == "aborted":
            brought = ", ".join(f"{tally[what]} {what}" for what in (*Recorded, "refused") if tally[what])
            requestor = event.assoc.requestor
            _log.info(
                "association of %r at %s %s: %s", requestor.ae_title, requestor.address, how, brought or "nothing"
            )

    def on_rejected(self, event: evt.Event) -> None:
        """One line about why an association was refused, with the setting that decides."""
        requestor = event.assoc.requestor
        called = requestor.primitive.called_ae_title if requestor.primitive else ""
        if self._settings.require_called_ae_title and called != self._settings.ae_title:
            why = f"it called {called!r}, not receiver.ae_title {self._settings.ae_title!r}"
        elif (
            self._settings.allowed_calling_ae_titles
            and requestor.ae_title not in self._settings.allowed_calling_ae_titles
        ):
            why = "it is not in receiver.allowed_calling_ae_titles"
        else:
            why = f"receiver.maximum_associations ({self._settings.maximum_associations}) are open"
        _log.warning("association of %r at %s refused: %s", requestor.ae_title, requestor.address, why)


def _prepare_libraries() -> None:
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    """Accepts every storage SOP class, private and future ones too, in the first transfer syntax proposed: bytes are
    kept as they come, so nothing needs to be understood. It also spares a copy of 200 contexts per association."""
    _config.LOG_HANDLER_LEVEL = "none"  # the standard log lines hold identifiers, and cost time
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings quote the values
    library = logging.getLogger("pynetdicom")
    library.setLevel(logging.WARNING)
    library.propagate = False
    library.handlers = [_Anonymous()]


class _Anonymous(logging.Handler):
    """Passes on what pynetdicom complains of, without UIDs and with the places of exceptions instead of their texts."""

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.msg, BaseException):
            said = logs.place(record.msg)
        else:
            said = re.sub(r"\d+(\.\d+){4,}", "<UID>", record.getMessage().partition("\n")[0])
        _log.log(record.levelno, "pynetdicom, %s line %d: %s", record.module, record.lineno, said)
