"""Sending: results go out, failures wait, warnings are kept, refusals end loudly, and each has its turn."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest
from pynetdicom import evt
from pynetdicom.association import Association

from node import sender
from node.breaker import BreakerState
from node.ledger import Ledger
from node.records import DeliveryState, StudyState
from node.retry import Failure
from tests.scripted_archive import answering, closed_port
from tests.unit.node.sending_bench import NOON, Bench, breaker_of, deliveries, uids

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")


class TestOneArchive:
    def test_results_are_delivered_once_and_the_study_is_done(self, tmp_path: Path, ledger: Ledger) -> None:
        with answering() as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade()
            bench.look()
            bench.look(after_s=100)
        assert uids(archive) == ["2.25.1001", "2.25.1002"]
        assert archive.associations == 1
        assert bench.state is StudyState.DELIVERED

    def test_every_change_of_a_delivery_is_kept(self, tmp_path: Path, ledger: Ledger) -> None:
        with answering(lambda _: 0x0110) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=1)
            (delivery,) = ledger.due_deliveries(NOON, limit=1)
            bench.look()
        with answering(port=archive.port):
            bench.look(after_s=4)
        told = [(event.at - NOON, event.state, event.status) for event in ledger.delivery_events(delivery.delivery_id)]
        assert told == [
            (timedelta(0), DeliveryState.DUE, "0x0110 processing failure"),
            (timedelta(seconds=4), DeliveryState.DELIVERED, "0x0000 success"),
        ]

    def test_an_archive_that_answers_and_takes_nothing_is_down_until_it_takes_something(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        with answering(lambda _: 0x0110) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=1)
            bench.look()
            bench.look(after_s=4)
        refusing = ledger.archives.health("pacs", now=bench.now)
        assert (refusing.state, refusing.down_since) == (BreakerState.CLOSED, NOON)
        with answering(port=archive.port):
            bench.look(after_s=100)
        assert ledger.archives.health("pacs", now=bench.now).down_since is None

    def test_the_wait_of_an_object_grows_with_each_refusal_for_now(self, tmp_path: Path, ledger: Ledger) -> None:
        waits = []
        with answering(lambda _: 0x0110) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=1)
            for _ in range(6):
                bench.look()
                (delivery,) = ledger.due_deliveries(bench.now + timedelta(days=1), limit=1)
                waits.append((delivery.not_before - bench.now).total_seconds())
                bench.now = delivery.not_before
        doubled = [4, 8, 16, 32, 64, 64]
        assert all(0.75 * longest <= wait <= longest for wait, longest in zip(waits, doubled, strict=True))
        assert (delivery.attempts, delivery.last_status) == (6, "0x0110 processing failure")
        assert breaker_of(bench) is BreakerState.CLOSED  # the archive answers; it is the object that waits

    def test_of_five_objects_each_has_the_answer_that_it_got(self, tmp_path: Path, ledger: Ledger) -> None:
        statuses = {"2.25.1001": 0x0000, "2.25.1002": 0x0110, "2.25.1003": 0xB007, "2.25.1004": 0xC000, "2.25.1005": 0}
        with answering(lambda event: statuses[event.request.AffectedSOPInstanceUID]) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=5)
            bench.look()
        assert uids(archive) == ["2.25.1001", "2.25.1003", "2.25.1005"]
        assert deliveries(bench) == {
            "2.25.1002": (DeliveryState.DUE, 1, "0x0110 processing failure"),
            "2.25.1004": (DeliveryState.DEAD, 1, "0xC000 cannot understand"),
        }
        assert bench.state is StudyState.GRADED

    def test_a_refusal_for_good_ends_loudly_and_the_operator_can_repeat_it(
        self, tmp_path: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
    ) -> None:
        mended = False

        def refuse(_: evt.Event) -> int:
            return 0x0000 if mended else 0xA900

        with answering(refuse) as archive, caplog.at_level(logging.ERROR, "node"):
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade()
            bench.look()
            assert bench.counts() == {DeliveryState.DEAD: 2}
            bench.look(after_s=1e6)
            assert archive.stored == []
            mended = True
            assert ledger.retry_study("2.25.1", now=bench.now) == 2
            bench.look()
        assert uids(archive) == ["2.25.1001", "2.25.1002"]
        said = "a dead letter, for `spinenode dead-letters`: 0xA900 data set does not match SOP class"
        assert caplog.messages == [said] * 2

    def test_a_result_whose_file_is_gone_ends_its_delivery_and_the_other_goes(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        with answering() as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade()
            gone = ledger.due_deliveries(NOON, limit=1)[0]
            bench.spool.absolute(gone.path).unlink()
            bench.look()
        assert uids(archive) == ["2.25.1002"]
        assert bench.counts() == {DeliveryState.DELIVERED: 1, DeliveryState.DEAD: 1}

    def test_an_object_that_no_library_is_ready_for_does_not_hold_up_the_others(
        self, tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        true_answer = sender._store

        def stumble(association: Association, item: sender.Outgoing, peer: sender.Peer) -> sender.Stored | Failure:
            if b"2.25.1002" in item.path.read_bytes():
                raise RecursionError("Doe^Jane")
            return true_answer(association, item, peer)

        monkeypatch.setattr(sender, "_store", stumble)
        with answering() as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=3)
            bench.look()
            bench.look(after_s=1)
        assert uids(archive) == ["2.25.1001", "2.25.1003"]
        ((state, attempts, status),) = deliveries(bench).values()
        assert (state, attempts) == (DeliveryState.DUE, 1)
        assert status.startswith("a fault of this node, RecursionError at ")
        assert "Doe" not in status


class TestWarnings:
    def test_a_warning_is_a_delivery_and_is_kept(self, tmp_path: Path, ledger: Ledger) -> None:
        with answering(lambda _: 0xB000) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=1)
            (delivery,) = ledger.due_deliveries(NOON, limit=1)
            bench.look()
            bench.look(after_s=1e5)
        assert len(archive.stored) == 1
        assert bench.state is StudyState.DELIVERED
        (event,) = ledger.delivery_events(delivery.delivery_id)
        assert event.status == "0xB000 warning: stored, with data elements coerced"

    def test_by_setting_it_is_sent_again_so_often_and_then_taken_as_it_is(self, tmp_path: Path, ledger: Ledger) -> None:
        with answering(lambda _: 0xB006) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port}, warning_retries=2)
            bench.grade(objects=1)
            for _ in range(5):
                bench.look(after_s=100)
        assert len(archive.stored) == 3
        assert bench.state is StudyState.DELIVERED

    def test_a_plain_success_ends_it_sooner(self, tmp_path: Path, ledger: Ledger) -> None:
        answers = iter([0xB006, 0x0000])
        with answering(lambda _: next(answers)) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port}, warning_retries=5)
            bench.grade(objects=1)
            for _ in range(3):
                bench.look(after_s=100)
        assert len(archive.stored) == 2
        assert bench.state is StudyState.DELIVERED


class TestSeveralArchives:
    def test_a_dead_one_does_not_hold_up_another(self, tmp_path: Path, ledger: Ledger) -> None:
        with answering() as archive:
            bench = Bench(tmp_path, ledger, {"broken": closed_port(), "pacs": archive.port})
            bench.grade()
            bench.look("pacs")
            assert len(archive.stored) == 2
        bench.look("broken")
        assert bench.counts("broken") == {DeliveryState.DUE: 2}
        assert bench.state is StudyState.GRADED
        assert breaker_of(bench) is BreakerState.CLOSED
        assert breaker_of(bench, "broken") is BreakerState.OPEN


class TestTurns:
    def test_the_higher_priority_goes_first_and_among_equals_the_older(self, tmp_path: Path, ledger: Ledger) -> None:
        with answering() as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(1, objects=1)
            bench.now += timedelta(seconds=60)
            bench.grade(2, objects=1, priority=3)
            bench.now += timedelta(seconds=60)
            bench.grade(3, objects=1)
            bench.look()
        assert uids(archive) == ["2.25.2001", "2.25.1001", "2.25.3001"]

    def test_one_that_has_waited_long_enough_goes_before_a_newer_one_of_higher_priority(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        with answering() as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(1, objects=1)
            bench.now += timedelta(hours=3, seconds=1)
            bench.grade(2, objects=1, priority=3)
            bench.look()
        assert uids(archive) == ["2.25.1001", "2.25.2001"]
