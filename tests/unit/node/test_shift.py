"""A worker among workers: what it takes up, and when it must go."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from node.ledger import Ledger, open_ledger
from node.shift import DECLARED_DEAD, Shift
from tests.unit.node.received_instances import after, image
from tests.unit.node.sending_bench import Bench

DEAD_AFTER_S = 0.4


class Queue:
    """The engine as a shift sees it."""

    def __init__(self, held: dict[str, str] | None = None, running: Iterable[str] = ()) -> None:
        self.launched = False
        self.jobs = held or {}
        self.at_work = frozenset(running)
        self.back: list[list[str]] = []

    def launch(self) -> None:
        self.launched = True

    def held(self) -> dict[str, str]:
        return self.jobs

    def running(self) -> frozenset[str]:
        return self.at_work

    def enqueue(self, jobs: list[tuple[int, int]], *, restart_ended: bool, places: dict[int, int]) -> None:
        self.queued = (jobs, places)

    def put_back(self, jobs: Iterable[str]) -> None:
        self.back.append(sorted(jobs))


class Worker:
    """A shift with its queue, and whether it had to go."""

    def __init__(self, ledger: Ledger, place: str, queue: Queue) -> None:
        self.left: list[int] = []
        self.queue = queue
        self.shift = Shift(
            ledger,
            queue,  # type: ignore[arg-type]
            name=f"{place}:1",
            dead_after_s=DEAD_AFTER_S,
            leave=self.left.append,
        )
        self.shift.enter(forebears=f"{place}:")
        self.shift.launch()


def test_at_its_start_it_takes_up_what_dead_ones_left(ledger: Ledger) -> None:
    worker = Worker(ledger, "a", Queue({"study-1-0": "a:0", "study-2-0": "an older version's"}))
    assert worker.queue.launched
    assert worker.queue.back == [["study-1-0", "study-2-0"]]


def test_before_it_works_it_beats_and_takes_up_nothing(ledger: Ledger) -> None:
    queue = Queue({"study-1-0": "dead:1"})
    shift = Shift(ledger, queue, name="a:1", dead_after_s=DEAD_AFTER_S)  # type: ignore[arg-type]
    shift.enter(forebears="a:")
    shift.beat()
    shift.enqueue()
    assert queue.back == []


def test_what_living_ones_have_is_left_to_them(ledger: Ledger) -> None:
    other = Worker(ledger, "b", Queue())
    worker = Worker(ledger, "a", Queue({"study-1-0": "b:1"}))
    other.shift.beat()
    worker.shift.beat()
    assert worker.queue.back == []


def test_when_one_dies_another_takes_its_study_within_the_time(ledger: Ledger) -> None:
    Worker(ledger, "b", Queue())  # leads, and is never heard of again
    worker = Worker(ledger, "a", Queue({"study-1-0": "b:1"}))
    died = time.monotonic()
    while not worker.queue.back and time.monotonic() < died + 10:
        time.sleep(DEAD_AFTER_S / 6)
        worker.shift.beat()
    assert worker.queue.back == [["study-1-0"]]
    assert time.monotonic() - died < 3 * DEAD_AFTER_S


def test_it_is_put_back_again_where_the_first_time_was_lost(ledger: Ledger) -> None:
    """A worker that leads may die between finding out and putting back: the next beat finds the same."""
    worker = Worker(ledger, "a", Queue({"study-1-0": "b:1"}))
    worker.shift.beat()
    assert worker.queue.back == [["study-1-0"]] * 2


def test_one_that_does_not_lead_takes_up_nothing(ledger: Ledger) -> None:
    leader = Worker(ledger, "b", Queue())
    follower = Worker(ledger, "a", Queue({"study-1-0": "dead:1"}))
    leader.shift.beat()
    follower.shift.beat()
    assert follower.queue.back == []


def test_one_that_was_declared_dead_goes_and_takes_up_nothing(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    stopped = Worker(ledger, "a", Queue())
    time.sleep(DEAD_AFTER_S + 0.1)
    other = Worker(ledger, "b", Queue())
    other.shift.beat()
    stopped.queue.jobs = {"study-1-0": "a:1"}
    stopped.shift.beat()
    assert stopped.left == [DECLARED_DEAD]
    assert stopped.queue.back == []
    assert other.left == []
    assert "declared dead after 0.4 s without a beat: the worker ends itself" in caplog.text


def test_a_job_that_was_taken_and_never_begun_goes_back_when_two_beats_have_seen_it(ledger: Ledger) -> None:
    worker = Worker(ledger, "a", Queue())
    worker.queue.jobs = {"study-1-0": "a:1", "study-2-0": "a:1"}
    worker.queue.at_work = frozenset({"study-2-0"})
    worker.shift.beat()
    assert worker.queue.back == []
    worker.shift.beat()
    assert worker.queue.back == [["study-1-0"]]


def test_a_job_that_begins_between_two_beats_stays(ledger: Ledger) -> None:
    worker = Worker(ledger, "a", Queue())
    worker.queue.jobs = {"study-1-0": "a:1"}
    worker.shift.beat()
    worker.queue.at_work = frozenset({"study-1-0"})
    worker.shift.beat()
    worker.queue.at_work = frozenset()
    worker.shift.beat()
    assert worker.queue.back == []


def test_studies_are_queued_with_their_places_in_line(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/node.db")
    bench = Bench(tmp_path, ledger, {})
    for number, priority in ((1, 0), (2, 3), (3, 0)):
        study_id = bench.study_id if number == 1 else bench.receive(number)
        bench.now += timedelta(seconds=60)
        ledger.close_study(study_id, last_received_at=bench.now, reason="quiet", now=bench.now, priority=priority)
    queue = Queue()
    shift = Shift(ledger, queue, name="a:1", dead_after_s=DEAD_AFTER_S, head_start_s=3600)  # type: ignore[arg-type]
    shift.enter(forebears="a:")
    shift.launch()
    shift.enqueue()
    jobs, places = queue.queued
    assert jobs == [(2, 0), (1, 0), (3, 0)]
    assert sorted(places, key=places.__getitem__) == [2, 1, 3]
    ledger.close()


def test_a_later_generation_waits_until_the_earlier_one_has_ended(ledger: Ledger) -> None:
    shift, queue = (worker := Worker(ledger, "a", Queue())).shift, worker.queue

    def queued() -> list[int]:
        shift.enqueue()
        return [study_id for study_id, _ in queue.queued[0]]

    for number in (1, 2):
        ledger.record_instance(image(number, at=after(60 * number)))
        (study,) = ledger.open_studies()
        ledger.close_study(study.study_id, last_received_at=study.last_received_at, reason="quiet", now=after(60))
    assert queued() == [1], "both wait: the first"
    ledger.take_study(1, maximum_attempts=3, now=after(200))
    assert queued() == [1], "the first is being graded"
    ledger.finish_declined(1, results=(), archives={}, reason="no", now=after(201))
    assert queued() == [2]
