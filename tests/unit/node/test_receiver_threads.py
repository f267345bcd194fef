"""A receiver whose system gives it no more threads turns connections away, and forgets them."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.desk import Desk
from node.front_door import open_listener
from node.settings import ReceiverSettings
from node.storage_scp import Server
from tests.pdus import RELEASE, read_pdu, request

ROUNDS = 25
"""More than there are places: one association, and room to refuse 20 more."""


@pytest.fixture
def server() -> Iterator[Server]:
    settings = ReceiverSettings(maximum_associations=1, maximum_associations_per_address=1, acse_timeout_s=5)
    desk = Desk(cast(Any, SimpleNamespace(has_room=lambda: True)), cast(Any, None), settings)
    listeners = [open_listener("127.0.0.1", 0, is_tls=is_tls) for is_tls in (False, True)]
    tls = cast(Any, SimpleNamespace(current=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))
    server = Server(settings, desk, listeners, tls)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server
    server.stop()
    serving.join()


def connect(server: Server, *, is_tls: bool) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port(is_tls=is_tls) or 0), timeout=10)


@pytest.mark.parametrize("is_tls", [False, True])
def test_no_place_is_lost_to_a_connection_for_which_there_was_no_thread(
    server: Server, monkeypatch: pytest.MonkeyPatch, is_tls: bool
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", refuse)
        for _ in range(ROUNDS):
            with connect(server, is_tls=is_tls) as connection:
                connection.sendall(b"\1")
                try:
                    assert connection.recv(1) == b""
                except ConnectionResetError:
                    continue
    time.sleep(0.1)
    with connect(server, is_tls=False) as connection:
        connection.sendall(request((Verification, ExplicitVRLittleEndian)))
        assert read_pdu(connection)[0] == 2, "A-ASSOCIATE-AC"
        connection.sendall(RELEASE)
        assert read_pdu(connection)[0] == 6
