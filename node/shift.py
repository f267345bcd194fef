"""A worker among workers: it beats, learns who is dead, and puts the studies of the dead back into the queue.

Everything here is level-triggered: whatever a beat misses, or a crash interrupts, the next beat of whoever leads does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from node.engine import Engine
from node.ledger import Ledger
from node.precedence import number_in_line, place
from node.records import StudyRecord

logger = logging.getLogger(__name__)

QUEUE_AHEAD = 20
"""Studies that are put into the queue at a time; the others wait in the ledger, those whose turn is later."""
DECLARED_DEAD = 4
"""Exit status."""


class Shift:
    """One worker's time at work, under a name that no other process, dead or alive, has.

    Args:
        dead_after_s: a worker that has not beaten for so long is dead.
        head_start_s: what a step of priority is worth; see ``precedence``.
        leave: ends the process at once, with an exit status.
    """

    def __init__(  # noqa: PLR0913 - what it stands on, and what a test puts in its place
        self,
        ledger: Ledger,
        engine: Engine,
        *,
        name: str,
        dead_after_s: float,
        head_start_s: float = 0.0,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._name = name
        self._dead_after_s = dead_after_s
        self._head_start_s = head_start_s
        self._leave = leave
        self._launched = False
        self._leads = False
        self._idle_before: frozenset[str] = frozenset()

    def enter(self, *, forebears: str) -> None:
        """From now on this worker must beat; see ``LedgerWorkers.begin``."""
        self._ledger.workers.begin(self._name, forebears=forebears)

    def launch(self) -> None:
        """Start working, and take up at once what dead ones left."""
        self._engine.launch()
        self._launched = True
        self.beat()

    def beat(self) -> None:
        """Say that this worker lives. One that has been declared dead ends itself: its studies are others' now."""
        # read before the beat: who holds a job entered before it took it, so that whoever lives is among the living
        held = self._engine.held() if self._launched else {}
        standing = self._ledger.workers.beat(self._name, dead_after_s=self._dead_after_s)
        if standing is None:
            logger.error("declared dead after %g s without a beat: the worker ends itself", self._dead_after_s)
            logging.shutdown()
            self._leave(DECLARED_DEAD)
            return
        self._leads = standing.leads
        orphans = [job for job, worker in held.items() if worker not in standing.live]
        if self._leads and orphans:
            logger.warning("taking up %d studies that a worker left", len(orphans))
            self._engine.put_back(orphans)
        self._put_back_stranded(held)

    def enqueue(self) -> None:
        """See to it that there is a job for each study that waits, and for each whose job was lost while it ran."""
        if not self._launched:
            return
        waiting = self._ledger.queued_studies()  # before those in work: one that is taken in between is in both
        grading = self._ledger.grading_studies()
        queued = sorted(_one_of_each(waiting, grading), key=self._turn)[:QUEUE_AHEAD]
        studies = (*grading, *queued)
        self._engine.enqueue(
            [(study.study_id, study.round) for study in studies],
            restart_ended=self._leads,
            places={study.study_id: number_in_line(self._turn(study)) for study in studies},
        )

    def _turn(self, study: StudyRecord) -> datetime:
        return place(study.priority, study.closed_at or study.changed_at, self._head_start_s)

    def end(self) -> None:
        """Leave of one's own will."""
        self._ledger.workers.end(self._name)

    def _put_back_stranded(self, held: dict[str, str]) -> None:
        """Jobs that are this worker's by the queue's books, and that it does not run.

        That is what an outage of the database between the claim of a job and its start leaves. Only what two beats in
        a row have seen: between claim and start there is always a moment.
        """
        idle = frozenset(job for job, worker in held.items() if worker == self._name) - self._engine.running()
        stranded, self._idle_before = idle & self._idle_before, idle
        if stranded:
            logger.warning("putting %d studies back into the queue that were taken and not begun", len(stranded))
            self._engine.put_back(stranded)


def _one_of_each(waiting: Sequence[StudyRecord], grading: Sequence[StudyRecord]) -> Iterator[StudyRecord]:
    """The first waiting generation of each study that nobody grades: the next one names its results as predecessors."""
    taken = {study.study_instance_uid for study in grading}
    for study in sorted(waiting, key=lambda study: study.study_id):
        if study.study_instance_uid not in taken:
            taken.add(study.study_instance_uid)
            yield study
