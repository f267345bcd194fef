"""A peer that sends a byte now and then, so that each read of it succeeds and none of what it says ever ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

EVERY_S = 0.05


def drip(connection: socket.socket, over: threading.Event) -> None:
    """Zeros until the other side ends it, or it is ``over``."""
    with suppress(OSError):
        while not over.wait(EVERY_S):
            connection.send(b"\0")


@contextmanager
def dripping(beginning: bytes) -> Iterator[int]:
    """A listener that says ``beginning`` to each who connects, and then drips; gives its port."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(beginning)
            drip(connection, over)

    def accept() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                threads.append(threading.Thread(target=answer, args=(server.accept()[0],)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(EVERY_S)
        threads.append(threading.Thread(target=accept))
        threads[0].start()
        try:
            yield int(server.getsockname()[1])
        finally:
            over.set()
            for thread in threads:
                thread.join()
