"""Asking for storage commitment: the report may come while the association lasts, and is answered before it ends."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from node.association import Peer
from node.commitment import Reference, association_with
from tests import committing_archive as archives

TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.fixture(autouse=True)
def _failed_sockets_end_with_their_test() -> Iterator[None]:
    yield
    gc.collect()


def test_a_report_is_answered_before_the_association_is_released() -> None:
    reported = threading.Event()

    def note(_encoded: bytes, _syntax: str, _event_type: int) -> int:
        reported.set()
        time.sleep(0.5)  # a ledger that is slow to come back after what it has written can be read
        return 0x0000

    with archives.running(archives.report_on_same_association()) as archive:
        peer = Peer(
            host="127.0.0.1",
            port=archive.port,
            ae_title=archives.AE_TITLE,
            calling_ae_title="SPINENODE",
            connect_timeout_s=2,
        )
        with association_with(peer, commitment=True, queries=False, on_report=note) as asked:
            assert asked.request("2.25.7", [Reference(sop_class_uid=TEXT_SR, sop_instance_uid="2.25.8")]) == ""
            asked.wait_until(reported.is_set, within_s=10)
        assert reported.is_set()
        archive.wait_for_answers(1)
    assert archive.answers == [0x0000]
