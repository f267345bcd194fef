"""What the ledger tells the monitoring: how much stands where, what is oldest, whom nobody has been told of.

Only reads, and never more than an index: what is live is counted at each look, what has ended at most so often that the
counting takes a hundredth of the time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from node.health import ArchiveSeen, Backlog
from node.ledger_database import Database
from node.ledger_deliveries import counts_by_archive
from node.ledger_overview import counts_by_state
from node.ledger_schema import ARCHIVE, DELIVERY, DELIVERY_EVENT, HISTORY, STUDY
from node.notices import Casualties
from node.records import DeliveryState, StudyState

RECOUNT_SHARE = 100
"""Counting everything waits this many times as long as it took ..."""
QUICK_S = 0.05
"""... where it took longer than this."""
_WAITING = (StudyState.QUEUED, StudyState.GRADING)
MOST_CASUALTIES = 1000
BY_THE_OPERATOR = "given up by the operator"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How much stands where."""

    studies: Mapping[StudyState, int]
    deliveries: Mapping[str, Mapping[DeliveryState, int]]
    """By archive."""


class Figures:
    """For one reader; each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: Counts | None = None
        self._mark = (-1, -1)
        self._count_again = 0.0

    def backlog(self) -> Backlog:
        """What waits."""
        return self._database.read(_backlog)

    def counts(self) -> Counts:
        """Everything counted, as it stands; in a very large ledger, as it stood a moment ago."""
        return self._database.read(self._counted)

    def dead_letters(self) -> Mapping[str, Casualties]:
        """The dead letters of each archive, but for those that the operator made."""
        return self._database.read(_dead_letters)

    def failed_studies(self) -> Casualties | None:
        """The studies that wait for the operator; None where there are none."""
        return self._database.read(_failed_studies)

    def _counted(self, connection: Connection) -> Counts:
        mark = (
            connection.execute(select(func.max(HISTORY.c.id))).scalar() or 0,
            connection.execute(select(func.max(DELIVERY_EVENT.c.id))).scalar() or 0,
        )
        if self._counts is None or (mark != self._mark and time.monotonic() >= self._count_again):
            began = time.monotonic()
            self._counts = Counts(studies=counts_by_state(connection), deliveries=counts_by_archive(connection))
            took_s = time.monotonic() - began
            self._mark = mark
            self._count_again = began + RECOUNT_SHARE * took_s if took_s > QUICK_S else began
        return self._counts


def _backlog(connection: Connection) -> Backlog:
    whole = select(func.count(), func.min(STUDY.c.closed_at)).where(STUDY.c.state.in_(_WAITING))
    queued, oldest_queued_at = connection.execute(whole).one()
    receiving = select(func.min(STUDY.c.first_received_at)).where(STUDY.c.state == StudyState.RECEIVING)
    due = (
        select(DELIVERY.c.archive, func.min(func.coalesce(DELIVERY.c.due_since, DELIVERY.c.changed_at)))
        .where(DELIVERY.c.state == DeliveryState.DUE)
        .group_by(DELIVERY.c.archive)
    )
    return Backlog(
        queued=queued,
        oldest_queued_at=oldest_queued_at,
        oldest_receiving_at=connection.execute(receiving).scalar(),
        oldest_due_at={row[0]: row[1] for row in connection.execute(due)},
        archives=tuple(
            ArchiveSeen(
                name=row.name,
                breaker=row.breaker,
                since=row.since,
                down_since=row.down_since,
                failures=row.failures,
                last_answer=row.last_answer,
                last_success_at=row.last_success_at,
                probe_at=row.probe_at,
            )
            for row in connection.execute(select(ARCHIVE).order_by(ARCHIVE.c.name))
        ),
    )


def _dead_letters(connection: Connection) -> dict[str, Casualties]:
    newest = (
        select(func.max(DELIVERY_EVENT.c.id))
        .where(DELIVERY_EVENT.c.delivery_id == DELIVERY.c.id, DELIVERY_EVENT.c.state == DeliveryState.DEAD)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(DELIVERY.c.archive, DELIVERY.c.study_id, DELIVERY.c.last_status, newest.label("event"))
        .where(DELIVERY.c.state == DeliveryState.DEAD, DELIVERY.c.last_status.not_like(f"{BY_THE_OPERATOR}%"))
        .order_by(DELIVERY.c.id.desc())
        .limit(MOST_CASUALTIES)
    ).all()
    found: dict[str, Casualties] = {}
    for archive, count in Counter(row.archive for row in rows).items():
        of_archive = [row for row in rows if row.archive == archive]
        last = max(of_archive, key=lambda row: row.event or 0)
        found[archive] = Casualties(
            newest=last.event or 0,
            studies=tuple(sorted({row.study_id for row in of_archive})),
            count=count,
            why=last.last_status,
        )
    return found


def _failed_studies(connection: Connection) -> Casualties | None:
    newest = (
        select(func.max(HISTORY.c.id))
        .where(HISTORY.c.study_id == STUDY.c.id, HISTORY.c.state == StudyState.FAILED)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(STUDY.c.id, STUDY.c.reason, newest.label("entry"))
        .where(STUDY.c.state == StudyState.FAILED)
        .order_by(STUDY.c.id.desc())
        .limit(MOST_CASUALTIES)
    ).all()
    if not rows:
        return None
    last = max(rows, key=lambda row: row.entry or 0)
    studies = tuple(sorted(row.id for row in rows))
    return Casualties(newest=last.entry or 0, studies=studies, count=len(rows), why=last.reason)
