"""What the ledger does for each image that arrives: says what it is, writes it down, counts it into its study.

Every function runs inside the caller's transaction. On PostgreSQL the row of a study's newest generation is the lock
that puts recorders and closers of that study in a line, so the ids of its images grow in the order they are committed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import (
    Connection,
    String,
    and_,
    bindparam,
    case,
    false,
    insert,
    literal,
    or_,
    select,
    union_all,
    update,
)

from node.ledger_intake import newest_generation, write_history
from node.ledger_prepared import Prepared
from node.ledger_schema import INSTANCE, RESULT, STUDY, UtcTime
from node.records import ReceivedInstance, Recorded, StudyState

_FIELDS = tuple(ReceivedInstance.__slots__)
_UID = bindparam("uid", type_=String(), required=True)
_LAST = bindparam("last", type_=UtcTime(), required=True)
_SAME_UID = Prepared(
    union_all(
        select(INSTANCE.c.role, INSTANCE.c.sha256, INSTANCE.c.path, INSTANCE.c.purged_at.is_not(None)).where(
            INSTANCE.c.sop_instance_uid == _UID
        ),
        select(literal(Recorded.OWN_RESULT.value), literal(""), literal(""), false()).where(
            RESULT.c.sop_instance_uid == _UID
        ),
    )
)
"""What is kept under a SOP Instance UID; without a path where it is a result of ours."""
_COUNT_IN = Prepared(
    update(STUDY)
    .where(STUDY.c.study_instance_uid == _UID, STUDY.c.state == StudyState.RECEIVING.value)
    .values(
        instance_count=STUDY.c.instance_count + bindparam("more", required=True),
        last_received_at=case((STUDY.c.last_received_at < _LAST, _LAST), else_=STUDY.c.last_received_at),
        changed_at=case((STUDY.c.changed_at < _LAST, _LAST), else_=STUDY.c.changed_at),
    )
)
"""Only the newest generation of a study can be receiving."""
_INSERT = Prepared(insert(INSTANCE).inline(), columns=(*_FIELDS, "role"))


class _Kept(NamedTuple):
    role: str
    sha256: str
    path: str
    is_purged: bool = False
    """Its file was deleted; the same bytes are welcome again."""


def record(connection: Connection, instances: Sequence[ReceivedInstance]) -> tuple[Recorded, ...]:
    """Writes images down, in order; says what each is."""
    kept = {uid: _kept_under(connection, uid) for uid in {instance.sop_instance_uid for instance in instances}}
    what, rows = [], []
    arrivals: dict[str, list[datetime]] = {}
    for instance in instances:
        same_uid = kept[instance.sop_instance_uid]
        known = _known(instance, same_uid)
        role = known or _role(same_uid)
        what.append(role)
        if known is None:
            was_purged = any(kept.is_purged for kept in same_uid)
            if not (was_purged and _taken_back(connection, instance, role)):
                rows.append(_row(instance, role))
            same_uid.append(_Kept(role.value, instance.sha256, str(instance.path)))
            if role is Recorded.NEW:
                arrivals.setdefault(instance.study_instance_uid, []).append(instance.received_at)
    for study_instance_uid in sorted(arrivals):  # always in this order: two recorders must not wait for each other
        _count_into_generation(connection, study_instance_uid, arrivals[study_instance_uid])
    if rows:
        _INSERT.run_for_each(connection, rows)
    return tuple(what)


def _kept_under(connection: Connection, sop_instance_uid: str) -> list[_Kept]:
    return [_Kept._make(row) for row in _SAME_UID.run(connection, {"uid": sop_instance_uid})]


def path_of(connection: Connection, sop_instance_uid: str, sha256: str) -> Path | None:
    """The file of an object that is kept with these bytes; None where there is none, or it was deleted."""
    kept = (kept for kept in _kept_under(connection, sop_instance_uid) if kept.sha256 == sha256 and not kept.is_purged)
    found = next(kept, None)
    return Path(found.path) if found else None


def is_own_result(connection: Connection, sop_instance_uid: str) -> bool:
    """Whether this node made the object."""
    return any(not kept.path for kept in _kept_under(connection, sop_instance_uid))


def _known(instance: ReceivedInstance, same_uid: Collection[_Kept]) -> Recorded | None:
    for kept in same_uid:
        if kept.path == str(instance.path):
            return Recorded(kept.role)  # an earlier attempt of this call was committed, though its answer got lost
        if kept.sha256 == instance.sha256 and not kept.is_purged:
            return Recorded.SAME_AGAIN
    return None


def _role(same_uid: Collection[_Kept]) -> Recorded:
    if any(not kept.path for kept in same_uid):
        return Recorded.OWN_RESULT
    is_taken = any(kept.role == Recorded.NEW.value and not kept.is_purged for kept in same_uid)
    return Recorded.CONFLICT if is_taken else Recorded.NEW


def _taken_back(connection: Connection, instance: ReceivedInstance, role: Recorded) -> bool:
    """Puts it into the row of one whose file was deleted: the study may be sent again, as it was or corrected."""
    purged = and_(INSTANCE.c.sop_instance_uid == instance.sop_instance_uid, INSTANCE.c.purged_at.is_not(None))
    same_bytes = INSTANCE.c.sha256 == instance.sha256
    number = connection.execute(
        select(INSTANCE.c.id)
        .where(purged, or_(same_bytes, INSTANCE.c.role == role.value))
        .order_by(same_bytes.desc(), INSTANCE.c.id)
        .limit(1)
    ).scalar()
    if number is None:
        return False
    values = _row(instance, role) | {"purged_at": None}
    connection.execute(update(INSTANCE).where(INSTANCE.c.id == number).values(values))
    return True


def _row(instance: ReceivedInstance, role: Recorded) -> dict[str, object]:
    values = {name: getattr(instance, name) for name in _FIELDS}
    return values | {"path": str(instance.path), "role": role.value}


def _count_into_generation(connection: Connection, study_instance_uid: str, arrivals: Sequence[datetime]) -> None:
    """More images in the generation that receives; a new generation where none does."""
    first, last = min(arrivals), max(arrivals)
    more = {"uid": study_instance_uid, "more": len(arrivals), "last": last}
    if _COUNT_IN.run(connection, more).rowcount:
        return
    newest = newest_generation(connection, study_instance_uid)
    if newest is not None and newest.state == StudyState.RECEIVING:  # opened by somebody else in this moment
        _COUNT_IN.run(connection, more)
        return
    study_id = connection.execute(
        insert(STUDY)
        .values(
            study_instance_uid=study_instance_uid,
            generation=1 if newest is None else newest.generation + 1,
            state=StudyState.RECEIVING.value,
            reason="",
            digest="",
            attempts=0,
            round=0,
            instance_count=len(arrivals) + (0 if newest is None else newest.instance_count),
            first_received_at=first,
            last_received_at=last,
            changed_at=last,
        )
        .returning(STUDY.c.id)
    ).scalar_one()
    reason = "the first image came" if newest is None else "an image came after the study was closed"
    write_history(connection, study_id, StudyState.RECEIVING, reason, first)
