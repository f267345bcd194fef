"""The steps of ``ledger_proofs``. Every function runs inside the caller's transaction.

Who changes a delivery has locked its study's row before, as senders do: the two never wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, insert, literal, or_, select, update

from node import ledger_outbox as outbox
from node.ledger_intake import locked, move, write_history
from node.ledger_schema import COMMITMENT, COMMITMENT_ITEM, DELIVERY, DELIVERY_EVENT, RESULT, STUDY, UtcTime
from node.proofs import CommitmentState, Filed, Patience, Report, Unproven, failure_text, is_asked_again
from node.records import DeliveryEvent, DeliveryState, StudyState

ARRIVED = frozenset({DeliveryState.DELIVERED})
MAY_BE_PROVEN = frozenset({DeliveryState.DELIVERED, DeliveryState.DUE})
"""An archive may find after all what is about to be sent to it again."""
COUNTS_NOT = frozenset({DeliveryState.REPLACED, DeliveryState.DISCARDED})
WAITS = frozenset({CommitmentState.ASKING, CommitmentState.REQUESTED})

AgainAt = Callable[[int], datetime]
"""How often it was asked without an answer -> when to ask again."""


class Vain(NamedTuple):
    """An attempt at proof that brought none: what to tell, and when to make the next."""

    why: str
    again_at: AgainAt


def is_due(archive: str, now: datetime) -> Any:
    """Of a delivery: that the archive is to be asked about it."""
    return and_(
        DELIVERY.c.archive == archive,
        DELIVERY.c.state == DeliveryState.DELIVERED,
        or_(DELIVERY.c.prove_not_before.is_(None), DELIVERY.c.prove_not_before <= now),
    )


def due(connection: Connection, archive: str, now: datetime, limit: int) -> tuple[Unproven, ...]:
    other = DELIVERY.alias("other")
    is_study_being_sent = (
        select(other.c.id)
        .where(
            other.c.study_id == DELIVERY.c.study_id,
            other.c.archive == archive,
            other.c.state == DeliveryState.DUE,
            other.c.not_before <= now,
        )
        .exists()
    )
    rows = connection.execute(
        select(DELIVERY, RESULT.c.sop_class_uid, RESULT.c.path, STUDY.c.study_instance_uid)
        .join(RESULT, RESULT.c.sop_instance_uid == DELIVERY.c.sop_instance_uid)
        .join(STUDY, STUDY.c.id == DELIVERY.c.study_id)
        .where(is_due(archive, now), ~is_study_being_sent)
        .order_by(DELIVERY.c.study_id, DELIVERY.c.id)
        .limit(limit)
    )
    return tuple(
        Unproven(
            delivery_id=row.id,
            study_id=row.study_id,
            study_instance_uid=row.study_instance_uid,
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
            path=Path(row.path),
            proof_attempts=row.proof_attempts,
        )
        for row in rows
    )


def end_unanswered(
    connection: Connection, transaction_uid: str, end: CommitmentState, vain: Vain, now: datetime
) -> bool:
    """A request that brings nothing: what it is about is asked about again. False where its report came meanwhile."""
    if not move_request(connection, transaction_uid, end, only_from=WAITS):
        return False
    numbers = items(connection, transaction_uid)
    lock_studies(connection, numbers)
    for delivery in deliveries(connection, numbers):
        if delivery.state == DeliveryState.DELIVERED:
            note(connection, delivery, vain, now)
    return True


def ask_at_once(connection: Connection, transaction_uid: str, now: datetime) -> None:
    """Ends a request that may never have been sent; nothing is held against the archive."""
    if move_request(connection, transaction_uid, CommitmentState.OVERDUE, only_from={CommitmentState.ASKING}):
        numbers = items(connection, transaction_uid)
        connection.execute(update(DELIVERY).where(DELIVERY.c.id.in_(numbers)).values(prove_not_before=now))


def move_request(
    connection: Connection,
    transaction_uid: str,
    state: CommitmentState,
    *,
    only_from: Collection[CommitmentState],
    **values: datetime,
) -> bool:
    return bool(
        connection.execute(
            update(COMMITMENT)
            .where(COMMITMENT.c.transaction_uid == transaction_uid)
            .where(COMMITMENT.c.state.in_([item.value for item in only_from]))
            .values(state=state.value, **values)
        ).rowcount
    )


def file_report(connection: Connection, report: Report, patience: Patience, now: datetime) -> Filed:
    request = locked_request(connection, report.transaction_uid)
    if request is None:
        return Filed.UNKNOWN
    if request.answered_at is not None:
        return Filed.AGAIN
    is_late = request.state not in WAITS
    numbers = items(connection, report.transaction_uid)
    studies = lock_studies(connection, numbers)
    for delivery in deliveries(connection, numbers):
        answer = _answer(report, delivery.sop_instance_uid)
        _write_answer(connection, report.transaction_uid, delivery.id, answer)
        reason = report.failed.get(delivery.sop_instance_uid)
        if reason is None and delivery.sop_instance_uid in report.held:
            prove(connection, delivery.id, "proven by storage commitment", now)
        elif is_late or delivery.state != DeliveryState.DELIVERED:
            continue  # asked about again, or sent again, since this request was made
        elif reason is None or is_asked_again(reason):
            note(connection, delivery, Vain(f"not proven yet: {answer}", patience.again_after(now)), now)
        else:
            send_again(connection, delivery, f"the archive does not hold it: {answer}", patience.most_sent_again, now)
    ended = frozenset(CommitmentState) - {CommitmentState.ANSWERED}
    move_request(connection, report.transaction_uid, CommitmentState.ANSWERED, only_from=ended, answered_at=now)
    conclude(connection, studies, now)
    return Filed.LATE if is_late else Filed.ANSWER


def _answer(report: Report, sop_instance_uid: str) -> str:
    if sop_instance_uid in report.failed:
        return failure_text(report.failed[sop_instance_uid])
    return "committed" if sop_instance_uid in report.held else "not named in the report"


def _write_answer(connection: Connection, transaction_uid: str, delivery_id: int, answer: str) -> None:
    connection.execute(
        update(COMMITMENT_ITEM)
        .where(COMMITMENT_ITEM.c.transaction_uid == transaction_uid, COMMITMENT_ITEM.c.delivery_id == delivery_id)
        .values(answer=answer)
    )


def prove(connection: Connection, delivery_id: int, how: str, now: datetime) -> bool:
    """PROVEN, unless something else became of it."""
    proven = DeliveryEvent(at=now, state=DeliveryState.PROVEN, status=how)
    return outbox.change(connection, delivery_id, proven, only_from=MAY_BE_PROVEN, proven_at=now)


def note(connection: Connection, delivery: Row[Any], vain: Vain, now: datetime) -> None:
    """Why it is not proven yet; a line in its history where that is news, and not one at each attempt of a month."""
    connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == delivery.id)
        .values(
            last_status=vain.why,
            prove_not_before=vain.again_at(delivery.proof_attempts),
            proof_attempts=delivery.proof_attempts + 1,
        )
    )
    if delivery.last_status != vain.why:
        connection.execute(
            insert(DELIVERY_EVENT).values(delivery_id=delivery.id, at=now, state=delivery.state, status=vain.why)
        )


def note_all(connection: Connection, which: Any, why: str, again_at: datetime, now: datetime) -> None:
    """The same for many at once, without counting an attempt: an archive that is away may owe thousands of proofs."""
    told = select(DELIVERY.c.id, literal(now, UtcTime()), DELIVERY.c.state, literal(why)).where(
        which, DELIVERY.c.last_status != why
    )
    connection.execute(insert(DELIVERY_EVENT).from_select(["delivery_id", "at", "state", "status"], told))
    connection.execute(update(DELIVERY).where(which).values(last_status=why, prove_not_before=again_at))


def send_again(connection: Connection, delivery: Row[Any], why: str, most_sent_again: int, now: datetime) -> None:
    """DUE again; a dead letter when that did not help often enough. Its study waits for it again."""
    is_hopeless = delivery.sent_again >= most_sent_again
    times = f" ({delivery.sent_again + 1} times)" if is_hopeless else ""
    end = DeliveryState.DEAD if is_hopeless else DeliveryState.DUE
    changed = outbox.change(
        connection,
        delivery.id,
        DeliveryEvent(at=now, state=end, status=why + times),
        only_from=ARRIVED,
        not_before=now,
        due_since=now,
        attempts=0,
        sent_again=delivery.sent_again if is_hopeless else delivery.sent_again + 1,
        proof_attempts=0,
        prove_not_before=None,
    )
    study = locked(connection, delivery.study_id)
    if changed and study is not None and study.state == StudyState.DELIVERED:
        move(connection, study.id, StudyState.GRADED, f"{delivery.archive} does not hold every result after all", now)


def conclude(connection: Connection, studies: Collection[int], now: datetime) -> None:
    """After proofs: notes the studies of which every delivery that counts is PROVEN."""
    for study_id in studies:
        study = locked(connection, study_id)
        states = set(connection.execute(select(DELIVERY.c.state).where(DELIVERY.c.study_id == study_id)).scalars())
        if study is None or states - COUNTS_NOT != {DeliveryState.PROVEN}:
            continue
        if study.state == StudyState.GRADED:  # what was to be sent again has been found after all
            outbox.deliver_study_if_complete(connection, study_id, now)
        if study.proven_at is None:
            connection.execute(update(STUDY).where(STUDY.c.id == study_id).values(proven_at=now))
            state = connection.execute(select(STUDY.c.state).where(STUDY.c.id == study_id)).scalar_one()
            write_history(connection, study_id, StudyState(state), "every archive has proved that it holds it", now)


def lock_studies(connection: Connection, delivery_ids: Collection[int]) -> tuple[int, ...]:
    """The studies of deliveries, each locked until the transaction ends."""
    studies = set(connection.execute(select(DELIVERY.c.study_id).where(DELIVERY.c.id.in_(delivery_ids))).scalars())
    for study_id in sorted(studies):
        locked(connection, study_id)
    return tuple(sorted(studies))


def deliveries(connection: Connection, delivery_ids: Collection[int]) -> Sequence[Row[Any]]:
    return connection.execute(select(DELIVERY).where(DELIVERY.c.id.in_(delivery_ids)).order_by(DELIVERY.c.id)).all()


def locked_request(connection: Connection, transaction_uid: str) -> Row[Any] | None:
    return connection.execute(
        select(COMMITMENT).where(COMMITMENT.c.transaction_uid == transaction_uid).with_for_update()
    ).first()


def items(connection: Connection, transaction_uid: str) -> Sequence[int]:
    """Numbers of the deliveries that a request is about."""
    return (
        connection.execute(
            select(COMMITMENT_ITEM.c.delivery_id)
            .where(COMMITMENT_ITEM.c.transaction_uid == transaction_uid)
            .order_by(COMMITMENT_ITEM.c.delivery_id)
        )
        .scalars()
        .all()
    )
