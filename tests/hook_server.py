"""The operator's end of a webhook: a real HTTP server, with or without TLS, that answers what it is told to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.certificates import Identity


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass(kw_only=True)
class Hook:
    """What came, and what is answered to it."""

    url: str = ""
    status: Callable[[Call], int] = lambda _: 204
    location: str = ""
    """Where it sends those that it redirects."""
    calls: list[Call] = field(default_factory=list)

    def told(self) -> list[str]:
        """The events of what was taken, in order."""
        return [call.content["event"] for call in self.calls if self.status(call) < 300]


@contextmanager
def running(identity: Identity | None = None, *, port: int = 0) -> Iterator[Hook]:
    """A server on loopback."""
    hook = Hook()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            call = Call(method=self.command, path=self.path, headers=dict(self.headers), body=body)
            hook.calls.append(call)
            self.send_response(hook.status(call))
            if hook.location:
                self.send_header("Location", hook.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            hook.calls.append(Call(method="GET", path=self.path, headers=dict(self.headers), body=b""))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """The test asserts."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that do not trust us hang up
    if identity is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    hook.url = f"{'https' if identity else 'http'}://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
