"""Sending to an archive that is down, full or silent: it is left in peace, and gets everything when it is back."""

from __future__ import annotations

from pathlib import Path

import pytest
from pynetdicom import evt

from node.breaker import BreakerState
from node.ledger import Ledger, open_ledger
from node.records import DeliveryState, StudyState
from tests.scripted_archive import answering, closed_port
from tests.unit.node.sending_bench import NOON, Bench, breaker_of, deliveries, uids

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")


class TestBreaker:
    def test_an_archive_that_is_down_gets_everything_when_it_is_back(self, tmp_path: Path, ledger: Ledger) -> None:
        port = closed_port()
        bench = Bench(tmp_path, ledger, {"pacs": port})
        bench.grade()
        bench.look()
        assert bench.counts() == {DeliveryState.DUE: 2}
        assert breaker_of(bench) is BreakerState.OPEN
        said = f"cannot connect to 127.0.0.1:{port}: Connection refused"
        assert set(deliveries(bench).values()) == {(DeliveryState.DUE, 1, said)}
        with answering(port=port) as archive:
            bench.look(after_s=2.9)
            assert archive.associations == 0
            bench.look(after_s=1.1)
            assert uids(archive) == ["2.25.1001", "2.25.1002"]
            assert archive.associations == 2  # one for the probe
        assert bench.state is StudyState.DELIVERED
        assert breaker_of(bench) is BreakerState.CLOSED

    def test_while_it_is_down_nothing_is_tried_but_a_probe_ever_more_seldom(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": closed_port()})
        bench.grade()
        bench.look()
        waits = []
        for _ in range(5):
            before = bench.now
            bench.look_when_due()
            waits.append((bench.now - before).total_seconds())
        doubled = [4, 8, 16, 32, 64]
        assert all(0.75 * longest <= wait <= longest for wait, longest in zip(waits, doubled, strict=True))
        assert {attempts for _, attempts, _ in deliveries(bench).values()} == {1}

    def test_while_it_is_down_its_deliveries_are_not_even_read(
        self, tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": closed_port()})
        bench.grade()
        bench.look()
        monkeypatch.setattr(Ledger, "due_deliveries", lambda *_, **__: pytest.fail("they were read"))
        bench.look(after_s=1)
        bench.look(after_s=1e5)

    def test_it_stays_open_over_a_restart(self, tmp_path: Path, ledger: Ledger) -> None:
        port = closed_port()
        bench = Bench(tmp_path, ledger, {"pacs": port})
        bench.grade()
        bench.look()
        ledger.close()
        bench.ledger = open_ledger(f"sqlite:///{tmp_path}/node.db")
        with answering(port=port) as archive:
            bench.look()
            assert archive.associations == 0
        bench.ledger.close()

    def test_a_full_archive_is_asked_one_object_at_a_time_and_after_three_it_is_only_probed(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        asked: list[str] = []

        def full(event: evt.Event) -> int:
            asked.append(str(event.request.AffectedSOPInstanceUID))
            return 0xA700

        with answering(full) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=9)
            states = []
            for _ in range(3):
                bench.look_when_due()
                states.append(breaker_of(bench))
            assert states == [BreakerState.CLOSED, BreakerState.CLOSED, BreakerState.OPEN]
            assert len(asked) == 3
            bench.look(after_s=1)
            assert len(asked) == 3
            bench.look_when_due()  # the probe succeeds, one more object shows that it is still full
            assert len(asked) == 4
            assert breaker_of(bench) is BreakerState.OPEN
        attempts = sorted(attempts for _, attempts, _ in deliveries(bench).values())
        assert sum(attempts) == 4  # what was not sent has no attempt against it
        assert attempts[:5] == [0] * 5

    def test_an_object_at_which_the_archive_falls_over_does_not_hold_up_the_others(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        def abort_at_the_first(event: evt.Event) -> int:
            if event.request.AffectedSOPInstanceUID == "2.25.1001":
                event.assoc.abort()
            return 0x0000

        with answering(abort_at_the_first) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=4)
            bench.look()
            assert archive.stored == [] or uids(archive) == ["2.25.1001"]
            for _ in range(3):
                bench.look_when_due()
            assert {"2.25.1002", "2.25.1003", "2.25.1004"} <= set(uids(archive))
        (poison,) = deliveries(bench)
        assert poison == "2.25.1001"

    def test_a_file_that_is_gone_here_says_nothing_about_the_archive(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": closed_port()})
        bench.grade(objects=1)
        (gone,) = ledger.due_deliveries(NOON, limit=1)
        bench.spool.absolute(gone.path).unlink()
        bench.look()
        assert ledger.archives.health("pacs", now=NOON).last_success_at is None
        assert bench.counts() == {DeliveryState.DEAD: 1}

    def test_the_operator_s_retry_asks_a_dead_archive_at_once(self, tmp_path: Path, ledger: Ledger) -> None:
        port = closed_port()
        bench = Bench(tmp_path, ledger, {"pacs": port})
        bench.grade()
        bench.look()
        with answering(port=port) as archive:
            ledger.retry_study("2.25.1", now=bench.now)
            ledger.archives.ask_at_once(now=bench.now)
            bench.look()
            assert len(archive.stored) == 2

    def test_one_that_takes_no_echo_is_tried_all_the_same(self, tmp_path: Path, ledger: Ledger) -> None:
        port = closed_port()
        bench = Bench(tmp_path, ledger, {"pacs": port})
        bench.grade()
        bench.look()
        with answering(port=port, verification=False) as archive:
            bench.look_when_due()
            assert len(archive.stored) == 2


def test_one_that_never_answers_is_given_up_after_its_time(
    tmp_path: Path, ledger: Ledger, listener_that_never_reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.association.NEGOTIATION_TIMEOUT_S", 1)
    bench = Bench(tmp_path, ledger, {"pacs": listener_that_never_reads})
    bench.grade()
    bench.look()
    assert breaker_of(bench) is BreakerState.OPEN
    assert bench.counts() == {DeliveryState.DUE: 2}
