"""The durable queue of grading jobs. The only module that knows DBOS.

The ledger says what is to be done; the queue sees to it that one study at a time is worked on and that a job outlives
the process that ran it. Everything in the queue can be built again from the ledger: it holds study numbers and short
outcomes, no images and no identifiers, and losing it loses nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

QUEUE = "grading"
APPLICATION = "spinenode"
APPLICATION_VERSION = "1"
"""Of the order of steps in the workflow below. DBOS only takes up jobs of its own version: raised when that changes,
never with a release, so that an upgrade finds the jobs it left."""
POLL_S = 0.2
"""At one study a poll, the queue never bounds a worker that needs a second for each."""
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
    """One per process, in the worker. ``executor`` names the data directory: jobs under it are this node's."""

    def __init__(self, steps: StudySteps, *, database_url: str, executor: str, incarnation: str) -> None:
        self._executor = executor
        configuration: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": database_url,
            "application_version": APPLICATION_VERSION,
            # a name that lives twice would let a new process and a dying one run the same job
            "executor_id": f"{executor}:{incarnation}",
            "log_level": "WARNING",
            "serializer": DBOSPortableJSONSerializer(),
            "max_executor_threads": 4,
        }
        DBOS(config=configuration)
        self._grade_study = _register(steps)

    def launch(self) -> int:
        """Start, and take up at once what dead processes of this data directory left; returns how many jobs that is.

        The caller holds the data directory's lock, which proves them dead.
        """
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=POLL_S, on_conflict="always_update")
        left = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        orphans = [job.workflow_id for job in left if (job.executor_id or "").startswith(f"{self._executor}:")]
        if orphans:
            # without the name of the queue they would run beside it, several at a time
            DBOS.resume_workflows(orphans, queue_name=QUEUE)
        return len(orphans)

    def enqueue(self, study_id: int, round_number: int) -> None:
        """See to it that there is a job for this round of this study; called again and again, it changes nothing.

        A job that ended although the ledger still waits for it (its process lost the database, for one) starts anew.
        """
        workflow_id = f"study-{study_id}-{round_number}"
        status = DBOS.get_workflow_status(workflow_id)
        if status is not None and status.status in UNFINISHED:
            return
        if status is not None:
            DBOS.delete_workflow(workflow_id)
        with SetWorkflowID(workflow_id):
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


def _register(steps: StudySteps) -> Callable[[int], None]:
    def attempt(study_id: int) -> Outcome | None:
        return steps.attempt(study_id)

    def finish(study_id: int, outcome: Outcome) -> None:
        steps.finish(study_id, outcome)

    attempt_step = DBOS.step(name="attempt")(attempt)
    finish_step = DBOS.step(name="finish")(finish)

    @DBOS.workflow(name="grade_study")
    def grade_study(study_id: int) -> None:
        outcome = attempt_step(study_id)
        if outcome is not None:
            finish_step(study_id, outcome)

    return grade_study
