"""The steps of a study's job: read it, grade it, spool the results; then write down what came of it.

A study that cannot be graded is an outcome; a fault is tried again a bounded number of times and then waits for the
operator. Nothing a study does stops the next one, and a ledger or a disk that is away is waited for.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pydicom

from inference.report import Declined, Report
from node import logs, patients, rendition, routing, study_files, withdrawal, words
from node.ledger import Ledger, LedgerUnavailable, WrongState
from node.records import ReceivedInstance, ResultObject, StudyRecord, StudyState
from node.settings import Settings
from node.spool import NoRoom, Spool, StoredFile
from sr_templates import render

logger = logging.getLogger(__name__)

AWAY_EVERY_S = 2.0
"""Between two tries of a ledger that is away, or of a disk that is full."""
OUT_OF_MEMORY = 5
"""Exit status."""

Outcome = dict[str, Any]
Now = Callable[[], datetime]
_T = TypeVar("_T")


class Grade(Protocol):
    """``inference.pipeline.grade`` with its models, clock and settings filled in."""

    def __call__(self, instances: Sequence[pydicom.Dataset]) -> Report | Declined: ...


class StudyJob:
    """See ``node.engine.StudySteps``."""

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        settings: Settings,
        ledger: Ledger,
        spool: Spool,
        *,
        grade: Grade,
        now: Now,
        tracking_key: str = "",
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        """``leave`` ends the process at once, with an exit status."""
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._grade = grade
        self._now = now
        self._tracking_key = tracking_key
        self._leave = leave
        self._exhausted = False
        self._working_since: datetime | None = None
        self._taken: StudyRecord | None = None
        self._steps: list[tuple[str, str]] = []

    def working_for(self) -> timedelta:
        """How long the present attempt has been going on; zero between two, and while it waits for ledger or disk."""
        since = self._working_since
        return timedelta(0) if since is None else self._now() - since

    def give_back(self) -> None:
        """Uncount the attempt that is going on: the node stops, and that is no fault of the study's."""
        taken = self._taken
        if taken is not None:
            self._ledger.give_back_study(taken.study_id, turn=_turn(taken), now=self._now())

    def attempt(self, study_id: int) -> Outcome | None:
        """Grade a study and spool what is to be sent; None when the ledger has nothing to do for it.

        Every attempt is counted in the ledger before it begins, so that a study which takes the process down with it
        is counted too.
        """
        maximum = self._settings.inference.maximum_attempts
        while True:
            study = self._when_available(
                lambda: self._ledger.take_study(study_id, maximum_attempts=maximum, now=self._now())
            )
            if study is None:
                return None
            self._taken, self._working_since = study, self._now()
            self._steps = []
            try:
                return self._outcome(study) | {"turn": list(_turn(study)), "steps": self._steps}
            except Exception as error:  # whatever a study does to the code, the next one must be graded
                where = logs.place(error)
                logger.exception("attempt %d of %d failed", study.attempts, maximum, extra={"study_id": study_id})
                self._exhausted = _is_out_of_memory(error)
                if study.attempts >= maximum:
                    what = "out of memory" if self._exhausted else "a fault of the node"
                    reason = f"{what}: {where}, {study.attempts} times"
                    return _ended(StudyState.FAILED, reason) | {"turn": list(_turn(study))}
                self._leave_if_exhausted()
            finally:
                self._taken = self._working_since = None

    def finish(self, study_id: int, outcome: Outcome) -> None:
        """Write the outcome down, with its results and their deliveries, in one transaction.

        A result that comes too late, for another worker has taken the study since, is thrown away.
        """
        try:
            self._when_available(lambda: self._write_down(study_id, outcome))
        except WrongState as late:
            logger.warning("a result is thrown away: %s", late, extra={"study_id": study_id})
        else:
            logger.info("%s: %s", outcome["state"], outcome["reason"], extra={"study_id": study_id})
        self._leave_if_exhausted()

    def _leave_if_exhausted(self) -> None:
        """What else the process did when its memory ran out is unknown: a fresh one goes on."""
        if self._exhausted:
            logger.error("out of memory: the worker ends itself")
            self._leave(OUT_OF_MEMORY)

    def _write_down(self, study_id: int, outcome: Outcome) -> None:
        state, reason, now = StudyState(outcome["state"]), str(outcome["reason"]), self._now()
        results = tuple(_result_from_json(item) for item in outcome["results"])
        archives = routing.destinations(results, self._settings.archives, outcome.get("addressed"))
        # an outcome that a version before this one left in the queue names no turn
        turn = tuple(outcome["turn"]) if "turn" in outcome else None
        ledger = self._ledger
        if state is StudyState.GRADED:
            ledger.finish_graded(study_id, results=results, archives=archives, reason=reason, turn=turn, now=now)
        elif state is StudyState.DECLINED:
            ledger.finish_declined(study_id, results=results, archives=archives, reason=reason, turn=turn, now=now)
        elif state is StudyState.UNCHANGED:
            ledger.finish_unchanged(study_id, reason=reason, turn=turn, now=now)
        else:
            ledger.finish_failed(study_id, reason=reason, turn=turn, now=now)
        ledger.timelines.note_steps(
            study_id, [(step, datetime.fromisoformat(at)) for step, at in outcome.get("steps", ())]
        )

    def _done(self, step: str) -> None:
        """Note when a step of this attempt was done: read, graded, rendered, stored."""
        self._steps.append((step, self._now().isoformat()))

    def _outcome(self, study: StudyRecord) -> Outcome:
        graded_before = self._when_available(lambda: self._ledger.graded_digest(study.study_instance_uid))
        if study.digest in graded_before:
            return _ended(StudyState.UNCHANGED, "what is graded is that of an earlier generation, whose results stand")
        purged, since = self._when_available(lambda: self._ledger.retention.purged_images(study.study_instance_uid))
        if purged and since is not None:
            return _ended(StudyState.DECLINED, words.images_purged(purged, since))
        images = self._when_available(lambda: self._ledger.instances(study.study_id))
        files = study_files.read(self._spool.absolute(image.path) for image in images)
        lost = self._unreadable_mr(images, files)
        if lost:
            said = f"{len(lost)} of the study's MR images cannot be read ({lost[0].reason})"
            return _ended(StudyState.DECLINED, said)
        if patients.are_several(files.instances):  # nor is a report made: it would be filed under one of them
            return _ended(StudyState.DECLINED, patients.SEVERAL)
        self._done("read")
        graded = self._grade(files.instances)
        self._done("graded")
        if isinstance(graded, Declined):
            return self._declined(graded, files.instances, study)
        wanted = rendition.wanted(self._settings.results)
        run = self._run(study)
        notes = self._rejections(graded, files.instances, study, run)
        rendered = (*render.render(graded, files.instances, run, wanted), *(note for note, _ in notes))
        addressed = {str(note.dataset.SOPInstanceUID): list(archives) for note, archives in notes}
        return _ended(StudyState.GRADED, _summary(graded), self._spool_results(rendered)) | {"addressed": addressed}

    def _rejections(
        self, graded: Report, source: Sequence[pydicom.Dataset], study: StudyRecord, run: render.Run
    ) -> list[tuple[render.Rendered, tuple[str, ...]]]:
        """Notes that withdraw what the archives hold of the study, each with the archives that it is for."""
        if withdrawal.KIND not in self._settings.results.outputs:
            return []
        lives, made = self._when_available(
            lambda: (
                self._ledger.timelines.of_study(study.study_instance_uid),
                self._ledger.results(study.study_instance_uid),
            )
        )
        by_uid = {item.sop_instance_uid: item for _, item in made}
        notes: list[tuple[render.Rendered, tuple[str, ...]]] = []
        for uids, archives in withdrawal.superseded(lives, study.study_id, self._settings.archives).items():
            named = rendition.references((by_uid[uid] for uid in uids), self._spool)
            if named:
                notes.append((render.render_rejection(graded, source, run, named, len(notes) + 1), archives))
        return notes

    def _unreadable_mr(
        self, images: Sequence[ReceivedInstance], files: study_files.StudyFiles
    ) -> list[study_files.UnreadableFile]:
        """The MR images that could not be read: without them a slice may be missing where nobody would notice."""
        mr = {self._spool.absolute(image.path) for image in images if image.modality == "MR"}
        return [file for file in files.unreadable if file.path in mr]

    def _declined(self, declined: Declined, source: Sequence[pydicom.Dataset], study: StudyRecord) -> Outcome:
        rendered: Sequence[render.Rendered] = ()
        if self._settings.results.report_declined and source:
            rendered = render.render_declined(declined, source, self._run(study), self._settings.results.language)
        return _ended(StudyState.DECLINED, declined.reason, self._spool_results(rendered))

    def _run(self, study: StudyRecord) -> render.Run:
        earlier = self._when_available(lambda: self._ledger.results(study.study_instance_uid))
        return rendition.run_of(
            study,
            self._settings.results,
            earlier,
            self._spool,
            tracking_key=self._tracking_key,
        )

    def _spool_results(self, rendered: Sequence[render.Rendered]) -> tuple[ResultObject, ...]:
        encoded = tuple(render.files(rendered))
        if rendered:
            self._done("rendered")
        results = []
        for item, content in zip(rendered, encoded, strict=True):
            stored = self._store(content)
            results.append(
                ResultObject(
                    sop_instance_uid=str(item.dataset.SOPInstanceUID),
                    sop_class_uid=str(item.dataset.SOPClassUID),
                    kind=item.kind.value,
                    path=stored.path,
                    sha256=stored.sha256,
                )
            )
        if results:
            self._done("stored")
        return tuple(results)

    def _store(self, content: bytes) -> StoredFile:
        """Waits for room rather than fail: a full disk says nothing about the study."""
        while True:
            try:
                return self._spool.store_result(content)
            except NoRoom as full:
                logger.error("results cannot be stored, waiting for room: %s", full)
                self._rest()

    def _when_available(self, ask: Callable[[], _T]) -> _T:
        """Waits for the ledger rather than fail: a database that restarts says nothing about the study."""
        told = False
        while True:
            try:
                return ask()
            except LedgerUnavailable as away:
                if not told:
                    logger.error("waiting for the ledger: %s", away)
                told = True
                self._rest()

    def _rest(self) -> None:
        """A pause that the study's time limit does not count."""
        time.sleep(AWAY_EVERY_S)
        if self._working_since is not None:
            self._working_since = self._now()


def _is_out_of_memory(error: Exception) -> bool:
    """Python and NumPy raise MemoryError; PyTorch and ITK a RuntimeError that says so."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate" in str(error))


def _turn(study: StudyRecord) -> tuple[int, int]:
    """What tells one taking of a study from every other."""
    return study.round, study.attempts


def _ended(state: StudyState, reason: str, results: Sequence[ResultObject] = ()) -> Outcome:
    return {"state": state.value, "reason": reason, "results": [_result_to_json(result) for result in results]}


def _result_to_json(result: ResultObject) -> dict[str, str]:
    return {name: str(getattr(result, name)) for name in ResultObject.__slots__}


def _result_from_json(item: dict[str, str]) -> ResultObject:
    return ResultObject(**(item | {"path": Path(item["path"])}))  # type: ignore[arg-type]


def _summary(report: Report) -> str:
    levels = [disc.name for disc in report.discs]
    span = f"{levels[0]} to {levels[-1]}" if levels else "none"
    remarks = f", {len(report.quality)} remark(s) on quality" if report.quality else ""
    return f"{len(levels)} discs ({span}) in {report.timing_s.get('total', 0.0):.1f} s{remarks}"
