"""Accepts connections from the allowed addresses and lets them wait outside until they speak.

A connection that says nothing costs a socket and an entry in a table, no thread: the health checks of load balancers,
port scanners and half-open connections go as they came. Knows no DICOM.
"""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from node.refusals import Refusals

MOST_WAITING = 512
"""Silent connections at a time; the one that has waited longest goes first."""
MOST_WAITING_PER_ADDRESS = 128
BACKLOG = 256
LOOK_EVERY_S = 0.25
ACCEPTED_AT_ONCE = 64
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """A connection whose peer has begun to speak."""

    connection: socket.socket
    """Blocking, with TCP_NODELAY."""
    address: Address
    is_tls: bool
    """It came to a port where TLS is spoken."""
    heard_by: float
    """``time.monotonic()`` by which its first message must be whole."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket, and whether TLS is spoken there."""

    socket: socket.socket
    is_tls: bool

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])


def open_listener(host: str, port: int, *, is_tls: bool) -> Listener:
    """Listens on an address; raises ``OSError`` where it cannot be had."""
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return Listener(listening, is_tls)


def address_of(peer: Sequence[object]) -> Address:
    """The address in what ``accept`` gives, IPv4 where it is one in IPv6's clothes."""
    address = ip_address(str(peer[0]).partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class FrontDoor:
    """One thread for all ports: ``serve_forever`` until ``stop``.

    Args:
        networks: the only addresses and CIDR ranges that are let in.
        silence_s: how long a connection may wait before its first byte, and until its first message is whole.
        admit: called with each connection that speaks; must not block.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        *,
        networks: Sequence[str],
        silence_s: float,
        admit: Callable[[Caller], None],
        refusals: Refusals,
    ) -> None:
        self._listeners = tuple(listeners)
        self._networks = [ip_network(network, strict=False) for network in networks]
        self._silence_s = silence_s
        self._admit = admit
        self._refusals = refusals
        self._waiting: dict[socket.socket, Caller] = {}  # the longest waiting first
        self._selector = selectors.DefaultSelector()
        self._stopped = False

    def serve_forever(self) -> None:
        for listener in self._listeners:
            self._selector.register(listener.socket, selectors.EVENT_READ, listener)
        while not self._stopped:
            for key, _ in self._selector.select(LOOK_EVERY_S):
                if isinstance(key.data, Listener):
                    self._accept(key.data)
                else:
                    self._spoke(key.data)
            self._send_off_the_silent()
        for caller in list(self._waiting.values()):
            self._send_off(caller)
        self._selector.close()

    def stop(self) -> None:
        """Closes the ports and what waits; what was admitted goes on."""
        self._stopped = True
        for listener in self._listeners:
            listener.socket.close()

    def _accept(self, listener: Listener) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, peer = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    _log.error("a connection cannot be accepted: %s", error.strerror)
                    if self._waiting:  # who says nothing makes room for who may
                        self._send_off(next(iter(self._waiting.values())))
                    time.sleep(LOOK_EVERY_S)  # it stays readable, and would keep this thread spinning
                return
            self._let_wait(connection, address_of(peer), listener.is_tls)

    def _let_wait(self, connection: socket.socket, address: Address, is_tls: bool) -> None:
        if not any(address in network for network in self._networks):
            self._refusals.note(str(address), "connection closed: not in receiver.allowed_addresses")
            connection.close()
            return
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        caller = Caller(
            connection=connection, address=address, is_tls=is_tls, heard_by=time.monotonic() + self._silence_s
        )
        same = [waiting for waiting in self._waiting.values() if waiting.address == address]
        if len(same) >= MOST_WAITING_PER_ADDRESS:
            self._send_off(same[0])
        elif len(self._waiting) >= MOST_WAITING:
            self._send_off(next(iter(self._waiting.values())))
        self._waiting[connection] = caller
        self._selector.register(connection, selectors.EVENT_READ, caller)

    def _spoke(self, caller: Caller) -> None:
        if caller.connection not in self._waiting:
            return  # sent off in the same round
        try:
            said = caller.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            said = b""
        if not said:
            self._send_off(caller)
            return
        self._forget(caller)
        self._admit(caller)

    def _send_off_the_silent(self) -> None:
        now = time.monotonic()
        for caller in list(self._waiting.values()):
            if caller.heard_by > now:
                return
            self._send_off(caller)

    def _send_off(self, caller: Caller) -> None:
        self._forget(caller)
        caller.connection.close()

    def _forget(self, caller: Caller) -> None:
        self._selector.unregister(caller.connection)
        del self._waiting[caller.connection]
