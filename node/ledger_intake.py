"""The generations of a study in the ledger: what they hold, their closing, and their states.

Every function runs inside the caller's transaction. On PostgreSQL the row of a study's newest generation is the lock
that puts recorders and closers of that study in a line, so the ids of its images grow in the order they are committed.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, select, update

from node.ledger_database import UnknownStudy
from node.ledger_schema import HISTORY, INSTANCE, STUDY
from node.records import OpenStudy, ReceivedInstance, Recorded, SeriesCount, StudyRecord, StudyState

_INSTANCE_FIELDS = tuple(ReceivedInstance.__slots__)
_STUDY_FIELDS = tuple(StudyRecord.__slots__)

_NEWEST = (
    select(STUDY)
    .where(STUDY.c.study_instance_uid == bindparam("study_uid"))
    .order_by(STUDY.c.generation.desc())
    .limit(1)
    .with_for_update()
)


def newest_generation(connection: Connection, study_instance_uid: str) -> Row[Any] | None:
    """The row of the newest generation, locked until the transaction ends; None for a study never seen."""
    return connection.execute(_NEWEST, {"study_uid": study_instance_uid}).first()


def locked(connection: Connection, study_id: int) -> Row[Any] | None:
    """The row of one generation, locked until the transaction ends."""
    return connection.execute(select(STUDY).where(STUDY.c.id == study_id).with_for_update()).first()


def found(connection: Connection, study_id: int) -> tuple[StudyRecord, int | None]:
    """A generation, and the number of the last image that belongs to it; raises ``UnknownStudy``."""
    row = connection.execute(select(STUDY).where(STUDY.c.id == study_id)).first()
    if row is None:
        raise UnknownStudy(f"there is no study {study_id}")
    return study_record(row), row.last_instance_id


def found_and_locked(connection: Connection, study_id: int) -> StudyRecord:
    """A generation, its row locked until the transaction ends; raises ``UnknownStudy``."""
    row = locked(connection, study_id)
    if row is None:
        raise UnknownStudy(f"there is no study {study_id}")
    return study_record(row)


def take(connection: Connection, study_id: int, maximum_attempts: int, now: datetime) -> StudyRecord | None:
    study = found_and_locked(connection, study_id)
    if study.state not in (StudyState.QUEUED, StudyState.GRADING):
        return None
    if study.attempts >= maximum_attempts:
        reason = f"its worker stopped {study.attempts} times before an end"
        move(connection, study_id, StudyState.FAILED, reason, now)
        return None
    attempts = study.attempts + 1
    reason = "a worker has it" if attempts == 1 else f"a worker has it, attempt {attempts}"
    move(connection, study_id, StudyState.GRADING, reason, now, attempts=attempts)
    return found_and_locked(connection, study_id)


def give_back(connection: Connection, study_id: int, turn: tuple[int, int], now: datetime) -> None:
    study = found_and_locked(connection, study_id)
    if study.state == StudyState.GRADING and (study.round, study.attempts) == turn:
        reason = "the node was stopped while it graded"
        move(connection, study_id, StudyState.QUEUED, reason, now, attempts=study.attempts - 1)


def move(
    connection: Connection, study_id: int, state: StudyState, reason: str, now: datetime, **values: object
) -> None:
    """Puts a generation into a state, with its line in the history."""
    connection.execute(
        update(STUDY).where(STUDY.c.id == study_id).values(state=state.value, reason=reason, changed_at=now, **values)
    )
    write_history(connection, study_id, state, reason, now)


def write_history(connection: Connection, study_id: int, state: StudyState, reason: str, now: datetime) -> None:
    connection.execute(insert(HISTORY).values(study_id=study_id, at=now, state=state.value, reason=reason))


def open_studies(connection: Connection) -> tuple[OpenStudy, ...]:
    newest_sender = (
        select(INSTANCE.c.calling_ae_title)
        .where(INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid, INSTANCE.c.role == Recorded.NEW)
        .order_by(INSTANCE.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(STUDY, newest_sender.label("calling_ae_title"))
        .where(STUDY.c.state == StudyState.RECEIVING)
        .order_by(STUDY.c.last_received_at)
    )
    return tuple(
        OpenStudy(
            study_id=row.id,
            study_instance_uid=row.study_instance_uid,
            calling_ae_title=row.calling_ae_title or "",
            first_received_at=row.first_received_at,
            last_received_at=row.last_received_at,
            instance_count=row.instance_count,
        )
        for row in rows
    )


def series_counts(connection: Connection, study_instance_uid: str) -> tuple[SeriesCount, ...]:
    rows = connection.execute(
        select(INSTANCE.c.series_instance_uid, func.min(INSTANCE.c.modality), func.count())
        .where(INSTANCE.c.study_instance_uid == study_instance_uid, INSTANCE.c.role == Recorded.NEW)
        .where(INSTANCE.c.purged_at.is_(None))
        .group_by(INSTANCE.c.series_instance_uid)
    )
    return tuple(
        SeriesCount(series_instance_uid=uid, modality=modality, instance_count=count) for uid, modality, count in rows
    )


def note_waiting(connection: Connection, study_id: int, reason: str) -> None:
    connection.execute(
        update(STUDY)
        .where(STUDY.c.id == study_id, STUDY.c.state == StudyState.RECEIVING, STUDY.c.reason != reason)
        .values(reason=reason)
    )


def close(  # noqa: PLR0913, PLR0917 - what it writes down
    connection: Connection, study_id: int, last_received_at: datetime, graded_series: str, reason: str, now: datetime
) -> bool:
    study = locked(connection, study_id)
    if study is None or study.state != StudyState.RECEIVING or study.last_received_at > last_received_at:
        return False
    images = connection.execute(_images_of(study.study_instance_uid)).all()
    move(
        connection,
        study_id,
        StudyState.QUEUED,
        reason,
        now,
        closed_at=now,
        digest=_digest(images, graded_series),
        instance_count=len(images),
        last_instance_id=images[-1].id,
    )
    return True


def prioritise(connection: Connection, study_id: int, priority: int) -> bool:
    return bool(connection.execute(update(STUDY).where(STUDY.c.id == study_id).values(priority=priority)).rowcount)


def _images_of(study_instance_uid: str) -> Select[Any]:
    return (
        select(INSTANCE)
        .where(INSTANCE.c.study_instance_uid == study_instance_uid, INSTANCE.c.role == Recorded.NEW)
        .order_by(INSTANCE.c.id)
    )


def _digest(images: list[Row[Any]] | Any, graded_series: str) -> str:
    """Over the series that is graded where that is known, else over the MR objects where there are any.

    A report, a key object or another series that arrives later changes nothing to grade.
    """
    of_series = [image for image in images if image.series_instance_uid == graded_series]
    graded = of_series or [image for image in images if image.modality == "MR"] or images
    lines = sorted(f"{image.sop_instance_uid} {image.sha256}\n" for image in graded)
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def instances(connection: Connection, study: StudyRecord, last_instance_id: int | None) -> tuple[ReceivedInstance, ...]:
    query = _images_of(study.study_instance_uid)
    if last_instance_id is not None:
        query = query.where(INSTANCE.c.id <= last_instance_id)
    return tuple(_received(row) for row in connection.execute(query))


def conflicts(connection: Connection, study_instance_uid: str) -> int:
    images = select(INSTANCE.c.sop_instance_uid).where(
        INSTANCE.c.study_instance_uid == study_instance_uid, INSTANCE.c.role == Recorded.NEW
    )
    of_this_study = (INSTANCE.c.study_instance_uid == study_instance_uid) | INSTANCE.c.sop_instance_uid.in_(images)
    return connection.execute(
        select(func.count()).select_from(INSTANCE).where(INSTANCE.c.role == Recorded.CONFLICT, of_this_study)
    ).scalar_one()


def _received(row: Row[Any]) -> ReceivedInstance:
    values = {name: getattr(row, name) for name in _INSTANCE_FIELDS} | {"path": Path(row.path)}
    return ReceivedInstance(**values)


def study_record(row: Row[Any]) -> StudyRecord:
    """A row of the study table, made of its columns."""
    values = row._mapping
    fields = {name: values[name] for name in _STUDY_FIELDS if name != "study_id"}
    return StudyRecord(**(fields | {"study_id": values["id"], "state": StudyState(values["state"])}))
