"""What the ledger tells the operator. Every function runs inside the caller's transaction and only reads."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from node import ledger_deliveries
from node.ledger_intake import conflicts, study_record
from node.ledger_schema import HISTORY, INSTANCE, STUDY
from node.records import HistoryEntry, Recorded, StudyOverview, StudyState


def overview(connection: Connection, limit: int) -> tuple[StudyOverview, ...]:
    rows = connection.execute(select(STUDY).order_by(STUDY.c.changed_at.desc(), STUDY.c.id.desc()).limit(limit))
    studies = tuple(map(study_record, rows))
    deliveries = ledger_deliveries.counts_by_study(connection, [study.study_id for study in studies])
    return tuple(
        StudyOverview(
            study=study,
            deliveries=deliveries[study.study_id],
            conflicts=conflicts(connection, study.study_instance_uid),
            closed_because=_closed_because(connection, study.study_id),
        )
        for study in studies
    )


def _closed_because(connection: Connection, study_id: int) -> str:
    first_closing = (
        select(HISTORY.c.reason)
        .where(HISTORY.c.study_id == study_id, HISTORY.c.state == StudyState.QUEUED.value)
        .order_by(HISTORY.c.id)
        .limit(1)
    )
    return connection.execute(first_closing).scalar() or ""


def history(connection: Connection, study_id: int) -> tuple[HistoryEntry, ...]:
    rows = connection.execute(select(HISTORY).where(HISTORY.c.study_id == study_id).order_by(HISTORY.c.id))
    return tuple(HistoryEntry(at=row.at, state=StudyState(row.state), reason=row.reason) for row in rows)


def counts_by_state(connection: Connection) -> Mapping[StudyState, int]:
    rows = connection.execute(select(STUDY.c.state, func.count()).group_by(STUDY.c.state))
    found: dict[str, int] = {state: count for state, count in rows}  # noqa: C416 - a row is not a pair to the type checker
    return {state: found.get(state, 0) for state in StudyState}


def received_counts(connection: Connection) -> Mapping[Recorded, int]:
    rows = connection.execute(select(INSTANCE.c.role, func.count()).group_by(INSTANCE.c.role))
    found: dict[str, int] = {role: count for role, count in rows}  # noqa: C416
    return {role: found.get(role, 0) for role in Recorded if role is not Recorded.SAME_AGAIN}
