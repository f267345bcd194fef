"""A ledger of one database file, and a peer that never answers."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.ledger import Ledger, open_ledger


@pytest.fixture
def ledger(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Ledger]:
    (tmp_path / "node.db").write_bytes(migrated_sqlite.read_bytes())
    opened = open_ledger(f"sqlite:///{tmp_path}/node.db")
    yield opened
    opened.close()
    gc.collect()


@pytest.fixture
def listener_that_never_reads() -> Iterator[int]:
    """Something that takes connections and then neither reads, answers nor hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        over = threading.Event()
        held: list[socket.socket] = []

        def hold() -> None:
            while not over.is_set():
                try:
                    held.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hold)
        thread.start()
        yield int(server.getsockname()[1])
        over.set()
        thread.join()
        for connection in held:
            connection.close()
