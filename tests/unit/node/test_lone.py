"""One process with a task, and one dispatcher on a spool: the second stands by and takes over."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node import dispatcher, quiet_libraries
from node.ledger import open_ledger
from node.lone import wait_for_lock
from node.settings import Settings
from tests.unit.node.received_instances import image

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(99)
"""


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    path, waiting = tmp_path / "task.lock", threading.Event()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with path.open("a") as lock:
            threading.Timer(0.5, holder.kill).start()
            assert wait_for_lock(lock, threading.Event(), waiting.set)
    assert waiting.is_set()


def test_who_is_told_to_stop_waits_no_longer(tmp_path: Path) -> None:
    stop = threading.Event()
    with (tmp_path / "task.lock").open("a") as first, (tmp_path / "task.lock").open("a") as second:
        assert wait_for_lock(first, stop)
        threading.Timer(0.2, stop.set).start()
        assert not wait_for_lock(second, stop)


@contextmanager
def dispatching(settings: Settings) -> Iterator[threading.Event]:
    stop, ready = threading.Event(), threading.Event()
    work = threading.Thread(
        target=dispatcher.run,
        args=(settings,),
        kwargs={"stop": stop, "on_ready": ready.set, "now": lambda: datetime.now(UTC)},
        daemon=True,
    )
    work.start()
    assert ready.wait(20)
    try:
        yield stop
    finally:
        stop.set()
        work.join(20)
        assert not work.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_second_dispatcher_stands_by_until_the_first_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet_libraries, "prepare", lambda: None)  # it changes the whole process, here pytest's
    settings = Settings.model_validate({"node": {"data_dir": tmp_path}, "assembly": {"quiet_s": 0.1}})
    ledger = open_ledger(settings.database_url)
    with dispatching(settings) as first, dispatching(settings):
        assert caplog.messages == ["another dispatcher works on this spool: standing by until it ends"]
        first.set()
        ledger.record_instance(image(1))
        until(lambda: not ledger.open_studies())
    ledger.close()
