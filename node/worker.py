"""The process that grades: takes studies from the queue, one at a time, until it is told to stop.

Several such processes may share a PostgreSQL ledger; see ``node/shift.py``.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch

from inference import pipeline
from inference.weights import load_models
from node import lifesigns, rendition
from node.engine import Engine, queue_database_url
from node.ledger import LedgerError, open_ledger
from node.lone import wait_for_lock
from node.settings import Settings
from node.shift import Shift
from node.spool import Spool
from node.study_job import Now, StudyJob
from node.ticks import Tick, Ticks

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
PRUNE_EVERY_S = 3600.0
KEEP_JOBS = timedelta(days=7)
BEATS_UNTIL_DEAD = 6
"""So many beats in a row are missing when a worker is declared dead."""
FINISH_WITHIN_S = 5
WATCH_EVERY_S = 1.0
BACKSTOP_S = 30.0
"""After the time limit: for the case that the thread that watches cannot run either."""
HUNG = 3
"""Exit status."""
LIKELY_VICTIM = b"500"
"""oom_score_adj, see proc(5): where memory runs out, the worker goes, not the receiver or the database."""


def run(settings: Settings, *, slot: int, stop: threading.Event, on_ready: Callable[[], None], now: Now) -> None:
    """Load the models and grade until ``stop`` is set; a study that runs then has a few seconds to end.

    Args:
        slot: from 1; which of this data directory's workers it is.

    Raises:
        inference.weights.WeightsError, LedgerError: it cannot work.
    """
    torch.set_num_threads(settings.inference.threads or max(1, (os.cpu_count() or 1) // settings.node.workers))
    _volunteer_for_the_oom_killer()
    with _only_worker_of(settings.node.data_dir, slot, stop) as place:
        if stop.is_set():
            return
        models = load_models(settings.inference.device)
        identity = asdict(models.identity)
        lifesigns.tell("model", lambda: identity)
        ledger = open_ledger(settings.database_url)
        spool = Spool(settings.spool_dir, minimum_free_bytes=0)
        if settings.database_url.startswith("sqlite"):  # else another worker may be writing there
            spool.sweep_results()
        grade = partial(
            pipeline.grade,
            models=models,
            clock=time.perf_counter,
            minimum_slices=settings.inference.minimum_slices,
            withhold_levels_below=settings.inference.withhold_levels_below,
            unsure_below=settings.inference.unsure_below,
            unsure_pfirrmann_below=settings.inference.unsure_pfirrmann_below,
        )
        job = StudyJob(settings, ledger, spool, grade=grade, now=now, tracking_key=rendition.tracking_key(settings))
        # a name that lives twice would let a new process and a dying one run the same job
        name = f"{place}:{os.getpid()}-{now().isoformat()}"
        url = queue_database_url(settings.database_url, settings.node.data_dir)
        engine = Engine(job, database_url=url, worker=name)
        shift = Shift(
            ledger,
            engine,
            name=name,
            dead_after_s=settings.node.worker_dead_after_s,
            head_start_s=settings.delivery.priority_head_start_s,
        )
        shift.enter(forebears=f"{place}:")
        ticks = Ticks(_ticks(settings, shift, engine, job, now))
        end_if_hung(job, settings)  # the timer runs before a study does: the first one may stop every thread
        ticks.start()
        shift.launch()
        on_ready()
        stop.wait()
        ticks.stop()
        engine.stop(FINISH_WITHIN_S)
        _leave_in_order(job, shift)


def _ticks(settings: Settings, shift: Shift, engine: Engine, job: StudyJob, now: Now) -> list[Tick]:
    beat_every_s = settings.node.worker_dead_after_s / BEATS_UNTIL_DEAD
    return [
        Tick(name="queueing studies", every_s=LOOK_EVERY_S, run=shift.enqueue),
        Tick(name="beating", every_s=beat_every_s, run=shift.beat),
        Tick(name="watching the study", every_s=WATCH_EVERY_S, run=partial(end_if_hung, job, settings)),
        Tick(name="pruning jobs", every_s=PRUNE_EVERY_S, run=lambda: engine.prune(now() - KEEP_JOBS)),
    ]


def _leave_in_order(job: StudyJob, shift: Shift) -> None:
    try:
        job.give_back()
        shift.end()
    except LedgerError as error:  # found out at the next start, as after a crash
        logger.warning("leaving without a word to the ledger: %s", error)


def end_if_hung(job: StudyJob, settings: Settings) -> None:
    """End this process when a study takes longer than any should: a thread that hangs in a decoder cannot be stopped.

    The supervisor starts another worker, which counts one more attempt at the study, or gives it up. A study that
    holds Python's interpreter lock stops this check too: then a timer outside of Python ends the process, unless this
    check is back in time to set it anew.
    """
    limit_s = settings.inference.time_limit_s
    faulthandler.dump_traceback_later(limit_s + BACKSTOP_S, exit=True)
    if job.working_for() > timedelta(seconds=limit_s):
        logger.error("a study has taken more than %g s: the worker ends itself", limit_s)
        logging.shutdown()
        os._exit(HUNG)


def _volunteer_for_the_oom_killer() -> None:
    score = Path("/proc/self/oom_score_adj")
    try:
        score.write_bytes(LIKELY_VICTIM)
    except OSError as error:  # not Linux, or it may not: the kernel then chooses for itself
        logger.info("the kernel cannot be told which process matters least: %s", error.strerror)


@contextmanager
def _only_worker_of(data_dir: Path, slot: int, stop: threading.Event) -> Iterator[str]:
    """Hold the lock that proves every earlier worker of this place dead; a dying one is waited for.

    Yields the name that all workers of this place go by, made up at the first start: host names change.
    """
    name = "worker.lock" if slot == 1 else f"worker-{slot}.lock"
    with (data_dir / name).open("a+", encoding="ascii") as lock:
        held = wait_for_lock(lock, stop)
        lock.seek(0)
        place = lock.read().strip()
        if held and not place:
            place = secrets.token_hex(8)
            lock.write(place)
            lock.flush()
        yield place
