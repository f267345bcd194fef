"""The durable queue of grading jobs. The only module that knows DBOS.

The ledger says what is to be done; the queue sees to it that each worker works on one study at a time and that a job
outlives the process that ran it. Everything in the queue can be built again from the ledger: it holds study numbers and
short outcomes, no images and no identifiers, and losing it loses nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from dbos import (
    DBOS,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    SetEnqueueOptions,
    SetWorkflowID,
    _workflow_commands,
)

from node.precedence import LAST_IN_LINE

QUEUE = "grading"
APPLICATION = "spinenode"
APPLICATION_VERSION = "1"
"""Of the order of steps in the workflow below. DBOS only takes up jobs of its own version: raised when that changes,
never with a release, so that an upgrade finds the jobs it left."""
BUSY_POLL_S = 0.1
"""While studies wait: the pause between two studies of a worker is half of it."""
IDLE_POLL_S = 2.0
"""While none does: a queue that is looked into ten times a second costs a twentieth of a core for nothing."""
UNUSED_POLL_S = 60.0
"""For what DBOS offers and this program does not use."""
UNFINISHED = ("ENQUEUED", "PENDING", "DELAYED")
FINISHED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

Outcome = dict[str, Any]
"""What a step hands to the next: JSON, small."""


class StudySteps(Protocol):
    """The work itself. Each step may run again after a crash and must then come to the same."""

    def attempt(self, study_id: int) -> Outcome | None:
        """Grade and spool the results; None when the study needs nothing more."""

    def finish(self, study_id: int, outcome: Outcome) -> None:
        """Write the outcome and its deliveries into the ledger, in one transaction."""


class Engine:
    """One per process, in the worker. ``worker`` is this process's name: no other process, dead or alive, has it."""

    def __init__(self, steps: StudySteps, *, database_url: str, worker: str) -> None:
        self._worker = worker
        self._running: set[str] = set()
        self._poll_s = IDLE_POLL_S
        configuration: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": database_url,
            "application_version": APPLICATION_VERSION,
            "executor_id": worker,
            "log_level": "WARNING",
            "serializer": DBOSPortableJSONSerializer(),
            "max_executor_threads": 4,
            "scheduler_polling_interval_sec": UNUSED_POLL_S,
        }
        _look_seldom_for_what_we_do_not_use(DBOS(config=configuration))
        self._grade_study = _register(steps, self._running)

    def launch(self) -> None:
        """Start working on what is in the queue."""
        DBOS.launch()
        self._queue = DBOS.register_queue(
            QUEUE, worker_concurrency=1, polling_interval_sec=self._poll_s, on_conflict="always_update"
        )

    def held(self) -> dict[str, str]:
        """The jobs that a worker has taken, each with the worker's name; the worker may be dead."""
        taken = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        return {job.workflow_id: job.executor_id or "" for job in taken}

    def running(self) -> frozenset[str]:
        """The jobs that this process works on."""
        return frozenset(self._running)

    def put_back(self, jobs: Iterable[str]) -> None:
        """Have jobs that were taken done again, from the step that was not finished. One that has ended stays so.

        For the worker alone that leads: two at once could take away from a third what it has just begun.
        """
        # without the name of the queue they would run beside it, several at a time
        DBOS.resume_workflows(list(jobs), queue_name=QUEUE)

    def enqueue(
        self, jobs: Iterable[tuple[int, int]], *, restart_ended: bool = True, places: Mapping[int, int] | None = None
    ) -> None:
        """See to it that there is a job for each (study, round); called again and again, it changes nothing.

        Args:
            jobs: those that there should be.
            places: for a study its number in line (``precedence``); the smallest is worked on first.
            restart_ended: a job that ended although the ledger still waits for it (its process lost the database, for
                one) starts anew. For the worker alone that leads: a second one could do away with the new job.
        """
        wanted = {f"study-{study_id}-{round_number}": study_id for study_id, round_number in jobs}
        self._set_pace(BUSY_POLL_S if wanted else IDLE_POLL_S)
        if not wanted:
            return
        known = DBOS.list_workflows(workflow_ids=list(wanted), load_input=False, load_output=False)
        state_of = {job.workflow_id: job.status for job in known}
        for workflow_id, study_id in wanted.items():
            state = state_of.get(workflow_id)
            if state in UNFINISHED or workflow_id in self._running:
                continue
            if state is not None:
                if not restart_ended:
                    continue
                DBOS.delete_workflow(workflow_id)
            place = (places or {}).get(study_id, LAST_IN_LINE)
            with SetWorkflowID(workflow_id), SetEnqueueOptions(priority=place):
                DBOS.enqueue_workflow(QUEUE, self._grade_study, study_id)

    def prune(self, before: datetime) -> int:
        """Forget jobs that ended before a moment (aware); returns how many."""
        ended = DBOS.list_workflows(
            status=list(FINISHED), end_time=before.isoformat(), limit=1000, load_input=False, load_output=False
        )
        if ended:
            DBOS.delete_workflows([job.workflow_id for job in ended])
        return len(ended)

    def unfinished(self) -> int:
        """How many jobs wait or run."""
        return len(DBOS.list_workflows(status=list(UNFINISHED), load_input=False, load_output=False))

    def stop(self, within_s: int) -> None:
        """Take no new job, and wait for the running one; one that takes longer is taken up at the next start."""
        DBOS.destroy(workflow_completion_timeout_sec=within_s)

    def _set_pace(self, poll_s: float) -> None:
        if poll_s != self._poll_s:
            self._queue.set_polling_interval_sec(poll_s)
            self._poll_s = poll_s


def queue_database_url(database_url: str, data_dir: Path) -> str:
    """Where the queue is kept: in the ledger's own PostgreSQL database, or in a file beside the SQLite ledger.

    Not in the ledger's SQLite file: SQLite has one writer at a time for a whole file, and a queue that polls would make
    the receiver wait with its commits, of which every image needs one.
    """
    if not database_url.startswith("sqlite"):
        return database_url
    path = (data_dir / "node-jobs.db").absolute()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # stays with the file; DBOS would leave the slow default
    connection.close()
    return f"sqlite:///{path}"


def _look_seldom_for_what_we_do_not_use(dbos: DBOS) -> None:
    """Delayed jobs, jobs with a deadline, and DBOS's own queue: each looked for once a second, with no key to set it.

    Together they cost an idle node as much as all of the rest. The names are DBOS's private ones; a test sees to it
    that they still are.
    """
    _workflow_commands._BACKGROUND_JOBS_INTERVAL_SEC = UNUSED_POLL_S
    dbos._registry.get_internal_queue()._polling_interval_sec = UNUSED_POLL_S


def _register(steps: StudySteps, running: set[str]) -> Callable[[int], None]:
    def attempt(study_id: int) -> Outcome | None:
        return steps.attempt(study_id)

    def finish(study_id: int, outcome: Outcome) -> None:
        steps.finish(study_id, outcome)

    attempt_step = DBOS.step(name="attempt")(attempt)
    finish_step = DBOS.step(name="finish")(finish)

    @DBOS.workflow(name="grade_study")
    def grade_study(study_id: int) -> None:
        workflow_id = str(DBOS.workflow_id)
        running.add(workflow_id)
        try:
            outcome = attempt_step(study_id)
            if outcome is not None:
                finish_step(study_id, outcome)
        finally:
            running.discard(workflow_id)

    return grade_study
