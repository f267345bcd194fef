"""What the ledger does with results: list them and their deliveries, and follow each delivery to its end.

Every function runs inside the caller's transaction. Who may change the state of a study has locked its row before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from node.ledger_intake import locked, move
from node.ledger_schema import DELIVERY, RESULT, STUDY
from node.records import Delivery, DeliveryState, ResultObject, StudyState


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
    """Rows for the deliveries that are not listed yet, due at once."""
    for archive, sop_instance_uids in archives.items():
        listed = set(
            connection.execute(
                select(DELIVERY.c.sop_instance_uid).where(
                    DELIVERY.c.archive == archive, DELIVERY.c.sop_instance_uid.in_(sop_instance_uids)
                )
            ).scalars()
        )
        for sop_instance_uid in sop_instance_uids:
            if sop_instance_uid not in listed:
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
                    )
                )


def due(connection: Connection, now: datetime, limit: int, archives: Collection[str] | None) -> tuple[Delivery, ...]:
    query = (
        select(DELIVERY, RESULT.c.sop_class_uid, RESULT.c.path)
        .join(RESULT, RESULT.c.sop_instance_uid == DELIVERY.c.sop_instance_uid)
        .where(DELIVERY.c.state == DeliveryState.DUE, DELIVERY.c.not_before <= now)
        .order_by(DELIVERY.c.study_id, DELIVERY.c.archive, DELIVERY.c.id)
        .limit(limit)
    )
    if archives is not None:
        query = query.where(DELIVERY.c.archive.in_(archives))
    return tuple(_delivery(row) for row in connection.execute(query))


def undelivered(connection: Connection, limit: int) -> tuple[Delivery, ...]:
    query = (
        select(DELIVERY, RESULT.c.sop_class_uid, RESULT.c.path)
        .join(RESULT, RESULT.c.sop_instance_uid == DELIVERY.c.sop_instance_uid)
        .where(DELIVERY.c.state != DeliveryState.DELIVERED)
        .order_by(DELIVERY.c.state == DeliveryState.REPLACED, DELIVERY.c.study_id.desc(), DELIVERY.c.archive)
        .order_by(DELIVERY.c.id)
        .limit(limit)
    )
    return tuple(_delivery(row) for row in connection.execute(query))


def delivered(connection: Connection, delivery_id: int, status: str, now: datetime) -> None:
    study_id = _study_of(connection, delivery_id)
    if study_id is None:
        return
    study = locked(connection, study_id)
    _answered(connection, delivery_id, DeliveryState.DELIVERED, status, now)
    if study is not None and study.state == StudyState.GRADED:
        deliver_study_if_complete(connection, study_id, now)


def deliver_study_if_complete(connection: Connection, study_id: int, now: datetime) -> None:
    """GRADED becomes DELIVERED when it has deliveries and every one has arrived."""
    states = set(connection.execute(select(DELIVERY.c.state).where(DELIVERY.c.study_id == study_id)).scalars())
    if states - {DeliveryState.REPLACED} == {DeliveryState.DELIVERED}:
        move(connection, study_id, StudyState.DELIVERED, "every archive holds every result", now)


def postponed(connection: Connection, delivery_id: int, status: str, not_before: datetime, now: datetime) -> None:
    _answered(connection, delivery_id, DeliveryState.DUE, status, now, not_before=not_before)


def dead(connection: Connection, delivery_id: int, status: str, now: datetime) -> None:
    _answered(connection, delivery_id, DeliveryState.DEAD, status, now)


def replaced(connection: Connection, delivery_id: int, instead: Sequence[str], status: str, now: datetime) -> None:
    """REPLACED, with deliveries of the results that go to the same archive instead."""
    study_id = _study_of(connection, delivery_id)
    if study_id is None:
        return
    study = locked(connection, study_id)
    archive = connection.execute(select(DELIVERY.c.archive).where(DELIVERY.c.id == delivery_id)).scalar_one()
    _answered(connection, delivery_id, DeliveryState.REPLACED, status, now)
    _list_deliveries(connection, study_id, {archive: instead}, now)
    if study is not None and study.state == StudyState.GRADED:
        deliver_study_if_complete(connection, study_id, now)


def _answered(
    connection: Connection, delivery_id: int, state: DeliveryState, status: str, now: datetime, **values: datetime
) -> None:
    """Writes down an answer; what has arrived stays arrived, whatever a late second answer says."""
    connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == delivery_id, DELIVERY.c.state != DeliveryState.DELIVERED)
        .values(state=state.value, attempts=DELIVERY.c.attempts + 1, last_status=status, changed_at=now, **values)
    )


def _study_of(connection: Connection, delivery_id: int) -> int | None:
    return connection.execute(select(DELIVERY.c.study_id).where(DELIVERY.c.id == delivery_id)).scalar()


def make_due(connection: Connection, study_instance_uid: str, now: datetime) -> int:
    """Every delivery of every generation that has not arrived is due now; returns how many."""
    generations = select(STUDY.c.id).where(STUDY.c.study_instance_uid == study_instance_uid)
    _take_back_replacements(connection, study_instance_uid)
    return connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.study_id.in_(generations), DELIVERY.c.state.in_((DeliveryState.DUE, DeliveryState.DEAD)))
        .values(state=DeliveryState.DUE.value, attempts=0, not_before=now, changed_at=now)
    ).rowcount


def _take_back_replacements(connection: Connection, study_instance_uid: str) -> None:
    """Where no form of a kind has arrived, its first form alone is tried again: the archive may take it by now."""
    rows = connection.execute(
        select(DELIVERY.c.id, DELIVERY.c.study_id, DELIVERY.c.archive, DELIVERY.c.state, RESULT.c.kind)
        .join(RESULT, RESULT.c.sop_instance_uid == DELIVERY.c.sop_instance_uid)
        .join(STUDY, STUDY.c.id == DELIVERY.c.study_id)
        .where(STUDY.c.study_instance_uid == study_instance_uid)
        .order_by(DELIVERY.c.id)
    )
    forms: dict[tuple[int, str, str], list[tuple[int, str]]] = {}
    for row in rows:
        forms.setdefault((row.study_id, row.archive, row.kind), []).append((row.id, row.state))
    for tried in forms.values():
        states = {state for _, state in tried}
        if DeliveryState.REPLACED in states and DeliveryState.DELIVERED not in states:
            (first, _), *others = tried
            connection.execute(delete(DELIVERY).where(DELIVERY.c.id.in_([number for number, _ in others])))
            connection.execute(update(DELIVERY).where(DELIVERY.c.id == first).values(state=DeliveryState.DEAD.value))


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
    )
