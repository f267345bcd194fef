"""The process that grades: takes a study, reads it, grades it, spools the results, lists their deliveries.

One study at a time. A study that cannot be graded is an outcome; a fault is tried again a bounded number of times and
then waits for the operator. Nothing a study does stops the next one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import pydicom
import torch

from inference import pipeline
from inference.report import Declined, Report
from inference.weights import load_models
from node import logs, rendition, routing, study_files
from node.engine import Engine, queue_database_url
from node.ledger import Ledger, open_ledger
from node.records import ReceivedInstance, ResultObject, StudyRecord, StudyState
from node.settings import Settings
from node.spool import NoRoom, Spool, StoredFile
from node.ticks import Tick, Ticks
from sr_templates import render

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
PRUNE_EVERY_S = 3600.0
KEEP_JOBS = timedelta(days=7)
ROOM_EVERY_S = 10.0
QUEUE_AHEAD = 20
"""Studies that are put into the queue at a time; the others wait in the ledger, in the same order."""
FINISH_WITHIN_S = 5
WATCH_EVERY_S = 1.0
HUNG = 3
"""Exit status."""

Outcome = dict[str, Any]
Now = Callable[[], datetime]


class Grade(Protocol):
    """``inference.pipeline.grade`` with its models, clock and settings filled in."""

    def __call__(self, instances: Sequence[pydicom.Dataset]) -> Report | Declined: ...


def run(settings: Settings, *, stop: threading.Event, on_ready: Callable[[], None], now: Now) -> None:
    """Load the models and grade until ``stop`` is set; a study that runs then has a few seconds to end.

    Raises:
        inference.weights.WeightsError, LedgerError: it cannot work.
    """
    torch.set_num_threads(settings.inference.threads or os.cpu_count() or 1)
    with _only_worker_of(settings.node.data_dir, stop) as node_id:
        if stop.is_set():
            return
        models = load_models(settings.inference.device)
        ledger = open_ledger(settings.database_url)
        spool = Spool(settings.spool_dir, minimum_free_bytes=0)
        spool.sweep_results()
        grade = partial(
            pipeline.grade, models=models, clock=time.perf_counter, minimum_slices=settings.inference.minimum_slices
        )
        key = rendition.tracking_key(settings)
        worker = Worker(settings, ledger, spool, grade=grade, now=now, tracking_key=key)
        engine = Engine(
            worker,
            database_url=queue_database_url(settings.database_url, settings.node.data_dir),
            executor=node_id,
            incarnation=f"{os.getpid()}-{now().isoformat()}",
        )
        taken_up = engine.launch()
        if taken_up:
            logger.warning("taking up %d studies that a worker left", taken_up)
        ticks = Ticks(
            [
                Tick(name="queueing studies", every_s=LOOK_EVERY_S, run=partial(enqueue_studies, ledger, engine)),
                Tick(name="watching the study", every_s=WATCH_EVERY_S, run=partial(end_if_hung, worker, settings)),
                Tick(name="pruning jobs", every_s=PRUNE_EVERY_S, run=lambda: engine.prune(now() - KEEP_JOBS)),
            ]
        )
        ticks.start()
        on_ready()
        stop.wait()
        ticks.stop()
        engine.stop(FINISH_WITHIN_S)


def enqueue_studies(ledger: Ledger, engine: Engine) -> None:
    """See to it that there is a job for each study that waits, and for each whose job was lost while it was graded."""
    for study in (*ledger.grading_studies(), *ledger.queued_studies()[:QUEUE_AHEAD]):
        engine.enqueue(study.study_id, study.round)


def end_if_hung(worker: Worker, settings: Settings) -> None:
    """End this process when a study takes longer than any should: a thread that hangs in a decoder cannot be stopped.

    The supervisor starts another worker, which counts one more attempt at the study, or gives it up.
    """
    if worker.working_for() > timedelta(seconds=settings.inference.time_limit_s):
        logger.error("a study has taken more than %g s: the worker ends itself", settings.inference.time_limit_s)
        logging.shutdown()
        os._exit(HUNG)


@contextmanager
def _only_worker_of(data_dir: Path, stop: threading.Event) -> Iterator[str]:
    """Hold the lock that proves every other worker of this data directory dead; a dying one is waited for.

    Yields the name that all of this data directory's workers go by, made up at the first start: host names change.
    """
    with (data_dir / "worker.lock").open("a+", encoding="ascii") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stop.wait(0.1)
        lock.seek(0)
        node_id = lock.read().strip()
        if not node_id and not stop.is_set():
            node_id = secrets.token_hex(8)
            lock.write(node_id)
            lock.flush()
        yield node_id


class Worker:
    """The steps of a study's job; see ``node.engine.StudySteps``."""

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        settings: Settings,
        ledger: Ledger,
        spool: Spool,
        *,
        grade: Grade,
        now: Now,
        tracking_key: str = "",
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._grade = grade
        self._now = now
        self._tracking_key = tracking_key
        self._working_since: datetime | None = None

    def working_for(self) -> timedelta:
        """How long the present attempt has been going on; zero between two."""
        since = self._working_since
        return timedelta(0) if since is None else self._now() - since

    def attempt(self, study_id: int) -> Outcome | None:
        """Grade a study and spool what is to be sent; None when the ledger has nothing to do for it.

        Every attempt is counted in the ledger before it begins, so that a study which takes the process down with it
        is counted too.
        """
        maximum = self._settings.inference.maximum_attempts
        while True:
            study = self._ledger.take_study(study_id, maximum_attempts=maximum, now=self._now())
            if study is None:
                return None
            self._working_since = self._now()
            try:
                return self._outcome(study)
            except Exception as error:  # whatever a study does to the code, the next one must be graded
                where = logs.place(error)
                logger.exception("attempt %d of %d failed", study.attempts, maximum, extra={"study_id": study_id})
                if study.attempts >= maximum:
                    return _ended(StudyState.FAILED, f"a fault of the node: {where}, {study.attempts} times")
            finally:
                self._working_since = None

    def finish(self, study_id: int, outcome: Outcome) -> None:
        """Write the outcome down, with its results and their deliveries, in one transaction."""
        state, reason, now = StudyState(outcome["state"]), str(outcome["reason"]), self._now()
        results = tuple(_result_from_json(item) for item in outcome["results"])
        archives = routing.destinations(results, self._settings.archives)
        if state is StudyState.GRADED:
            self._ledger.finish_graded(study_id, results=results, archives=archives, reason=reason, now=now)
        elif state is StudyState.DECLINED:
            self._ledger.finish_declined(study_id, results=results, archives=archives, reason=reason, now=now)
        elif state is StudyState.UNCHANGED:
            self._ledger.finish_unchanged(study_id, reason=reason, now=now)
        else:
            self._ledger.finish_failed(study_id, reason=reason, now=now)
        logger.info("%s: %s", state.value, reason, extra={"study_id": study_id})

    def _outcome(self, study: StudyRecord) -> Outcome:
        if study.digest in self._ledger.graded_digest(study.study_instance_uid):
            return _ended(StudyState.UNCHANGED, "the MR images are those of an earlier generation, whose results stand")
        images = self._ledger.instances(study.study_id)
        files = study_files.read(self._spool.absolute(image.path) for image in images)
        lost = self._unreadable_mr(images, files)
        if lost:
            return _ended(StudyState.DECLINED, f"{lost} of the study's MR images cannot be read")
        graded = self._grade(files.instances)
        if isinstance(graded, Declined):
            return self._declined(graded, files.instances, study)
        wanted = rendition.wanted(self._settings.results)
        rendered = render.render(graded, files.instances, self._run(study), wanted)
        return _ended(StudyState.GRADED, _summary(graded), self._spool_results(rendered))

    def _unreadable_mr(self, images: Sequence[ReceivedInstance], files: study_files.StudyFiles) -> int:
        """How many MR images could not be read: without them a slice may be missing where nobody would notice."""
        unreadable = {file.path for file in files.unreadable}
        return sum(image.modality == "MR" and self._spool.absolute(image.path) in unreadable for image in images)

    def _declined(self, declined: Declined, source: Sequence[pydicom.Dataset], study: StudyRecord) -> Outcome:
        rendered: Sequence[render.Rendered] = ()
        if self._settings.results.report_declined and source:
            rendered = render.render_declined(declined, source, self._run(study), self._settings.results.language)
        return _ended(StudyState.DECLINED, declined.reason, self._spool_results(rendered))

    def _run(self, study: StudyRecord) -> render.Run:
        earlier = self._ledger.results(study.study_instance_uid)
        return rendition.run_of(
            study,
            self._settings.results,
            tracking_key=self._tracking_key,
            predecessors=rendition.predecessors(earlier, study, self._spool),
        )

    def _spool_results(self, rendered: Sequence[render.Rendered]) -> tuple[ResultObject, ...]:
        results = []
        for item in rendered:
            encoded = BytesIO()
            item.dataset.save_as(encoded, enforce_file_format=True)
            stored = self._store(encoded.getvalue())
            results.append(
                ResultObject(
                    sop_instance_uid=str(item.dataset.SOPInstanceUID),
                    sop_class_uid=str(item.dataset.SOPClassUID),
                    kind=item.kind.value,
                    path=stored.path,
                    sha256=stored.sha256,
                )
            )
        return tuple(results)

    def _store(self, content: bytes) -> StoredFile:
        """Waits for room rather than fail: a full disk says nothing about the study."""
        while True:
            try:
                return self._spool.store_result(content)
            except NoRoom as full:
                logger.error("results cannot be stored, waiting for room: %s", full)
                self._working_since = self._now()
                time.sleep(ROOM_EVERY_S)


def _ended(state: StudyState, reason: str, results: Sequence[ResultObject] = ()) -> Outcome:
    return {"state": state.value, "reason": reason, "results": [_result_to_json(result) for result in results]}


def _result_to_json(result: ResultObject) -> dict[str, str]:
    return {name: str(getattr(result, name)) for name in ResultObject.__slots__}


def _result_from_json(item: dict[str, str]) -> ResultObject:
    return ResultObject(**(item | {"path": Path(item["path"])}))  # type: ignore[arg-type]


def _summary(report: Report) -> str:
    levels = [disc.level.value for disc in report.discs]
    span = f"{levels[0]} to {levels[-1]}" if levels else "none"
    remarks = f", {len(report.quality)} remark(s) on quality" if report.quality else ""
    return f"{len(levels)} discs ({span}) in {report.timing_s.get('total', 0.0):.1f} s{remarks}"
