"""Ticks come round again whatever they do, and never twice at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from node.ticks import Tick, Ticks


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_tick_that_fails_comes_round_again_and_its_outage_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []

    def fail_three_times() -> None:
        runs.append(1)
        if len(runs) <= 3:
            raise OSError("the database is away")

    ticks = Ticks([Tick(name="closing studies", every_s=0.05, run=fail_three_times)])
    with caplog.at_level(logging.INFO, "node"):
        ticks.start()
        until(lambda: len(runs) >= 6)
        ticks.stop()
    ours = [record.getMessage() for record in caplog.records if record.name == "node.ticks"]
    assert ours == ["closing studies failed and is tried again and again", "closing studies works again"]


def test_a_slow_tick_never_runs_twice_at_once_and_delays_no_other() -> None:
    slow, quick, release = [0], [0], threading.Event()

    def hang() -> None:
        slow[0] += 1
        release.wait(10)

    def count() -> None:
        quick[0] += 1

    ticks = Ticks([Tick(name="slow", every_s=0.05, run=hang), Tick(name="quick", every_s=0.05, run=count)])
    ticks.start()
    until(lambda: quick[0] >= 5)
    assert slow[0] == 1
    ticks.stop()
    release.set()


def test_no_tick_begins_after_the_stop() -> None:
    runs: list[int] = []
    ticks = Ticks([Tick(name="tick", every_s=0.05, run=lambda: runs.append(1))])
    ticks.start()
    until(lambda: len(runs) >= 1)
    ticks.stop()
    seen = len(runs)
    time.sleep(0.2)
    assert len(runs) <= seen + 1  # one may have been under way
