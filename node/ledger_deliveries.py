"""What the ledger tells of deliveries. Every function runs inside the caller's transaction and only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select

from node.ledger_schema import DELIVERY, DELIVERY_EVENT, RESULT, STUDY
from node.precedence import place
from node.records import SETTLED, Delivery, DeliveryEvent, DeliveryState

_WITH_RESULT = select(DELIVERY, RESULT.c.sop_class_uid, RESULT.c.path).join(
    RESULT, RESULT.c.sop_instance_uid == DELIVERY.c.sop_instance_uid
)
_OUT_OF_SIGHT = [state.value for state in SETTLED - {DeliveryState.REPLACED}]


def due(
    connection: Connection, now: datetime, limit: int, archives: Collection[str] | None, head_start_s: float
) -> tuple[Delivery, ...]:
    """Of the studies whose turn it is; their objects in the order they were listed."""
    ripe = [DELIVERY.c.state == DeliveryState.DUE.value, DELIVERY.c.not_before <= now]
    if archives is not None:
        ripe.append(DELIVERY.c.archive.in_(archives))
    waiting = connection.execute(
        select(DELIVERY.c.study_id, STUDY.c.priority, STUDY.c.closed_at, func.count().label("objects"))
        .join(STUDY, STUDY.c.id == DELIVERY.c.study_id)
        .where(*ripe)
        .group_by(DELIVERY.c.study_id, STUDY.c.priority, STUDY.c.closed_at)
    ).all()
    turn = {row.study_id: (place(row.priority, row.closed_at or now, head_start_s), row.study_id) for row in waiting}
    chosen: list[int] = []
    objects = 0
    for row in sorted(waiting, key=lambda row: turn[row.study_id]):
        if objects >= limit:
            break
        chosen.append(row.study_id)
        objects += row.objects
    if not chosen:
        return ()
    rows = connection.execute(_WITH_RESULT.where(*ripe, DELIVERY.c.study_id.in_(chosen))).all()
    in_turn = sorted(rows, key=lambda row: (turn.get(row.study_id, (now, 0)), row.archive, row.id))
    return tuple(_delivery(row) for row in in_turn[:limit])


def undelivered(connection: Connection, limit: int) -> tuple[Delivery, ...]:
    query = (
        _WITH_RESULT.where(DELIVERY.c.state.not_in(_OUT_OF_SIGHT))
        .order_by(DELIVERY.c.state == DeliveryState.REPLACED, DELIVERY.c.study_id.desc(), DELIVERY.c.archive)
        .order_by(DELIVERY.c.id)
        .limit(limit)
    )
    return tuple(_delivery(row) for row in connection.execute(query))


def dead(connection: Connection, limit: int) -> tuple[Delivery, ...]:
    query = (
        _WITH_RESULT.where(DELIVERY.c.state == DeliveryState.DEAD)
        .order_by(DELIVERY.c.study_id, DELIVERY.c.archive, DELIVERY.c.id)
        .limit(limit)
    )
    return tuple(_delivery(row) for row in connection.execute(query))


def unproven_elsewhere(connection: Connection, known: Collection[str], limit: int) -> tuple[Delivery, ...]:
    query = (
        _WITH_RESULT.where(DELIVERY.c.state == DeliveryState.DELIVERED, DELIVERY.c.archive.not_in(known))
        .order_by(DELIVERY.c.study_id, DELIVERY.c.archive, DELIVERY.c.id)
        .limit(limit)
    )
    return tuple(_delivery(row) for row in connection.execute(query))


def counts_by_study(connection: Connection, study_ids: Iterable[int]) -> dict[int, Counter[DeliveryState]]:
    counts: dict[int, Counter[DeliveryState]] = {study_id: Counter() for study_id in study_ids}
    rows = connection.execute(
        select(DELIVERY.c.study_id, DELIVERY.c.state, func.count())
        .where(DELIVERY.c.study_id.in_(counts))
        .group_by(DELIVERY.c.study_id, DELIVERY.c.state)
    )
    for study_id, state, count in rows:
        counts[study_id][DeliveryState(state)] = count
    return counts


def counts_by_archive(connection: Connection) -> dict[str, Counter[DeliveryState]]:
    counts: dict[str, Counter[DeliveryState]] = {}
    rows = connection.execute(
        select(DELIVERY.c.archive, DELIVERY.c.state, func.count()).group_by(DELIVERY.c.archive, DELIVERY.c.state)
    )
    for archive, state, count in rows:
        counts.setdefault(archive, Counter())[DeliveryState(state)] = count
    return counts


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        delivery_id=row.id,
        study_id=row.study_id,
        archive=row.archive,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        path=Path(row.path),
        state=DeliveryState(row.state),
        attempts=row.attempts,
        not_before=row.not_before,
        last_status=row.last_status,
        due_since=row.due_since,
    )


def events(connection: Connection, delivery_id: int) -> tuple[DeliveryEvent, ...]:
    rows = connection.execute(
        select(DELIVERY_EVENT).where(DELIVERY_EVENT.c.delivery_id == delivery_id).order_by(DELIVERY_EVENT.c.id)
    )
    return tuple(DeliveryEvent(at=row.at, state=DeliveryState(row.state), status=row.status) for row in rows)
