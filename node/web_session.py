"""HTTP to a DICOMweb archive: credentials, TLS, no redirects, and time limits."""

from __future__ import annotations

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
    if server.url.startswith("https://"):
        session.mount("https://", _TlsAdapter(client_context(server.tls), server.tls.server_name))
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


class _TlsAdapter(HTTPAdapter):
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
