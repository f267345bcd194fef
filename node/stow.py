"""STOW-RS: images over HTTP, with a token, into the same spool and ledger through the same promise.

PS3.18 section 10.5. A request goes to the disk as it comes, so that its size costs no memory; then each part is kept as
if it had come by C-STORE. The answer lists what is durable, and what was refused with the status of C-STORE.
"""

from __future__ import annotations

import hmac
import io
import json
import logging
import mmap
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from node.connection import Paced
from node.dataset_header import uid_or_empty
from node.front_door import Caller, FrontDoor, open_listener
from node.intake import CANNOT_UNDERSTAND, SUCCESS, Intake, SentObject
from node.refusals import Refusals
from node.settings import ReceiverSettings
from node.stow_body import Malformed, NotAFile, NotMultipart, boundary_of, file_meta, parts
from node.stow_response import response
from node.transport_security import RenewedContext, shake_hands, why_no_handshake

SENDER = "STOW-RS"
"""What stands in the ledger for the calling AE title."""
MOST_REQUESTS = 16
MOST_REQUESTS_PER_ADDRESS = 12
"""Who takes all the places that it can get leaves some to others."""
_READ_AT_ONCE_BYTES = 2**18
_LONGEST_CHUNK_LINE = 1024
_MOST_DIGITS = 20

_log = logging.getLogger(__name__)


class StowServer(ThreadingHTTPServer):
    """Requests of the allowed addresses, a thread for each that speaks, so many at a time.

    Raises ``OSError`` where the port cannot be had.
    """

    daemon_threads = True

    def __init__(  # noqa: PLR0913, PLR0917 - what it needs
        self,
        settings: ReceiverSettings,
        token: str,
        intake: Intake,
        scratch: Path,
        tls: RenewedContext | None,
        refusals: Refusals,
    ) -> None:
        self.settings = settings
        self.token = token
        self.intake = intake
        self.scratch = scratch
        self.refusals = refusals
        self._tls = tls
        self._lock = threading.Lock()
        self._inside: Counter[str] = Counter()
        super().__init__((settings.host, settings.stow_port), _Request, bind_and_activate=False)
        self.socket.close()  # made for IPv4; ours is for what the host is
        listener = open_listener(settings.host, settings.stow_port, is_tls=tls is not None)
        self.socket = listener.socket
        self.server_address = listener.socket.getsockname()
        self._door = FrontDoor(
            [listener],
            networks=settings.allowed_addresses,
            silence_s=settings.acse_timeout_s,
            admit=self._admit,
            refusals=refusals,
        )

    def serve_forever(self, poll_interval: float = 0.0) -> None:
        """Until ``shutdown``. The interval is the library's, and ignored."""
        self._door.serve_forever()

    def shutdown(self) -> None:
        self._door.stop()

    def _admit(self, caller: Caller) -> None:
        address = str(caller.address)
        if not self._enter(address):
            self.refusals.note(address, "STOW-RS connection closed: too many are open")
            caller.connection.close()
            return
        try:
            self.process_request(caller.connection, caller)
        except RuntimeError:
            self.refusals.note(address, "STOW-RS connection closed: no more threads")
            self._leave(address)
            caller.connection.close()

    def _enter(self, address: str) -> bool:
        with self._lock:
            if self._inside.total() >= MOST_REQUESTS or self._inside[address] >= MOST_REQUESTS_PER_ADDRESS:
                return False
            self._inside[address] += 1
            return True

    def _leave(self, address: str) -> None:
        with self._lock:
            self._inside -= Counter([address])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        caller: Caller = client_address
        try:
            request = self._after_handshake(request, caller)
        except OSError as error:
            self.refusals.note(str(caller.address), f"no TLS: {why_no_handshake(error)}", kind="no TLS")
            self.shutdown_request(request)
        else:
            super().process_request_thread(request, caller)
        finally:
            self._leave(str(caller.address))

    def _after_handshake(self, connection: socket.socket, caller: Caller) -> socket.socket:
        connection.settimeout(self.settings.acse_timeout_s)
        if self._tls is None:
            return connection
        wrapped = self._tls.current().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        try:
            shake_hands(wrapped, caller.heard_by)
        except OSError:
            wrapped.close()
            raise
        return wrapped

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of whatever ended a request, and never its text."""
        self.refusals.note(str(client_address.address), "STOW-RS request came to no end")


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Request(BaseHTTPRequestHandler):
    server: StowServer
    protocol_version = "HTTP/1.1"
    server_version = "spinenode"
    sys_version = ""
    client_address: Caller  # type: ignore[assignment]  # what the server was told

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(Paced(self.connection, self.server.settings.acse_timeout_s))

    def do_POST(self) -> None:
        self.close_connection = True
        try:
            self._require_token()
            study = self._study()
            boundary = boundary_of(self.headers.get("Content-Type", ""))
            with tempfile.TemporaryFile(dir=self.server.scratch) as body:
                for piece in self._body():
                    if not self.server.intake.has_room():
                        raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the disk came below its watermark")
                    body.write(piece)
                body.flush()
                if not body.tell():
                    raise _Refused(HTTPStatus.BAD_REQUEST, "the request has no body")
                with mmap.mmap(body.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    self._answer(*self._keep(content, boundary, study))
        except NotMultipart as error:
            self._say(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error))
        except _Refused as error:
            self._say(error.status, str(error))
        except OSError as error:
            _log.warning("STOW-RS request ended: %s", error.strerror or type(error).__name__)
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, "the node is out of resources")

    def _require_token(self) -> None:
        said = self.headers.get("Authorization", "").encode("latin-1")
        if not hmac.compare_digest(said, f"Bearer {self.server.token}".encode()):
            self.server.refusals.note(str(self.client_address.address), "STOW-RS request without the token")
            raise _Refused(HTTPStatus.UNAUTHORIZED, "Authorization: Bearer and the token of receiver.stow_token_file")
        if not self.server.intake.has_room():
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the disk is below its watermark")

    def _study(self) -> str:
        """The study that the path names; empty where it names none."""
        words = self.path.partition("?")[0].strip("/").split("/")
        if words[-1] == "studies":
            return ""
        if len(words) >= 2 and words[-2] == "studies" and uid_or_empty(words[-1]):
            return words[-1]
        raise _Refused(HTTPStatus.NOT_FOUND, "POST to .../studies or .../studies/{study}")

    def _body(self) -> Iterator[bytes]:
        limit = self.server.settings.maximum_object_mb * 2**20
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            yield from self._chunks(limit)
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length, or chunks")
        if len(length) > _MOST_DIGITS:
            raise _Refused(HTTPStatus.BAD_REQUEST, "Content-Length is no length")
        if int(length) > limit:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "more than receiver.maximum_object_mb")
        yield from self._read(int(length))

    def _chunks(self, limit: int) -> Iterator[bytes]:
        """RFC 9112 section 7.1."""
        total = 0
        while True:
            line = self.rfile.readline(_LONGEST_CHUNK_LINE).split(b";")[0].strip()
            try:
                length = int(line, 16)
            except ValueError as error:
                raise _Refused(HTTPStatus.BAD_REQUEST, "a chunk without a length") from error
            total += length
            if length < 0 or total > limit:
                raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "more than receiver.maximum_object_mb")
            if not length:
                return
            yield from self._read(length)
            self.rfile.readline(_LONGEST_CHUNK_LINE)

    def _read(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self.rfile.read(min(left, _READ_AT_ONCE_BYTES))
            if not piece:
                raise _Refused(HTTPStatus.BAD_REQUEST, "the request ended before its body did")
            left -= len(piece)
            yield piece

    def _keep(
        self, content: mmap.mmap, boundary: bytes, study: str
    ) -> tuple[list[SentObject], list[tuple[SentObject, int]], bool]:
        """What was kept, what was not and why, and whether the body was whole: the parts before its breach count."""
        stored, failed = [], []
        with memoryview(content) as whole:
            try:
                for begin, end in parts(content, boundary):
                    with whole[begin:end] as file:
                        sent, status = self._keep_file(file, study)
                    if status == SUCCESS:
                        stored.append(sent)
                    else:
                        self.server.refusals.count(f"answered with 0x{status:04X}")
                        failed.append((sent, status))
            except Malformed as error:
                _log.warning("STOW-RS request cannot be read to its end: %s", error)
                return stored, failed, False
        return stored, failed, True

    def _keep_file(self, file: memoryview, study: str) -> tuple[SentObject, int]:
        try:
            meta = file_meta(file)
        except NotAFile as error:
            _log.warning("STOW-RS part refused: %s", error)
            return _sent("", "", "", memoryview(b"")), CANNOT_UNDERSTAND
        with file[meta.dataset_at :] as dataset:
            sent = _sent(meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid, dataset)
            status, _ = self.server.intake.keep(sent, study=study)
        return _sent(meta.sop_class_uid, meta.sop_instance_uid, "", memoryview(b"")), status

    def _answer(self, stored: list[SentObject], failed: list[tuple[SentObject, int]], is_whole: bool) -> None:
        status, answer = response(stored, failed, is_whole=is_whole)
        self._send(status, "application/dicom+json", json.dumps(answer))
        _log.info("STOW-RS request of %s: %d kept, %d refused", self.client_address.address, len(stored), len(failed))

    def _say(self, status: HTTPStatus, what: str) -> None:
        self._send(status, "text/plain", what + "\n")

    def _send(self, status: HTTPStatus, kind: str, content: str) -> None:
        encoded = content.encode("ascii")
        self.connection.settimeout(self.server.settings.acse_timeout_s)
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(encoded)))
            self.send_header("Connection", "close")
            if status is HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(encoded)
        except OSError as error:  # the peer is gone: what was kept is kept, and it will send again
            _log.info("STOW-RS answer not delivered: %s", type(error).__name__)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is the library's
        """The standard log holds the path, and so the Study Instance UID: ours says what came instead."""


def _sent(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, dataset: memoryview) -> SentObject:
    return SentObject(
        dataset=dataset,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        calling_ae_title=SENDER,
    )
