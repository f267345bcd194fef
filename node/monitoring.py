"""The process that tells how the node is: /health and /metrics over HTTP, and notices to the operator.

A process of its own, for a watchman must not be one of the watched: it answers while the worker computes, while a
sender hangs, while the database is away, and it can say that another process is dead. Its port is a convenience: where
it cannot be had, the node works without it, and says so.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from node import health, metrics
from node.bell import Bell, channels_of
from node.ledger_database import Database
from node.settings import Settings
from node.watch import Watch

ALARM_EVERY_S = 2.0
LISTEN_AGAIN_S = 10.0
SILENT_FOR_S = 10.0
"""A connection that says nothing for this long is closed."""
ASKED_WITHIN_S = 5.0
"""A question is whole by then, however slowly it drips, or its connection is closed."""
MOST_AT_ONCE = 16

logger = logging.getLogger(__name__)

Now = Callable[[], datetime]


def run(settings: Settings, *, stop: threading.Event, on_ready: Callable[[], None], now: Now) -> None:
    """Watch, answer and tell until ``stop`` is set. Needs neither the ledger nor any other process to start."""
    bell = Bell(settings, now, channels_of(settings.notices))

    def told(database: Database) -> None:
        bell.hear(watch.checks(), watch.reading(), database)

    watch = Watch(settings, now, after_look=told)
    watch.start()
    bell.start()
    if settings.monitoring.port:
        threading.Thread(target=_serve, args=(settings, watch, stop), name="monitoring", daemon=True).start()
    on_ready()
    while not stop.wait(ALARM_EVERY_S):
        if watch.reading() is None:
            bell.hear_without_ledger(watch.checks())
    bell.stop()
    watch.stop()


def health_json(watch: Watch) -> tuple[HTTPStatus, dict[str, Any]]:
    """The answer to GET /health."""
    checks = watch.checks()
    red = health.is_red(checks)
    content = {
        "schema": 1,
        "status": "red" if red else "green",
        "checks": [{"name": check.name, "status": _COLOURS[check.is_red], "reason": check.reason} for check in checks],
    }
    return HTTPStatus.SERVICE_UNAVAILABLE if red else HTTPStatus.OK, content


_COLOURS = {True: "red", False: "green", None: "unknown"}
_INDEX = b"""spinenode

/health   200 while all is well, 503 when the promise is at risk: JSON, each check with its reason
/metrics  for Prometheus
"""


class MonitoringServer(ThreadingHTTPServer):
    """Answers from what ``watch`` has seen."""

    daemon_threads = True

    def __init__(self, host: str, port: int, watch: Watch) -> None:
        self.watch = watch
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Answer)

    def server_bind(self) -> None:
        """Without asking the name service who we are, as the library does: it may be away too."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away while it was answered is nobody's concern."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            logger.error("a question to the monitoring port could not be answered", exc_info=True)


class _Answer(BaseHTTPRequestHandler):
    server: MonitoringServer
    timeout = SILENT_FOR_S
    server_version = "spinenode"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self._too_late = threading.Timer(ASKED_WITHIN_S, self._hang_up)
        self._too_late.daemon = True
        self._too_late.start()

    def parse_request(self) -> bool:
        try:
            return super().parse_request()
        finally:
            self._too_late.cancel()

    def finish(self) -> None:
        self._too_late.cancel()
        super().finish()

    def _hang_up(self) -> None:
        with suppress(OSError):  # it ended by itself
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self.server.watch.refresh()
            status, content = health_json(self.server.watch)
            self._answer(status, "application/json", json.dumps(content, indent=1).encode("utf-8") + b"\n")
        elif path == "/metrics":
            self.server.watch.refresh()
            self._answer(HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.exposition(self.server.watch.picture()))
        elif path == "/":
            self._answer(HTTPStatus.OK, "text/plain; charset=utf-8", _INDEX)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there are /health and /metrics\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """A request each few seconds is no news."""


def _serve(settings: Settings, watch: Watch, stop: threading.Event) -> None:
    """Listen, and try again where the port cannot be had: monitoring must not keep the node from its work."""
    where = f"{settings.monitoring.host}:{settings.monitoring.port}"
    refused = False
    while not stop.is_set():
        try:
            server = MonitoringServer(settings.monitoring.host, settings.monitoring.port, watch)
        except OSError as error:
            if not refused:
                logger.error(
                    "cannot listen on %s: %s; no /health and /metrics until it is free (monitoring.port, 0 = none)",
                    where,
                    error.strerror,
                )
            refused = True
            stop.wait(LISTEN_AGAIN_S)
            continue
        logger.info("http://%s/health and /metrics answer", where)
        threading.Thread(target=server.serve_forever, name="monitoring-http", daemon=True).start()
        stop.wait()
        server.shutdown()
        server.server_close()
        return
