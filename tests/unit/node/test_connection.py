"""A connection: reads gather what they want, every wait ends, a slow or silent peer is gone."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from node import connection as connection_module
from node.connection import Connection, Gone, Paced


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    listening = socket.create_server(("127.0.0.1", 0))
    peer = socket.create_connection(listening.getsockname())
    ours, _ = listening.accept()
    listening.close()
    with ours, peer:
        yield ours, peer


def soon(seconds: float = 10) -> float:
    return time.monotonic() + seconds


def test_a_read_gathers_what_comes_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    heard: list[int] = []
    connection = Connection(ours, lambda: heard.append(1))

    def drip() -> None:
        for _ in range(10):
            peer.sendall(b"0123456789")
            time.sleep(0.01)

    sending = threading.Thread(target=drip)
    sending.start()
    room = bytearray(100)
    assert connection.some(memoryview(room), soon()) == 100
    assert bytes(room) == b"0123456789" * 10
    assert heard == [1], "the thread was woken once"
    sending.join()


def test_what_is_longer_than_one_read_is_put_together(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    content = bytes(range(256)) * 4096
    sending = threading.Thread(target=peer.sendall, args=(content,))
    sending.start()
    assert Connection(ours, lambda: None).exactly(len(content), soon()) == content
    sending.join()


@pytest.mark.parametrize("patience_s", [0.0, 0.2, 1.3])
def test_a_silent_peer_is_gone_when_the_deadline_is_over(
    ends: tuple[socket.socket, socket.socket], patience_s: float
) -> None:
    ours, _ = ends
    began = time.monotonic()
    with pytest.raises(Gone):
        Connection(ours, lambda: None).exactly(6, began + patience_s)
    assert patience_s <= time.monotonic() - began < patience_s + 3


def test_a_peer_that_hangs_up_inside_is_gone_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    peer.sendall(b"abc")
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(Gone):
        Connection(ours, lambda: None).exactly(6, soon(60))


def test_reading_waits_in_the_kernel_again_after_something_was_sent(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = ends
    connection = Connection(ours, lambda: None)
    content = bytes(2**24)
    received = bytearray()

    def take() -> None:
        while len(received) < len(content):
            received.extend(peer.recv(2**20))

    taking = threading.Thread(target=take)
    taking.start()
    connection.send(content, 30)
    taking.join()
    assert bytes(received) == content
    assert ours.gettimeout() is None


def test_a_peer_that_takes_nothing_is_an_error_in_time(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = ends
    with pytest.raises(OSError, match="timed out"):
        Connection(ours, lambda: None).send(bytes(2**26), 0.3)


def test_what_others_write_to_it_is_bounded_too(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "WRITE_WITHIN_S", 1)
    ours, _ = ends
    Connection(ours, lambda: None)
    with pytest.raises(BlockingIOError):
        ours.sendall(bytes(2**26))


def test_a_paced_stream_ends_where_the_peer_is_too_slow(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    peer.sendall(b"first line\n")
    stream = io.BufferedReader(Paced(ours, silence_s=0.4))
    assert stream.readline() == b"first line\n"
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.1):
            peer.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    began = time.monotonic()
    assert stream.read(10_000).strip(b"x") == b""
    assert time.monotonic() - began < 5
    stop.set()
    dripping.join()
