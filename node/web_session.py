"""HTTP to a DICOMweb archive: credentials, TLS, no redirects, and time limits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any

import requests
from dicomweb_client.web import DICOMwebClient
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from node.transport_security import ClientTls, client_context

ANSWER_TIMEOUT_S = 120
"""For each read."""
REQUEST_TIMEOUT_S = 600
"""For a request and its answer as a whole: 32 MB over a slow line."""
MOST_ANSWER_BYTES = 2**24
_CHUNK_BYTES = 2**16


class UnreadableAnswer(requests.RequestException):
    """What the archive answered cannot be read; the message says why."""


class BadCredentials(Exception):
    """The file of the token or the password cannot be used; the message names the setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebServer:
    """A DICOMweb archive."""

    url: str
    """What stands before ``/studies``."""
    token_file: Path | None
    password_file: Path | None
    tls: ClientTls
    connect_timeout_s: float


def session_of(server: WebServer) -> requests.Session:
    """A session with the credentials and certificates of now: their files are read each time.

    Raises:
        BadCredentials, BadCertificates
    """
    session = _Session()
    session.auth = _credentials(server)
    session.headers["Accept"] = "application/dicom+json"
    session.headers["Accept-Encoding"] = "identity"  # so that what comes is as large as it looks
    if server.url.startswith("https://"):
        session.mount("https://", _TlsAdapter(client_context(server.tls), server.tls.server_name))
    else:
        session.mount("http://", _Adapter())
    return session


def client_of(server: WebServer, session: requests.Session) -> DICOMwebClient:
    """A DICOMweb client that tries once: when to try again is decided elsewhere."""
    client = DICOMwebClient(
        url=server.url,
        session=session,
        chunk_size=2**31,  # a body with its length, which every server takes, in place of chunks
        permissive_uid=True,
        timeout=(server.connect_timeout_s, ANSWER_TIMEOUT_S),
    )
    client.set_http_retry_params(retry=False)
    return client


class _Session(requests.Session):
    """Follows no redirect: a POST that was redirected to a page would look as if it had been answered."""

    def request(self, *args: Any, **values: Any) -> requests.Response:
        return super().request(*args, **(values | {"allow_redirects": False}))


class _Adapter(HTTPAdapter):
    """Bounds an answer in size and a request in time; what it gives has been read whole."""

    def __init__(self) -> None:
        self._connections: list[socket.socket] = []
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **values: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **values)
        kind: Any = type(pool).ConnectionCls

        def noted(**wanted: Any) -> Any:
            connection = kind(**wanted)
            connection._new_conn = self._noting(connection._new_conn)
            return connection

        pool.ConnectionCls = noted
        return pool

    def _noting(self, connect: Callable[[], socket.socket]) -> Callable[[], socket.socket]:
        def connected() -> socket.socket:
            connection = connect()
            self._forget()  # there is one at a time
            self._connections.append(connection.dup())  # TLS takes the other one over
            return connection

        return connected

    def send(self, *args: Any, **values: Any) -> requests.Response:
        is_over = threading.Event()

        def cut() -> None:
            is_over.set()
            for connection in tuple(self._connections):
                with suppress(OSError):  # it has ended by itself
                    connection.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(REQUEST_TIMEOUT_S, cut)
        timer.daemon = True
        timer.start()
        try:
            response = super().send(*args, **values)
            _read_whole(response)
        except requests.RequestException as error:
            if is_over.is_set():
                raise requests.ReadTimeout from error
            raise
        finally:
            timer.cancel()
        if is_over.is_set():  # without a length, what was cut looks whole
            raise requests.ReadTimeout
        return response

    def close(self) -> None:
        super().close()
        self._forget()

    def _forget(self) -> None:
        while self._connections:
            self._connections.pop().close()


def _read_whole(response: requests.Response) -> None:
    content = bytearray()
    try:
        for chunk in response.iter_content(_CHUNK_BYTES):
            content += chunk
            if len(content) > MOST_ANSWER_BYTES:
                response.close()
                raise UnreadableAnswer(f"it has more than {MOST_ANSWER_BYTES // 2**20} MB")
    except UnreadableAnswer:
        raise
    except requests.RequestException as error:
        raise UnreadableAnswer("it broke off") from error
    response._content = bytes(content)


class _TlsAdapter(_Adapter):
    """Speaks TLS with a context of ours, and trusts nobody else."""

    def __init__(self, context: SSLContext, server_name: str) -> None:
        self._names: dict[str, Any] = {"server_hostname": server_name} if server_name else {}
        self._context = context
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **values: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **values, ssl_context=self._context, **self._names)

    def cert_verify(self, *_: Any) -> None:
        """Nothing is added: requests would have its own bundle of authorities trusted beside ours."""


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Nobody(AuthBase):
    """No credentials, and none of a .netrc file either."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _credentials(server: WebServer) -> AuthBase:
    if server.token_file is not None:
        return _Bearer(_line_of(server.token_file, "stow_token_file"))
    if server.password_file is not None:
        user, colon, password = _line_of(server.password_file, "stow_password_file").partition(":")
        if not colon:
            raise BadCredentials("stow_password_file must hold one line, user:password")
        return HTTPBasicAuth(user.encode(), password.encode())
    return _Nobody()


def _line_of(file: Path, setting: str) -> str:
    try:
        if file.stat().st_mode & 0o077:
            raise BadCredentials(f"{setting} can be read by others: chmod 600")
        line = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadCredentials(f"{setting} cannot be read: {reason}") from error
    if not line or "\n" in line:
        raise BadCredentials(f"{setting} must hold one line")
    return line
