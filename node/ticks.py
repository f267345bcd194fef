"""Things that are looked at again and again. APScheduler with its memory job store: no tick carries any state.

Whatever is to be done stands in the ledger; a tick reads it there, does it, and may be missed, repeated or run after a
crash without harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """Something to look at every ``every_s`` seconds; it never runs twice at once, and has a thread of its own."""

    name: str
    every_s: float
    run: Callable[[], object]


class Ticks:
    """Runs ticks in the background until stopped. One that fails comes round again.

    Its first failure is logged, and that it works again: an outage of a night is two lines, not two each second.
    """

    def __init__(self, ticks: Sequence[Tick]) -> None:
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(max(1, len(ticks)))},
            # a tick that came late is one tick, however many were missed
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        self._failing: set[str] = set()
        self._scheduler.add_listener(self._note, EVENT_JOB_ERROR | EVENT_JOB_EXECUTED)
        for tick in ticks:
            self._scheduler.add_job(tick.run, "interval", seconds=tick.every_s, id=tick.name)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        """No tick begins after this; one that runs is not waited for."""
        self._scheduler.shutdown(wait=False)

    def _note(self, event: JobExecutionEvent) -> None:
        name = event.job_id
        if event.exception is None and name in self._failing:
            self._failing.discard(name)
            logger.info("%s works again", name)
        elif event.exception is not None and name not in self._failing:
            self._failing.add(name)
            logger.error("%s failed and is tried again and again", name, exc_info=event.exception)
