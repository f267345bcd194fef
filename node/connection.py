"""A connection read with deadlines: every wait ends, and every length is believed only as far as bytes came."""

from __future__ import annotations

import io
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

READ_AT_ONCE_BYTES = 2**18
LEAST_BYTES_PER_S = 1024
"""A sender that is slower, on average over a message, is no sender."""
SLICE_S = 1
"""A read that waits in the kernel for all it wants comes back this often, to look at its deadline."""
WRITE_WITHIN_S = 30
"""For the few bytes that pynetdicom writes itself: release, abort."""


def _timeval(seconds: int) -> bytes:
    return struct.pack("ll", seconds, 0)


class Gone(Exception):
    """The peer closed the connection, fell silent, or was too slow."""


class Connection:
    """Bytes of a blocking socket, with or without TLS.

    Without TLS the kernel gathers what a read wants, and the thread sleeps meanwhile: a fragment that comes in twenty
    segments wakes it once, not twenty times. That matters where eight associations share one interpreter.

    Args:
        heard: called when bytes came.
    """

    def __init__(self, wire: socket.socket, heard: Callable[[], object]) -> None:
        self.wire = wire
        self._heard = heard
        self._gathers = not isinstance(wire, ssl.SSLSocket)
        if self._gathers:
            wire.settimeout(None)
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(SLICE_S))
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(WRITE_WITHIN_S))

    def exactly(self, count: int, deadline: float) -> bytes:
        """``count`` bytes, whole by ``deadline`` (``time.monotonic()``).

        Raises:
            Gone, OSError
        """
        got = bytearray()
        while len(got) < count:
            piece = bytearray(min(count - len(got), READ_AT_ONCE_BYTES))
            arrived = self.some(memoryview(piece), deadline)
            if arrived == count:
                return bytes(piece)
            got += memoryview(piece)[:arrived]
        return bytes(got)

    def some(self, room: memoryview, deadline: float) -> int:
        """Puts at least one byte into ``room``; returns how many.

        Raises:
            Gone, OSError
        """
        while (wait_s := deadline - time.monotonic()) > 0:
            count = self._gathered(room, wait_s) if self._gathers else self._decrypted(room, wait_s)
            if count is None:
                continue
            if not count:
                break
            self._heard()
            return count
        raise Gone

    def _gathered(self, room: memoryview, wait_s: float) -> int | None:
        """As ``recv_into``; None where nothing came for a while."""
        flags = socket.MSG_WAITALL
        if wait_s < SLICE_S:
            flags = socket.MSG_DONTWAIT
            poll = select.poll()
            poll.register(self.wire, select.POLLIN)
            poll.poll(wait_s * 1000)
        try:
            return self.wire.recv_into(room, 0, flags)
        except BlockingIOError:
            return None

    def _decrypted(self, room: memoryview, wait_s: float) -> int:
        self.wire.settimeout(wait_s)
        return self.wire.recv_into(room)

    def send(self, content: bytes, within_s: float) -> None:
        """Raises ``OSError``."""
        rest = memoryview(content)
        if self._gathers:
            rest = rest[self._taken_at_once(rest) :]
        if not rest:
            return
        self.wire.settimeout(within_s)
        try:
            self.wire.sendall(rest)
        finally:
            if self._gathers:
                self.wire.settimeout(None)

    def _taken_at_once(self, content: memoryview) -> int:
        try:
            return self.wire.send(content, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def acknowledge(self) -> None:
        """Lets the kernel acknowledge at once: DCMTK and Orthanc send a command and wait up to 40 ms for that."""
        if sys.platform == "linux":
            self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Paced(io.RawIOBase):
    """What a peer sends, for as long as it keeps a pace; then the end, as if it had hung up.

    A request whose bytes drip in would else hold one of a few places for days.
    """

    def __init__(self, connection: socket.socket, silence_s: float) -> None:
        super().__init__()
        self._connection = connection
        self._silence_s = silence_s
        self._began = time.monotonic()
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        now = time.monotonic()
        at_least_pace = self._began + self._bytes / LEAST_BYTES_PER_S
        wait_s = min(now, at_least_pace) + self._silence_s - now
        if wait_s <= 0:
            return 0
        self._connection.settimeout(wait_s)
        try:
            count = self._connection.recv_into(room)
        except TimeoutError:
            return 0
        self._bytes += count
        return count
