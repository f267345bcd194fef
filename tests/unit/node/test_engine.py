"""The queue: each job once, one at a time, and none is lost with its process."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dbos import _dbos, _queue, _workflow_commands

from node.engine import UNUSED_POLL_S, Engine, Outcome, queue_database_url

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


class Recording:
    """Steps that write down what they are asked for."""

    def __init__(self, attempt: Callable[[int], Outcome | None] = lambda study_id: {"n": study_id}) -> None:
        self.attempted: list[int] = []
        self.finished: list[tuple[int, Outcome]] = []
        self._attempt = attempt

    def attempt(self, study_id: int) -> Outcome | None:
        self.attempted.append(study_id)
        return self._attempt(study_id)

    def finish(self, study_id: int, outcome: Outcome) -> None:
        self.finished.append((study_id, outcome))


class Switch:
    """Steps of the one engine that the quick tests share: starting and stopping one takes two seconds."""

    def __init__(self) -> None:
        self.to = Recording()

    def attempt(self, study_id: int) -> Outcome | None:
        return self.to.attempt(study_id)

    def finish(self, study_id: int, outcome: Outcome) -> None:
        self.to.finish(study_id, outcome)


@contextmanager
def launched(folder: Path, steps: Recording | Switch, worker: str = "") -> Iterator[Engine]:
    """A running engine. One at a time in a process."""
    url = queue_database_url(f"sqlite:///{folder}/node.db", folder)
    engine = Engine(steps, database_url=url, worker=worker or f"{time.monotonic_ns()}")
    try:
        engine.launch()
        yield engine
    finally:
        engine.stop(0)


Running = Callable[[Recording], Engine]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Switch, Path]]:
    folder, switch = tmp_path_factory.mktemp("queue"), Switch()
    with launched(folder, switch) as engine:
        yield engine, switch, folder


@pytest.fixture
def running(shared: tuple[Engine, Switch, Path]) -> Running:
    """``running(steps)`` gives an engine that works with these steps, and has no job left of an earlier test."""
    engine, switch, _ = shared

    def prepare(steps: Recording) -> Engine:
        until(lambda: engine.unfinished() == 0)
        engine.prune(datetime.now(UTC) + timedelta(seconds=1))
        switch.to = steps
        return engine

    return prepare


def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_study_that_is_queued_at_every_tick_is_worked_on_once(running: Running) -> None:
    steps = Recording()
    engine = running(steps)
    for _ in range(5):
        engine.enqueue([(7, 0)])
    until(lambda: engine.unfinished() == 0)
    engine.enqueue([(8, 0)])
    until(lambda: len(steps.finished) == 2)
    assert steps.attempted == [7, 8]
    assert steps.finished == [(7, {"n": 7}), (8, {"n": 8})]


def test_a_study_that_needs_nothing_more_is_not_finished(running: Running) -> None:
    steps = Recording(lambda study_id: None)
    engine = running(steps)
    engine.enqueue([(1, 0)])
    until(lambda: steps.attempted == [1] and engine.unfinished() == 0)
    assert steps.finished == []


def test_another_round_is_another_job(running: Running) -> None:
    steps = Recording()
    engine = running(steps)
    engine.enqueue([(1, 0)])
    engine.enqueue([(1, 1)])
    until(lambda: len(steps.finished) == 2)
    assert steps.attempted == [1, 1]


def test_the_one_whose_turn_it_is_goes_before_those_that_were_queued_earlier(running: Running) -> None:
    go = threading.Event()

    def wait(study_id: int) -> Outcome:
        go.wait(20)
        return {"n": study_id}

    steps = Recording(wait)
    engine = running(steps)
    engine.enqueue([(1, 0)], places={1: 500})
    until(lambda: steps.attempted == [1])
    engine.enqueue([(2, 0), (3, 0)], places={2: 600, 3: 700})
    engine.enqueue([(4, 0)], places={4: 100})
    go.set()
    until(lambda: len(steps.finished) == 4)
    assert steps.attempted == [1, 4, 2, 3]


def test_studies_are_worked_on_one_at_a_time_in_their_order(running: Running) -> None:
    at_once, lock = [0, 0], threading.Lock()

    def slow(study_id: int) -> Outcome:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        time.sleep(0.05)
        with lock:
            at_once[0] -= 1
        return {}

    steps = Recording(slow)
    engine = running(steps)
    for study_id in (3, 1, 2):
        engine.enqueue([(study_id, 0)])
    until(lambda: len(steps.finished) == 3)
    assert steps.attempted == [3, 1, 2]
    assert at_once[1] == 1


def test_a_job_that_broke_while_the_ledger_waits_for_it_starts_anew(running: Running) -> None:
    def break_once(study_id: int) -> Outcome:
        if len(steps.attempted) == 1:
            raise OSError("the database went away")
        return {}

    steps = Recording(break_once)
    engine = running(steps)
    engine.enqueue([(1, 0)])
    until(lambda: steps.attempted == [1] and engine.unfinished() == 0)
    engine.enqueue([(1, 0)])
    until(lambda: len(steps.finished) == 1)
    assert steps.attempted == [1, 1]


def test_a_worker_that_does_not_lead_starts_no_job_anew(running: Running) -> None:
    steps = Recording()
    engine = running(steps)
    engine.enqueue([(1, 0)])
    until(lambda: len(steps.finished) == 1 and engine.unfinished() == 0)
    engine.enqueue([(1, 0), (2, 0)], restart_ended=False)
    until(lambda: engine.unfinished() == 0)
    assert steps.attempted == [1, 2]


def test_the_queue_says_who_has_taken_which_job(running: Running) -> None:
    over = threading.Event()
    steps = Recording(lambda _: over.wait(20) and None)
    engine = running(steps)
    engine.enqueue([(1, 0), (2, 0)])
    until(lambda: steps.attempted == [1])
    (taken,) = engine.held()
    assert taken == "study-1-0"
    assert engine.running() == {"study-1-0"}
    over.set()
    until(lambda: engine.unfinished() == 0)
    assert engine.held() == {}
    assert engine.running() == frozenset()


def test_ended_jobs_are_forgotten_and_waiting_ones_are_not(running: Running) -> None:
    over = threading.Event()

    def hang_second(study_id: int) -> Outcome | None:
        if study_id == 2:
            over.wait(20)
        return None

    steps = Recording(hang_second)
    engine = running(steps)
    engine.enqueue([(1, 0)])
    engine.enqueue([(2, 0)])
    until(lambda: steps.attempted == [1, 2])
    now = datetime.now(UTC)
    assert engine.prune(now - timedelta(days=1)) == 0
    assert engine.prune(now + timedelta(seconds=1)) == 1
    assert engine.unfinished() == 1
    over.set()
    until(lambda: engine.unfinished() == 0)


def test_what_is_not_used_is_looked_for_seldom(running: Running) -> None:
    """By private names of DBOS: where a new version has others, ``engine`` must learn them."""
    running(Recording())
    assert _workflow_commands.background_jobs_thread.__globals__["_BACKGROUND_JOBS_INTERVAL_SEC"] == UNUSED_POLL_S
    assert "_BACKGROUND_JOBS_INTERVAL_SEC" in _workflow_commands.background_jobs_thread.__code__.co_names
    assert "_polling_interval_sec" in _queue.queue_worker_thread.__code__.co_names
    assert _dbos._get_dbos_instance()._registry.get_internal_queue()._polling_interval_sec == UNUSED_POLL_S


def test_the_queue_keeps_no_pickles(running: Running, shared: tuple[Engine, Switch, Path]) -> None:
    """Whoever can write into the queue must not be able to run code in the worker."""
    engine = running(Recording())
    engine.enqueue([(1, 0)])
    until(lambda: engine.unfinished() == 0)
    with sqlite3.connect(shared[2] / "node-jobs.db") as connection:
        rows = connection.execute("SELECT output FROM operation_outputs").fetchall()
    connection.close()
    assert ('{"n":1}',) in rows


def test_the_queue_of_a_sqlite_ledger_is_a_file_of_its_own_with_a_write_ahead_log(tmp_path: Path) -> None:
    url = queue_database_url(f"sqlite:///{tmp_path}/node.db", tmp_path)
    assert url == f"sqlite:///{tmp_path}/node-jobs.db"
    with sqlite3.connect(tmp_path / "node-jobs.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_queue_of_a_postgresql_ledger_is_in_its_database(tmp_path: Path) -> None:
    url = "postgresql+psycopg://node@db/spinenode"
    assert queue_database_url(url, tmp_path) == url
