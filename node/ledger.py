"""The ledger: what came, what became of it, what was made and where it goes. Each state change is one method, and each
method is one transaction; any number of processes may use it at once.

Every ``now`` and every time in a record is aware. Every method may raise ``LedgerUnavailable``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from node import ledger_deliveries as deliveries
from node import ledger_intake as intake
from node import ledger_outbox as outbox
from node import ledger_overview as overview
from node.ledger_archives import LedgerArchives
from node.ledger_database import (
    Database,
    LedgerError,
    LedgerUnavailable,
    OutcomeUnknown,
    UnknownStudy,
    WrongState,
    open_database,
)
from node.ledger_dead_letters import DeadLetters, retry_study
from node.ledger_proofs import Proofs
from node.ledger_reception import Reception
from node.ledger_retention import Retention
from node.ledger_schema import STUDY
from node.ledger_timeline import Timelines
from node.ledger_workers import LedgerWorkers
from node.records import (
    Delivery,
    DeliveryEvent,
    DeliveryState,
    HistoryEntry,
    ReceivedInstance,
    Recorded,
    ResultObject,
    StudyOverview,
    StudyRecord,
    StudyState,
)

__all__ = ["Ledger", "LedgerError", "LedgerUnavailable", "OutcomeUnknown", "UnknownStudy", "WrongState", "open_ledger"]

Turn = tuple[int, int] | None
_RESULTS_STAND = (StudyState.GRADED, StudyState.DELIVERED)


def open_ledger(url: str) -> Ledger:
    """The ledger behind an SQLAlchemy URL, created and brought up to date under a lock.

    Raises:
        LedgerUnavailable: the database cannot be reached.
        LedgerError: it can, but not be used.
    """
    return Ledger(open_database(url))


class Ledger(Reception):
    """See the module. Made by ``open_ledger``."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.archives = LedgerArchives(database)
        self.dead_letters = DeadLetters(database)
        self.proofs = Proofs(database)
        self.retention = Retention(database)
        self.timelines = Timelines(database)
        self.workers = LedgerWorkers(database)

    def close(self) -> None:
        self._database.close()

    # The worker.

    def queued_studies(self) -> tuple[StudyRecord, ...]:
        """The generations that wait for the worker, the longest waiting first."""
        return self._studies_in(StudyState.QUEUED)

    def grading_studies(self) -> tuple[StudyRecord, ...]:
        """The generations that a worker has, or had when it died."""
        return self._studies_in(StudyState.GRADING)

    def _studies_in(self, state: StudyState) -> tuple[StudyRecord, ...]:
        query = select(STUDY).where(STUDY.c.state == state).order_by(STUDY.c.closed_at, STUDY.c.id)
        return self._database.read(lambda connection: tuple(map(intake.study_record, connection.execute(query))))

    def take_study(self, study_id: int, *, maximum_attempts: int, now: datetime) -> StudyRecord | None:
        """QUEUED, or GRADING after a crash, -> GRADING with one more attempt.

        None when there is nothing to take: it is in another state, or it has been taken ``maximum_attempts`` times
        without an end, and is FAILED now.
        """

        return self._database.write(lambda connection: intake.take(connection, study_id, maximum_attempts, now))

    def study(self, study_id: int) -> StudyRecord:
        """Raises ``UnknownStudy``."""
        return self._database.read(lambda connection: intake.found(connection, study_id)[0])

    def instances(self, study_id: int) -> tuple[ReceivedInstance, ...]:
        """The images of a generation: all of the study up to its closing, as they came. Raises ``UnknownStudy``."""
        return self._database.read(lambda connection: intake.instances(connection, *intake.found(connection, study_id)))

    def conflicts(self, study_id: int) -> int:
        """How many objects are kept beside this study as conflicts. Raises ``UnknownStudy``."""
        return self._database.read(
            lambda connection: intake.conflicts(connection, intake.found(connection, study_id)[0].study_instance_uid)
        )

    def graded_digest(self, study_instance_uid: str) -> tuple[str, ...]:
        """Digests of the generations whose results stand (GRADED or DELIVERED)."""
        query = select(STUDY.c.digest).where(
            STUDY.c.study_instance_uid == study_instance_uid, STUDY.c.state.in_(_RESULTS_STAND)
        )
        return self._database.read(
            lambda connection: tuple(connection.execute(query.order_by(STUDY.c.generation)).scalars())
        )

    # Its ends.

    def finish_graded(  # noqa: PLR0913 - a study's end in one transaction
        self,
        study_id: int,
        *,
        results: Sequence[ResultObject],
        archives: Mapping[str, Sequence[str]],
        reason: str,
        turn: Turn = None,
        now: datetime,
    ) -> None:
        """GRADING -> GRADED together with its results and their deliveries; a repeat changes nothing.

        Args:
            archives: for each archive the SOP Instance UIDs of the results it is to get.
            turn: round and attempts of the study as the worker took it. Where it has been taken again since, nothing
                is written down: this worker was held to be dead. None: whoever took it last.

        Raises:
            WrongState, UnknownStudy, ValueError: a delivery names no result.
        """

        def fill(connection: Connection) -> None:
            outbox.fill(connection, study_id, results, archives, now)

        self._finish(study_id, StudyState.GRADED, reason, turn, now, fill)

    def finish_declined(  # noqa: PLR0913 - as above
        self,
        study_id: int,
        *,
        reason: str,
        results: Sequence[ResultObject] = (),
        archives: Mapping[str, Sequence[str]] | None = None,
        turn: Turn = None,
        now: datetime,
    ) -> None:
        """GRADING -> DECLINED, with the objects that tell the reader; it stays DECLINED while they are delivered."""

        def fill(connection: Connection) -> None:
            outbox.fill(connection, study_id, results, archives or {}, now)

        self._finish(study_id, StudyState.DECLINED, reason, turn, now, fill)

    def finish_unchanged(self, study_id: int, *, reason: str, turn: Turn = None, now: datetime) -> None:
        """GRADING -> UNCHANGED."""
        self._finish(study_id, StudyState.UNCHANGED, reason, turn, now)

    def finish_failed(self, study_id: int, *, reason: str, turn: Turn = None, now: datetime) -> None:
        """GRADING -> FAILED."""
        self._finish(study_id, StudyState.FAILED, reason, turn, now)

    def give_back_study(self, study_id: int, *, turn: tuple[int, int], now: datetime) -> None:
        """GRADING -> QUEUED with its attempt uncounted, unless it has been taken again since or has ended."""
        self._database.write(lambda connection: intake.give_back(connection, study_id, turn, now))

    def _finish(  # noqa: PLR0913, PLR0917 - as above
        self,
        study_id: int,
        end: StudyState,
        reason: str,
        turn: Turn,
        now: datetime,
        fill_outbox: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        def finish(connection: Connection) -> None:
            study = intake.found_and_locked(connection, study_id)
            if study.state == end or (end, study.state) == (StudyState.GRADED, StudyState.DELIVERED):
                return
            if study.state != StudyState.GRADING:
                raise WrongState(f"study {study_id} is {study.state.value}, not grading: it cannot become {end.value}")
            if turn not in (None, (study.round, study.attempts)):
                raise WrongState(f"another worker has taken study {study_id} since: not {end.value}")
            intake.move(connection, study_id, end, reason, now)
            fill_outbox(connection)
            if end is StudyState.GRADED:
                outbox.deliver_study_if_complete(connection, study_id, now)

        self._database.write(finish)

    # Deliveries.

    def due_deliveries(
        self, now: datetime, *, limit: int, archives: Collection[str] | None = None, head_start_s: float = 0.0
    ) -> tuple[Delivery, ...]:
        """What is to be sent now, the studies in their turn (``precedence``); of the ``archives`` named, or of all."""
        return self._database.read(lambda connection: deliveries.due(connection, now, limit, archives, head_start_s))

    def undelivered(self, *, limit: int) -> tuple[Delivery, ...]:
        """What has not arrived, of the newest studies first: waiting for its time, or refused for good."""
        return self._database.read(lambda connection: deliveries.undelivered(connection, limit))

    def delivery_events(self, delivery_id: int) -> tuple[DeliveryEvent, ...]:
        """What became of a delivery, in order."""
        return self._database.read(lambda connection: deliveries.events(connection, delivery_id))

    def delivery_delivered(self, delivery_id: int, *, status: str, now: datetime) -> None:
        """The archive has it. With the last one a GRADED study becomes DELIVERED."""
        self._database.write(lambda connection: outbox.delivered(connection, delivery_id, status, now))

    def delivery_postponed(self, delivery_id: int, *, status: str, not_before: datetime, now: datetime) -> None:
        """It did not arrive, and is tried again at ``not_before``."""
        self._database.write(lambda connection: outbox.postponed(connection, delivery_id, status, not_before, now))

    def delivery_replaced(self, delivery_id: int, *, instead: Sequence[str], status: str, now: datetime) -> None:
        """The archive takes no such object; the results ``instead`` (SOP Instance UIDs) are due there."""
        self._database.write(lambda connection: outbox.replaced(connection, delivery_id, instead, status, now))

    def results(self, study_instance_uid: str) -> tuple[tuple[int, ResultObject], ...]:
        """(study_id, result) of every result of every generation, the oldest generation first."""
        return self._database.read(lambda connection: outbox.results(connection, study_instance_uid))

    def delivery_dead(self, delivery_id: int, *, status: str, now: datetime) -> None:
        """The archive refuses it for good."""
        self._database.write(lambda connection: outbox.dead(connection, delivery_id, status, now))

    # The operator.

    def retry_study(self, study_instance_uid: str, *, now: datetime) -> int:
        """FAILED or DECLINED -> QUEUED in a new round (the newest generation); what has not arrived is due now.

        Returns:
            How many things it set going: the study, and each delivery of any of its generations.

        Raises:
            UnknownStudy: no image of it ever came.
        """

        return self._database.write(lambda connection: retry_study(connection, study_instance_uid, now))

    def study_overview(self, *, limit: int) -> tuple[StudyOverview, ...]:
        """The generations that changed last, newest first."""
        return self._database.read(lambda connection: overview.overview(connection, limit))

    def history(self, study_id: int) -> tuple[HistoryEntry, ...]:
        """What happened to a generation, in order."""
        return self._database.read(lambda connection: overview.history(connection, study_id))

    def counts_by_state(self) -> Mapping[StudyState, int]:
        """How many generations stand in each state; every state is there."""
        return self._database.read(overview.counts_by_state)

    def received_counts(self) -> Mapping[Recorded, int]:
        """How many objects are kept as NEW, CONFLICT and OWN_RESULT."""
        return self._database.read(overview.received_counts)

    def delivery_counts(self) -> Mapping[str, Mapping[DeliveryState, int]]:
        """For each archive how many deliveries stand in each state."""
        return self._database.read(deliveries.counts_by_archive)
