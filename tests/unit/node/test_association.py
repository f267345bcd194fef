"""Associations with peers that drip: each of their bytes comes in time, and yet they hold nobody for ever."""

from __future__ import annotations

import gc
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pynetdicom import evt
from pynetdicom.presentation import build_context

from node import association
from node.association import Peer, associate, leave
from node.retry import Failure
from node.sender import VERIFICATION, send
from node.transport_security import ClientTls
from tests.dripping_peer import drip, dripping
from tests.scripted_archive import AE_TITLE, answering
from tests.unit.node.outgoing_objects import text_report

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")

ACCEPT_HEADER = b"\x02\x00\x00\x00\xff\xff"
DATA_HEADER = b"\x04\x00\x00\x00\xff\xff"
TLS_HANDSHAKE_HEADER = b"\x16\x03\x03\x40\x00"
NO_TLS_FILES = ClientTls(ca_file=None, certificate_file=None, key_file=None, server_name="")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(association, "NEGOTIATION_TIMEOUT_S", 0.5)
    monkeypatch.setattr(association, "ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(association, "ABORTED_WITHIN_S", 0.3)
    monkeypatch.setattr(association, "RELEASED_LATE_S", 0.2)
    yield
    gc.collect()


def peer_at(port: int) -> Peer:
    return Peer(host="127.0.0.1", port=port, ae_title=AE_TITLE, calling_ae_title="SPINENODE", connect_timeout_s=0.5)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("beginning", "tls", "said"),
    [
        (ACCEPT_HEADER, None, "answers but makes no association"),
        (TLS_HANDSHAKE_HEADER, NO_TLS_FILES, "no TLS with .*: timed out"),
    ],
)
def test_a_negotiation_has_an_end(beginning: bytes, tls: ClientTls | None, said: str) -> None:
    with dripping(beginning) as port:
        began = time.monotonic()
        made = associate(replace(peer_at(port), tls=tls), [build_context(VERIFICATION)])
        took_s = time.monotonic() - began
    assert isinstance(made, Failure)
    assert took_s < 10
    assert (made.of_archive, made.out_of_reach, made.permanent) == (True, True, False)
    assert re.search(said, made.what)


@pytest.mark.timeout(30)
def test_an_answer_has_an_end(tmp_path: Path) -> None:
    over = threading.Event()

    def drip_the_answer(event: evt.Event) -> int:
        connection = event.assoc.dul.socket.socket
        connection.sendall(DATA_HEADER)
        drip(connection, over)
        return 0x0000

    with answering(drip_the_answer) as archive:
        began = time.monotonic()
        first, second = send([text_report(tmp_path, 1), text_report(tmp_path, 2)], peer_at(archive.port))
        took_s = time.monotonic() - began
        over.set()
    assert took_s < 10
    assert isinstance(first.answer, Failure)
    assert isinstance(second.answer, Failure)
    assert first.answer.what.endswith("ended the association or did not answer")
    assert (first.answer.of_archive, first.answer.permanent) == (True, False)
    assert not second.answer.tried


@pytest.mark.timeout(30)
def test_an_association_that_is_made_in_time_is_not_cut_afterwards() -> None:
    with answering() as archive:
        made = associate(peer_at(archive.port), [build_context(VERIFICATION)], answer_within_s=10)
        assert not isinstance(made, Failure)
        time.sleep(1.5)  # longer than connecting and negotiating may take
        assert made.send_c_echo().Status == 0x0000
        made.release()


@pytest.mark.timeout(30)
def test_a_release_has_an_end_though_a_report_has_woken_it_at_the_wrong_moment() -> None:
    with answering() as archive:
        made = associate(peer_at(archive.port), [build_context(VERIFICATION)], answer_within_s=10)
        assert not isinstance(made, Failure)
        made._reactor_checkpoint.clear()
        while not made._is_paused:
            time.sleep(0.001)
        made._is_paused = False  # by the thread of pynetdicom that has just answered an N-EVENT-REPORT
        began = time.monotonic()
        leave(made)
        took_s = time.monotonic() - began
        made.join(5)
        assert not made.is_alive()
    assert 0.5 < took_s < 10
    assert not made.is_established
