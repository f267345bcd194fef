"""What the ledger knows of single studies: their history with the steps of each attempt, their deliveries with all that
became of them. Reads, but for the steps.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, and_, func, select, update

from node.ledger_database import Database
from node.ledger_intake import conflicts, study_record
from node.ledger_schema import DELIVERY, DELIVERY_EVENT, HISTORY, INSTANCE, RESULT, STUDY
from node.records import DeliveryEvent, DeliveryState, Recorded, StudyState
from node.timeline import Entry, Life, Sending

LONGEST_NUMBER = 18
"""Digits; more do not fit into the database's integers."""


class Timelines:
    """Reached as ``ledger.timelines``. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, study: str) -> tuple[Life, ...]:
        """Every generation of a study, the oldest first; none where it is not known.

        Args:
            study: the number of one generation (digits only), which is then all that is told; or a Study Instance UID.
        """
        number = study_number(study)
        return self._lives(STUDY.c.study_instance_uid == study if number is None else STUDY.c.id == number)

    def of_study(self, study_instance_uid: str) -> tuple[Life, ...]:
        """Every generation of a study, the oldest first; none where it is not known."""
        return self._lives(STUDY.c.study_instance_uid == study_instance_uid)

    def kept_beside(self, study_instance_uid: str) -> Mapping[str, int]:
        """The objects of a study that were kept as conflicts: how many, by the study that had their UIDs before."""
        first = INSTANCE.alias("first")
        query = (
            select(first.c.study_instance_uid, func.count(INSTANCE.c.id.distinct()))
            .join(first, first.c.sop_instance_uid == INSTANCE.c.sop_instance_uid)
            .where(
                INSTANCE.c.study_instance_uid == study_instance_uid,
                INSTANCE.c.role == Recorded.CONFLICT,
                first.c.role == Recorded.NEW,
            )
            .group_by(first.c.study_instance_uid)
        )
        return self._database.read(lambda connection: {row[0]: row[1] for row in connection.execute(query)})

    def _lives(self, wanted: ColumnElement[bool]) -> tuple[Life, ...]:
        def read(connection: Connection) -> tuple[Life, ...]:
            rows = connection.execute(select(STUDY).where(wanted).order_by(STUDY.c.generation)).all()
            return tuple(_life(connection, row) for row in rows)

        return self._database.read(read)

    def note_steps(self, study_id: int, steps: Sequence[tuple[str, datetime]]) -> None:
        """When each step of the attempt that ended last was done; what is noted already stays."""
        last = (
            select(HISTORY.c.id)
            .where(HISTORY.c.study_id == study_id, HISTORY.c.state.in_(_ENDS_OF_WORK))
            .order_by(HISTORY.c.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        said = json.dumps([(step, at.isoformat()) for step, at in steps])
        note = update(HISTORY).where(HISTORY.c.id == last, HISTORY.c.steps == "").values(steps=said)
        self._database.write(lambda connection: connection.execute(note))


_ENDS_OF_WORK = [state.value for state in (StudyState.GRADED, StudyState.DECLINED, StudyState.FAILED)]


def study_number(study: str) -> int | None:
    """The number that the operator typed; None for anything else, such as a Study Instance UID."""
    return int(study) if study.isascii() and study.isdecimal() and len(study) <= LONGEST_NUMBER else None


def histories(connection: Connection, study_ids: Collection[int]) -> Mapping[int, Sequence[Entry]]:
    """The whole history of each study, in order."""
    found: dict[int, list[Entry]] = {study_id: [] for study_id in study_ids}
    rows = connection.execute(select(HISTORY).where(HISTORY.c.study_id.in_(found)).order_by(HISTORY.c.id))
    for row in rows:
        found[row.study_id].append(_entry(row))
    return found


def _life(connection: Connection, row: Row[Any]) -> Life:
    study = study_record(row)
    newest_sender = (
        select(INSTANCE.c.calling_ae_title)
        .where(INSTANCE.c.study_instance_uid == study.study_instance_uid, INSTANCE.c.role == Recorded.NEW)
        .order_by(INSTANCE.c.id.desc())
        .limit(1)
    )
    return Life(
        study=study,
        calling_ae_title=connection.execute(newest_sender).scalar() or "",
        conflicts=conflicts(connection, study.study_instance_uid),
        images_deleted_at=_deleted_at(
            connection,
            INSTANCE.c.purged_at,
            and_(INSTANCE.c.study_instance_uid == study.study_instance_uid, INSTANCE.c.role == Recorded.NEW),
        ),
        results_deleted_at=_deleted_at(connection, RESULT.c.purged_at, RESULT.c.study_id == study.study_id),
        history=tuple(histories(connection, [study.study_id])[study.study_id]),
        sendings=_sendings(connection, study.study_id),
    )


def _deleted_at(
    connection: Connection, purged_at: Column[datetime | None], which: ColumnElement[bool]
) -> datetime | None:
    """When the last of some files was deleted; None where one is left, or none ever was."""
    count, deleted, last = connection.execute(
        select(func.count(), func.count(purged_at), func.max(purged_at)).where(which)
    ).one()
    return last if count and count == deleted else None


def _entry(row: Row[Any]) -> Entry:
    steps = tuple((step, datetime.fromisoformat(at)) for step, at in json.loads(row.steps or "[]"))
    return Entry(number=row.id, at=row.at, state=StudyState(row.state), reason=row.reason, steps=steps)


def _sendings(connection: Connection, study_id: int) -> tuple[Sending, ...]:
    events: dict[int, list[DeliveryEvent]] = {}
    changes = (
        select(DELIVERY_EVENT)
        .join(DELIVERY, DELIVERY.c.id == DELIVERY_EVENT.c.delivery_id)
        .where(DELIVERY.c.study_id == study_id)
        .order_by(DELIVERY_EVENT.c.id)
    )
    for row in connection.execute(changes):
        event = DeliveryEvent(at=row.at, state=DeliveryState(row.state), status=row.status)
        events.setdefault(row.delivery_id, []).append(event)
    rows = connection.execute(
        select(DELIVERY, RESULT.c.kind, RESULT.c.sop_class_uid)
        .join(RESULT, RESULT.c.sop_instance_uid == DELIVERY.c.sop_instance_uid)
        .where(DELIVERY.c.study_id == study_id)
        .order_by(DELIVERY.c.archive, DELIVERY.c.id)
    )
    return tuple(_sending(row, events.get(row.id, ())) for row in rows)


def _sending(row: Row[Any], events: Sequence[DeliveryEvent]) -> Sending:
    return Sending(
        delivery_id=row.id,
        archive=row.archive,
        kind=row.kind,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        not_before=row.not_before,
        last_status=row.last_status,
        listed_at=row.listed_at,
        arrived_at=row.arrived_at,
        proven_at=row.proven_at,
        proof_attempts=row.proof_attempts,
        events=tuple(events),
    )
