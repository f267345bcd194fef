"""Sending: results go out, failures wait, an archive that fails is left in peace, and refusals end loudly."""

from __future__ import annotations

import gc
import logging
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pynetdicom import evt
from pynetdicom.association import Association

from node import sender
from node.breaker import BreakerState
from node.ledger import Ledger, open_ledger
from node.records import DeliveryState, StudyState
from node.retry import Failure
from node.sending import end_strays
from node.settings import Settings
from tests.scripted_archive import answering, closed_port
from tests.unit.node.sending_bench import NOON, Bench, uids

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")

DAY_S = 86400


@pytest.fixture
def ledger(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Ledger]:
    (tmp_path / "node.db").write_bytes(migrated_sqlite.read_bytes())
    opened = open_ledger(f"sqlite:///{tmp_path}/node.db")
    yield opened
    opened.close()
    gc.collect()


def breaker_of(bench: Bench, archive: str = "pacs") -> BreakerState:
    return bench.ledger.archives.health(archive, now=bench.now).state


def deliveries(bench: Bench) -> dict[str, tuple[DeliveryState, int, str]]:
    """SOP Instance UID -> state, attempts, last status of what has not arrived."""
    return {
        item.sop_instance_uid: (item.state, item.attempts, item.last_status)
        for item in bench.ledger.undelivered(limit=100)
    }


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


class TestGivingUp:
    def test_after_seven_days_out_of_reach_it_is_a_dead_letter_with_the_last_word(
        self, tmp_path: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
    ) -> None:
        port = closed_port()
        bench = Bench(tmp_path, ledger, {"pacs": port})
        bench.grade()
        bench.look()
        bench.now = NOON + timedelta(seconds=7 * DAY_S - 1)
        bench.give_up_old()
        assert bench.counts() == {DeliveryState.DUE: 2}
        bench.now = NOON + timedelta(seconds=7 * DAY_S)
        caplog.clear()
        with caplog.at_level(logging.ERROR, "node"):
            bench.give_up_old()
        assert caplog.messages == ["2 dead letters, for `spinenode dead-letters`: not delivered in time"]
        said = f"not delivered within 7 days: cannot connect to 127.0.0.1:{port}: Connection refused"
        assert {status for _, _, status in deliveries(bench).values()} == {said}
        assert bench.counts() == {DeliveryState.DEAD: 2}

    def test_an_object_refused_for_now_for_seven_days_is_tried_a_last_time_and_ends(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        with answering(lambda _: 0x0110) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=1)
            bench.look(after_s=7 * DAY_S - 10)
            assert bench.counts() == {DeliveryState.DUE: 1}
            bench.look(after_s=10)
        assert deliveries(bench)["2.25.1001"] == (
            DeliveryState.DEAD,
            2,
            "not delivered within 7 days: 0x0110 processing failure",
        )

    def test_a_retry_gives_it_another_seven_days(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": closed_port()})
        bench.grade()
        bench.look()
        bench.now = NOON + timedelta(seconds=7 * DAY_S)
        bench.give_up_old()
        ledger.retry_study("2.25.1", now=bench.now)
        bench.now += timedelta(seconds=6 * DAY_S)
        bench.give_up_old()
        assert bench.counts() == {DeliveryState.DUE: 2}

    def test_deliveries_to_an_archive_that_left_the_settings_end_with_the_reason(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        bench = Bench(tmp_path, ledger, {"old": 104})
        bench.grade()
        end_strays(bench.post._replace(settings=Settings()))
        assert bench.counts("old") == {DeliveryState.DEAD: 2}

    def test_what_an_archive_took_that_left_the_settings_before_it_proved_it_says_so_once(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        bench = Bench(tmp_path, ledger, {"old": 104})
        bench.grade(objects=1)
        (taken,) = ledger.due_deliveries(NOON, limit=9)
        ledger.delivery_delivered(taken.delivery_id, status="0x0000 success", now=NOON)
        for _ in range(2):
            end_strays(bench.post._replace(settings=Settings()))
        assert bench.counts("old") == {DeliveryState.DELIVERED: 1}
        said = [(event.state, event.status) for event in ledger.delivery_events(taken.delivery_id)]
        assert said == [
            (DeliveryState.DELIVERED, "0x0000 success"),
            (DeliveryState.DELIVERED, "no archive of this name in the settings; not proven"),
        ]

    def test_deliveries_to_a_known_archive_are_no_strays(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104})
        bench.grade()
        end_strays(bench.post)
        assert bench.counts() == {DeliveryState.DUE: 2}


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


@pytest.fixture
def listener_that_never_reads() -> Iterator[int]:
    """Something that takes connections and then neither reads, answers nor hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        over = threading.Event()
        held: list[socket.socket] = []

        def hold() -> None:
            while not over.is_set():
                try:
                    held.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hold)
        thread.start()
        yield int(server.getsockname()[1])
        over.set()
        thread.join()
        for connection in held:
            connection.close()


def test_one_that_never_answers_is_given_up_after_its_time(
    tmp_path: Path, ledger: Ledger, listener_that_never_reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.association.NEGOTIATION_TIMEOUT_S", 1)
    bench = Bench(tmp_path, ledger, {"pacs": listener_that_never_reads})
    bench.grade()
    bench.look()
    assert breaker_of(bench) is BreakerState.OPEN
    assert bench.counts() == {DeliveryState.DUE: 2}
