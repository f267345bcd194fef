"""The ledger's side of receiving: images are written down, and studies closed when they are complete."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from node import ledger_arrivals as arrivals
from node import ledger_intake as intake
from node.group_commit import GroupCommit
from node.ledger_database import Database
from node.records import OpenStudy, ReceivedInstance, Recorded, SeriesCount


class Reception:
    """Each method is one transaction, and may raise ``LedgerUnavailable``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._arrivals = GroupCommit(lambda images: database.write(lambda db: arrivals.record(db, images)))

    def record_instance(self, instance: ReceivedInstance) -> Recorded:
        """Writes down an object whose file is durable, and what it is: see ``Recorded``.

        NEW counts into the generation that receives, or opens the next one. SAME_AGAIN writes nothing. CONFLICT and
        OWN_RESULT are kept, but belong to no generation and open none.

        Raises:
            OutcomeUnknown: it may have been written down; its file must be kept.
            LedgerError: it was not written down.
        """
        return self._arrivals.record(instance)

    def path_of(self, sop_instance_uid: str, sha256: str) -> Path | None:
        """The file of an object that is kept with these bytes; None where there is none, or it was deleted."""
        return self._database.read(lambda connection: arrivals.path_of(connection, sop_instance_uid, sha256))

    def is_own_result(self, sop_instance_uid: str) -> bool:
        """Whether this node made the object."""
        return self._database.read(lambda connection: arrivals.is_own_result(connection, sop_instance_uid))

    def open_studies(self) -> tuple[OpenStudy, ...]:
        """The generations that receive, the longest quiet first."""
        return self._database.read(intake.open_studies)

    def series_counts(self, study_instance_uid: str) -> tuple[SeriesCount, ...]:
        """How many images of each series of the study have come."""
        return self._database.read(lambda connection: intake.series_counts(connection, study_instance_uid))

    def note_waiting(self, study_id: int, reason: str) -> None:
        """Why a generation that receives is kept open, for the operator."""
        self._database.write(lambda connection: intake.note_waiting(connection, study_id, reason))

    def close_study(  # noqa: PLR0913 - what it writes down
        self,
        study_id: int,
        *,
        last_received_at: datetime,
        reason: str,
        now: datetime,
        priority: int = 0,
        graded_series: str = "",
    ) -> bool:
        """RECEIVING -> QUEUED with a priority, with the set of its images and their digest fixed.

        False, and nothing changed, when it does not receive any more or an image came after ``last_received_at``, the
        time on which the decision to close was made.

        Args:
            graded_series: the only one that the digest is made over; empty: all MR objects.
        """
        return self._database.write(
            lambda connection: (
                intake.close(connection, study_id, last_received_at, graded_series, reason, now)
                and intake.prioritise(connection, study_id, priority)
            )
        )
