"""A connection read with deadlines: every wait ends, and every length is believed only as far as bytes came."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

READ_AT_ONCE_BYTES = 2**18


class Gone(Exception):
    """The peer closed the connection, fell silent, or was too slow."""


class Connection:
    """Bytes of a blocking socket, with or without TLS.

    Args:
        heard: called when bytes came.
    """

    def __init__(self, wire: socket.socket, heard: Callable[[], object]) -> None:
        self.wire = wire
        self._heard = heard

    def exactly(self, count: int, deadline: float) -> bytes:
        """``count`` bytes, whole by ``deadline`` (``time.monotonic()``).

        Raises:
            Gone, OSError
        """
        got = bytearray()
        while len(got) < count:
            piece = bytearray(min(count - len(got), READ_AT_ONCE_BYTES))
            got += memoryview(piece)[: self.some(memoryview(piece), deadline)]
        return bytes(got)

    def some(self, room: memoryview, deadline: float) -> int:
        """Puts at least one byte into ``room``; returns how many.

        Raises:
            Gone, OSError
        """
        wait_s = deadline - time.monotonic()
        if wait_s <= 0:
            raise Gone
        self.wire.settimeout(wait_s)
        count = self.wire.recv_into(room)
        if not count:
            raise Gone
        self._heard()
        return count

    def send(self, content: bytes, within_s: float) -> None:
        """Raises ``OSError``."""
        self.wire.settimeout(within_s)
        self.wire.sendall(content)

    def acknowledge(self) -> None:
        """Lets the kernel acknowledge at once: DCMTK and Orthanc send a command and wait up to 40 ms for that."""
        if sys.platform == "linux":
            self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
