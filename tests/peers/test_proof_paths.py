"""Ways that a report takes: over TLS, and to the receiver's process while the dispatcher waits for it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.records import DeliveryState
from node.settings import Settings
from node.verification import Prover
from tests import committing_archive as archives
from tests.certificates import Authority
from tests.receiving import Receiver
from tests.tls_front import front
from tests.unit.node.received_instances import NOON
from tests.unit.node.test_ledger import graded_study

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:.*unclosed <s", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _failed_sockets_end_with_their_test() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path) as running:
        yield running


def prove(receiver: Receiver, **archive: object) -> tuple[dict[DeliveryState, int], float]:
    """One look at two delivered results; where they stand then, and how many seconds it took."""
    pacs = {"name": "pacs", "ae_title": archives.AE_TITLE, "host": "127.0.0.1"} | archive
    settings = Settings.model_validate({"archives": [pacs], "proof": {"report_wait_s": 20}})
    ledger = receiver.ledger()
    graded_study(ledger)
    for delivery in ledger.due_deliveries(NOON, limit=9):
        ledger.delivery_delivered(delivery.delivery_id, status="0x0000", now=NOON)
    began = time.monotonic()
    Prover(settings.archives[0], settings, ledger, receiver.spool, now=lambda: datetime.now(UTC)).look()
    took_s = time.monotonic() - began
    counts = {state: count for state, count in ledger.delivery_counts()["pacs"].items() if count}
    ledger.close()
    return counts, took_s


def holds_them(archive: archives.Archive, request: archives.Request) -> archives.Dataset:
    archive.held.update({uid: archives.Dataset() for uid in request.uids})
    return archives.committed(archive, request)


def test_a_report_to_the_receiver_ends_the_wait_of_the_dispatcher(receiver: Receiver) -> None:
    with archives.running(archives.report_to(receiver.port, holds_them)) as archive:
        counts, took_s = prove(receiver, port=archive.port)
        archive.wait_for_answers(1)
    assert archive.answers == [0x0000]
    assert counts == {DeliveryState.PROVEN: 2}
    assert took_s < 10


def test_reports_on_both_associations_at_once_are_one(receiver: Receiver) -> None:
    same, other = archives.report_on_same_association(holds_them), archives.report_to(receiver.port, holds_them)

    def both(archive: archives.Archive, request: archives.Request) -> None:
        other(archive, request)
        same(archive, request)

    with archives.running(both) as archive:
        counts, _ = prove(receiver, port=archive.port)
        archive.wait_for_answers(1)
    assert archive.answers[0] == 0x0000
    assert counts == {DeliveryState.PROVEN: 2}


def test_requests_and_their_reports_go_over_tls(
    receiver: Receiver, tmp_path: Path, require_program: Callable[[str], Path]
) -> None:
    authority = Authority(require_program("openssl"), tmp_path)
    ours, theirs = authority.identity("node"), authority.identity("archive")
    with (
        archives.running(archives.report_on_same_association(holds_them)) as archive,
        front(archive.port, theirs, authority.certificate) as tls_port,
    ):
        counts, _ = prove(
            receiver,
            port=tls_port,
            tls=True,
            tls_ca_file=authority.certificate,
            tls_certificate_file=ours.certificate,
            tls_key_file=ours.key,
        )
    assert counts == {DeliveryState.PROVEN: 2}
