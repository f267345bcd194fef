"""What the ledger does with results: list them and their deliveries, and take each delivery from state to state.

Every function runs inside the caller's transaction. Who may change the state of a study has locked its row before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from node.ledger_intake import locked, move
from node.ledger_schema import DELIVERY, DELIVERY_EVENT, RESULT, STUDY
from node.records import ARRIVED, SETTLED, DeliveryEvent, DeliveryState, ResultObject, StudyState

_MAY_ARRIVE = frozenset(DeliveryState) - ARRIVED
"""An answer that comes late is still the truth about where an object is."""
_ONLY_DUE = frozenset({DeliveryState.DUE})
"""A failure that comes late must not set going again what has arrived, or what the operator has ended."""


def change(
    connection: Connection,
    delivery_id: int,
    event: DeliveryEvent,
    *,
    only_from: Collection[DeliveryState],
    **values: object,
) -> bool:
    """Puts a delivery into a state, with the event in its history; False, nothing done, where it stands elsewhere."""
    changed = connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == delivery_id, DELIVERY.c.state.in_([item.value for item in only_from]))
        .values(state=event.state.value, last_status=event.status, changed_at=event.at, **values)
    ).rowcount
    if changed:
        connection.execute(
            insert(DELIVERY_EVENT).values(
                delivery_id=delivery_id, at=event.at, state=event.state.value, status=event.status
            )
        )
    return bool(changed)


def fill(
    connection: Connection,
    study_id: int,
    results: Sequence[ResultObject],
    archives: Mapping[str, Sequence[str]],
    now: datetime,
) -> None:
    """The results of a study and their deliveries; for each archive the SOP Instance UIDs it is to get.

    Raises:
        ValueError: a delivery names an object that is not among the results.
    """
    named = {uid for uids in archives.values() for uid in uids}
    if not named <= {result.sop_instance_uid for result in results}:
        raise ValueError("a delivery names an object that is not among the results")
    _list_results(connection, study_id, results, now)
    _list_deliveries(connection, study_id, archives, now)


def _list_results(connection: Connection, study_id: int, results: Sequence[ResultObject], now: datetime) -> None:
    """Rows for the results. One that a generation before has made (same images, same model) is taken over as it is."""
    for result in results:
        taken_over = connection.execute(
            update(RESULT).where(RESULT.c.sop_instance_uid == result.sop_instance_uid).values(study_id=study_id)
        ).rowcount
        if taken_over:
            connection.execute(
                update(RESULT)  # its file was deleted, and has been made again
                .where(RESULT.c.sop_instance_uid == result.sop_instance_uid, RESULT.c.purged_at.is_not(None))
                .values(path=str(result.path), sha256=result.sha256, purged_at=None)
            )
            connection.execute(
                update(DELIVERY).where(DELIVERY.c.sop_instance_uid == result.sop_instance_uid).values(study_id=study_id)
            )
            continue
        connection.execute(
            insert(RESULT).values(
                sop_instance_uid=result.sop_instance_uid,
                study_id=study_id,
                sop_class_uid=result.sop_class_uid,
                kind=result.kind,
                path=str(result.path),
                sha256=result.sha256,
                made_at=now,
            )
        )


def _list_deliveries(
    connection: Connection, study_id: int, archives: Mapping[str, Sequence[str]], now: datetime
) -> None:
    """Rows for the deliveries that are not listed yet."""
    for archive, sop_instance_uids in archives.items():
        listed = _listed(connection, archive, sop_instance_uids)
        for sop_instance_uid in sop_instance_uids:
            if sop_instance_uid not in listed:
                list_delivery(connection, study_id, archive, sop_instance_uid, now)


def _listed(connection: Connection, archive: str, sop_instance_uids: Sequence[str]) -> Mapping[str, int]:
    """SOP Instance UID -> delivery, of those that are listed for an archive."""
    rows = connection.execute(
        select(DELIVERY.c.sop_instance_uid, DELIVERY.c.id).where(
            DELIVERY.c.archive == archive, DELIVERY.c.sop_instance_uid.in_(sop_instance_uids)
        )
    )
    return {row.sop_instance_uid: row.id for row in rows}


def list_delivery(connection: Connection, study_id: int, archive: str, sop_instance_uid: str, now: datetime) -> None:
    """A row for one delivery, due at once."""
    connection.execute(
        insert(DELIVERY).values(
            study_id=study_id,
            archive=archive,
            sop_instance_uid=sop_instance_uid,
            state=DeliveryState.DUE.value,
            attempts=0,
            not_before=now,
            last_status="",
            changed_at=now,
            listed_at=now,
            due_since=now,
        )
    )


def delivered(connection: Connection, delivery_id: int, status: str, now: datetime) -> None:
    study_id = _study_of(connection, delivery_id)
    if study_id is None:
        return
    study = locked(connection, study_id)
    change(
        connection,
        delivery_id,
        DeliveryEvent(at=now, state=DeliveryState.DELIVERED, status=status),
        only_from=_MAY_ARRIVE,
        attempts=DELIVERY.c.attempts + 1,
        arrived_at=now,
    )
    if study is not None and study.state == StudyState.GRADED:
        deliver_study_if_complete(connection, study_id, now)


def deliver_study_if_complete(connection: Connection, study_id: int, now: datetime) -> None:
    """GRADED becomes DELIVERED when something has arrived, and nothing is left to send or to decide."""
    rows = connection.execute(
        select(DELIVERY.c.state, func.count()).where(DELIVERY.c.study_id == study_id).group_by(DELIVERY.c.state)
    )
    counts = {DeliveryState(state): count for state, count in rows}
    if set(counts) <= SETTLED and set(counts) & ARRIVED:
        discarded = counts.get(DeliveryState.DISCARDED, 0)
        but = f", but for {discarded} that the operator took off the list" if discarded else ""
        move(connection, study_id, StudyState.DELIVERED, f"every archive holds every result{but}", now)


def postponed(connection: Connection, delivery_id: int, status: str, not_before: datetime, now: datetime) -> None:
    event = DeliveryEvent(at=now, state=DeliveryState.DUE, status=status)
    _failed(connection, delivery_id, event, not_before=not_before)


def dead(connection: Connection, delivery_id: int, status: str, now: datetime) -> None:
    _failed(connection, delivery_id, DeliveryEvent(at=now, state=DeliveryState.DEAD, status=status))


def replaced(connection: Connection, delivery_id: int, instead: Sequence[str], status: str, now: datetime) -> None:
    """REPLACED, with deliveries of the results that go to the same archive instead."""
    study_id = _study_of(connection, delivery_id)
    if study_id is None:
        return
    study = locked(connection, study_id)
    archive = connection.execute(select(DELIVERY.c.archive).where(DELIVERY.c.id == delivery_id)).scalar_one()
    if not _failed(connection, delivery_id, DeliveryEvent(at=now, state=DeliveryState.REPLACED, status=status)):
        return
    for listed in _listed(connection, archive, instead).values():  # one that had to stand back at a retry
        set_going(connection, listed, "takes the place of a form that was refused", now, {DeliveryState.REPLACED})
    _list_deliveries(connection, study_id, {archive: instead}, now)
    if study is not None and study.state == StudyState.GRADED:
        deliver_study_if_complete(connection, study_id, now)


def _failed(connection: Connection, delivery_id: int, event: DeliveryEvent, **values: datetime) -> bool:
    """After one more attempt."""
    return change(connection, delivery_id, event, only_from=_ONLY_DUE, attempts=DELIVERY.c.attempts + 1, **values)


def set_going(
    connection: Connection, delivery_id: int, why: str, now: datetime, only_from: Collection[DeliveryState]
) -> bool:
    """DUE at once, with its attempts forgotten and its time to give up ahead of it."""
    return change(
        connection,
        delivery_id,
        DeliveryEvent(at=now, state=DeliveryState.DUE, status=why),
        only_from=only_from,
        attempts=0,
        not_before=now,
        due_since=now,
    )


def _study_of(connection: Connection, delivery_id: int) -> int | None:
    return connection.execute(select(DELIVERY.c.study_id).where(DELIVERY.c.id == delivery_id)).scalar()


def results(connection: Connection, study_instance_uid: str) -> tuple[tuple[int, ResultObject], ...]:
    rows = connection.execute(
        select(RESULT)
        .join(STUDY, STUDY.c.id == RESULT.c.study_id)
        .where(STUDY.c.study_instance_uid == study_instance_uid)
        .order_by(STUDY.c.generation, RESULT.c.made_at, RESULT.c.sop_instance_uid)
    )
    return tuple((row.study_id, _result(row)) for row in rows)


def _result(row: Row[Any]) -> ResultObject:
    return ResultObject(
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        kind=row.kind,
        path=Path(row.path),
        sha256=row.sha256,
    )
