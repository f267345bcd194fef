"""Running totals of the ledger, kept by reading what is new in it and never the whole of it.

Rows are numbered when they are made and seen when they are committed, so a low number may appear after a higher one.
Rows older than a minute have settled: they are counted once and for all. The others, the tail, are counted anew at each
look. At the start the whole ledger is read once, in pages; until that is done there are no totals, since a count that
starts low would look like as many events at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Column, Connection, Table, func, select

from node.latencies import Histogram, Totals
from node.ledger_database import Database
from node.ledger_schema import DELIVERY, DELIVERY_EVENT, HISTORY, INSTANCE, STUDY
from node.ledger_timeline import histories
from node.records import DeliveryState, Recorded
from node.timeline import Entry, stages, turnaround_s

SETTLED_AFTER = timedelta(minutes=1)
PAGE = 2000
"""Rows at a time."""
PAGES_AT_A_LOOK = 10
_NO_CHANGE = "not proven yet%"
"""Lines in a delivery's history that only say why it stays as it is."""


class _Ends(NamedTuple):
    """Of a table: how far it has settled, and how far it goes."""

    settled: int
    last: int


class RunningTotals:
    """For one reader; each ``advance`` is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settled = Totals()
        self._read = {INSTANCE.name: 0, HISTORY.name: 0, DELIVERY_EVENT.name: 0}

    def advance(self, now: datetime) -> Totals | None:
        """The totals as they stand; None while the ledger is read for the first time."""
        return self._database.read(lambda connection: self._advance(connection, now))

    def _advance(self, connection: Connection, now: datetime) -> Totals | None:
        pages = PAGES_AT_A_LOOK
        tails = []
        for table, time, add in (
            (INSTANCE, INSTANCE.c.received_at, _add_received),
            (HISTORY, HISTORY.c.at, _add_history),
            (DELIVERY_EVENT, DELIVERY_EVENT.c.at, _add_changes),
        ):
            ends = _ends(connection, table, time, self._read[table.name], now - SETTLED_AFTER)
            while self._read[table.name] < ends.settled:
                if pages == 0:
                    return None
                pages -= 1
                upto = min(ends.settled, self._read[table.name] + PAGE)
                add(connection, self._settled, self._read[table.name], upto)
                self._read[table.name] = upto
            tails.append((add, ends))
        totals = self._settled.copy()
        for add, ends in tails:
            if ends.last > ends.settled:
                add(connection, totals, ends.settled, ends.last)
        return totals


def _ends(connection: Connection, table: Table, time: Column[datetime], read: int, before: datetime) -> _Ends:
    last = connection.execute(select(func.max(table.c.id))).scalar() or 0
    if last <= read:
        return _Ends(read, last)
    newest_settled = select(table.c.id).where(table.c.id > read, time < before).order_by(table.c.id.desc()).limit(1)
    return _Ends(connection.execute(newest_settled).scalar() or read, last)


def _add_received(connection: Connection, totals: Totals, after: int, upto: int) -> None:
    rows = connection.execute(
        select(INSTANCE.c.role, func.count(), func.sum(INSTANCE.c.size_bytes))
        .where(INSTANCE.c.id > after, INSTANCE.c.id <= upto)
        .group_by(INSTANCE.c.role)
    )
    for role, count, size_bytes in rows:
        totals.received[Recorded(role)] += count
        totals.received_bytes += int(size_bytes)


def _add_history(connection: Connection, totals: Totals, after: int, upto: int) -> None:
    within = select(HISTORY.c.study_id).where(HISTORY.c.id > after, HISTORY.c.id <= upto).distinct()
    study_ids = connection.execute(within).scalars().all()
    last_received = {
        row.id: row.last_received_at
        for row in connection.execute(select(STUDY.c.id, STUDY.c.last_received_at).where(STUDY.c.id.in_(study_ids)))
    }
    for study_id, history in histories(connection, study_ids).items():
        _add_study(totals, history, last_received[study_id], after, upto)


def _add_study(totals: Totals, history: Sequence[Entry], last_received_at: datetime, after: int, upto: int) -> None:
    for stage in stages(history, last_received_at):
        if after < stage.entry <= upto:
            totals.stages.setdefault(stage.name, Histogram()).add(stage.seconds)
    first_arrival = next((entry for entry in history if entry.state == "delivered"), None)
    seconds = turnaround_s(history, last_received_at)
    if first_arrival is not None and seconds is not None and after < first_arrival.number <= upto:
        totals.turnaround.add(seconds)


def _add_changes(connection: Connection, totals: Totals, after: int, upto: int) -> None:
    rows = connection.execute(
        select(DELIVERY_EVENT.c.at, DELIVERY_EVENT.c.state, DELIVERY.c.archive, DELIVERY.c.listed_at)
        .join(DELIVERY, DELIVERY.c.id == DELIVERY_EVENT.c.delivery_id)
        .where(DELIVERY_EVENT.c.id > after, DELIVERY_EVENT.c.id <= upto, DELIVERY_EVENT.c.status.not_like(_NO_CHANGE))
    )
    for at, said, archive, listed_at in rows:
        state = DeliveryState(said)
        totals.changes[archive, state] += 1
        if state is DeliveryState.DELIVERED and listed_at is not None:
            seconds = max(0.0, (at - listed_at).total_seconds())
            totals.arrivals.setdefault(archive, Histogram()).add(seconds)
