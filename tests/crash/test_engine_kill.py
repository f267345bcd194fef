"""Jobs outlive the process that ran them, and the queue itself may be lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.node.test_engine import Recording, launched, until

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

DIES_IN = """
import os, sys, time
from pathlib import Path
from node.engine import Engine, queue_database_url

class Steps:
    def attempt(self, study_id):
        if {step!r} == "attempt":
            os.kill(os.getpid(), 9)
        return {{"made": study_id}}
    def finish(self, study_id, outcome):
        os.kill(os.getpid(), 9)

folder = Path({folder!r})
engine = Engine(Steps(), database_url=queue_database_url("sqlite:///x", folder), worker="dead")
engine.launch()
engine.enqueue([(5, 0)])
time.sleep(30)
"""


def die(folder: Path, step: str) -> None:
    """A worker that is killed with SIGKILL in the middle of a step of study 5."""
    code = DIES_IN.format(step=step, folder=str(folder))
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=60, check=False).returncode == -9


def test_a_study_whose_worker_was_killed_while_grading_is_done_again(tmp_path: Path) -> None:
    die(tmp_path, "attempt")
    steps = Recording()
    with launched(tmp_path, steps) as engine:
        assert engine.held()["study-5-0"] == "dead"
        engine.put_back(["study-5-0"])
        until(lambda: steps.finished == [(5, {"n": 5})])


def test_a_study_whose_worker_was_killed_while_finishing_is_not_graded_again(tmp_path: Path) -> None:
    die(tmp_path, "finish")
    steps = Recording()
    with launched(tmp_path, steps) as engine:
        engine.put_back(engine.held())
        until(lambda: steps.finished == [(5, {"made": 5})])
    assert steps.attempted == []


def test_the_job_of_another_worker_is_left_to_it(tmp_path: Path) -> None:
    die(tmp_path, "attempt")
    steps = Recording()
    with launched(tmp_path, steps) as engine:
        engine.enqueue([(5, 0), (6, 0)])
        until(lambda: steps.finished == [(6, {"n": 6})])
        assert engine.held()["study-5-0"] == "dead"


def test_losing_the_queue_loses_nothing_that_the_ledger_still_knows(tmp_path: Path) -> None:
    with launched(tmp_path, Recording()) as engine:
        engine.enqueue([(1, 0)])
        until(lambda: engine.unfinished() == 0)
    for file in tmp_path.glob("node-jobs.db*"):
        file.unlink()
    steps = Recording()
    with launched(tmp_path, steps) as engine:
        engine.enqueue([(1, 0)])
        until(lambda: len(steps.finished) == 1)
