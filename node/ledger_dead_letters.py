"""Dead letters: deliveries that ended without arriving. Nothing leaves the list by itself; the operator reads it, and
has what is on it tried again, sent to another archive, or taken off.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from node import ledger_deliveries as deliveries
from node import ledger_outbox as outbox
from node import ledger_proof_steps
from node.ledger_database import Database, UnknownStudy
from node.ledger_intake import locked, move, newest_generation
from node.ledger_schema import DELIVERY, RESULT, STUDY
from node.records import ARRIVED, Delivery, DeliveryEvent, DeliveryState, StudyState
from node.retry import too_old

_AT_ONCE = 1000
"""Deliveries that one transaction gives up: it must not hold up the receiver's."""
NEVER_PROVEN = "no archive of this name in the settings; not proven"
_DEAD = frozenset({DeliveryState.DEAD})
_NOT_ARRIVED = frozenset({DeliveryState.DUE, DeliveryState.DEAD})


class DeadLetters:
    """The list of them; reached as ``ledger.dead_letters``. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def listed(self, *, limit: int) -> tuple[Delivery, ...]:
        """The dead letters, by study and archive."""
        return self._database.read(lambda connection: deliveries.dead(connection, limit))

    def never_proven(self, known: Collection[str], *, limit: int) -> tuple[Delivery, ...]:
        """What was taken, without proof, by archives that are not among ``known``: nobody will ever ask them."""
        return self._database.read(lambda connection: deliveries.unproven_elsewhere(connection, known, limit))

    def say_never_proven(self, archive: str, *, now: datetime) -> int:
        """DELIVERED stays, with ``NEVER_PROVEN`` in its history, once. Returns how many it was said of."""

        def say(connection: Connection) -> int:
            unsaid = select(DELIVERY.c.id).where(
                DELIVERY.c.archive == archive,
                DELIVERY.c.state == DeliveryState.DELIVERED.value,
                DELIVERY.c.last_status != NEVER_PROVEN,
            )
            numbers = connection.execute(unsaid.order_by(DELIVERY.c.id).limit(_AT_ONCE)).scalars().all()
            event = DeliveryEvent(at=now, state=DeliveryState.DELIVERED, status=NEVER_PROVEN)
            for number in numbers:
                outbox.change(connection, number, event, only_from={DeliveryState.DELIVERED})
            return len(numbers)

        return self._database.write(say)

    def retry(self, delivery_ids: Collection[int], *, now: datetime) -> int:
        """DEAD -> DUE, with their attempts forgotten; returns how many of them were dead letters."""

        def retry(connection: Connection) -> int:
            why = "the operator asked for another attempt"
            return sum(outbox.set_going(connection, number, why, now, _DEAD) for number in sorted(delivery_ids))

        return self._database.write(retry)

    def give_up(self, archive: str, *, due_before: datetime, give_up_after_s: float, now: datetime) -> int:
        """Of an archive out of reach: DUE -> DEAD, what has been due since before a moment. Returns how many."""

        def give_up(connection: Connection) -> int:
            old = select(DELIVERY.c.id, DELIVERY.c.last_status).where(
                DELIVERY.c.archive == archive,
                DELIVERY.c.state == DeliveryState.DUE.value,
                DELIVERY.c.due_since <= due_before,
            )
            rows = connection.execute(old.order_by(DELIVERY.c.id).limit(_AT_ONCE)).all()
            for row in rows:
                status = too_old(give_up_after_s, row.last_status)
                event = DeliveryEvent(at=now, state=DeliveryState.DEAD, status=status)
                outbox.change(connection, row.id, event, only_from={DeliveryState.DUE})
            return len(rows)

        return self._database.write(give_up)

    def discard(
        self, delivery_ids: Collection[int], *, why: str, now: datetime, known: Collection[str] | None = None
    ) -> int:
        """DEAD -> DISCARDED, and where ``known`` archives are given what others took without proof; a study of which
        nothing else is left to send becomes DELIVERED. Returns how many.
        """

        def discard(connection: Connection) -> int:
            return len(_taken_off(connection, delivery_ids, why, now, known))

        return self._database.write(discard)

    def redirect(
        self, delivery_ids: Collection[int], *, archive: str, now: datetime, known: Collection[str] | None = None
    ) -> tuple[int, int]:
        """As ``discard``, and the same results due at another archive, unless it has them.

        Returns how many are sent there, and how many are there (or on their way) already.
        """

        def redirect(connection: Connection) -> tuple[int, int]:
            elsewhere = [number for number in delivery_ids if _archive_of(connection, number) not in (archive, None)]
            meant = [number for number in sorted(elsewhere) if _may_be_taken_off(connection, number, known)]
            sent = [number for number in meant if _send_to(connection, number, archive, now)]
            there = [number for number in meant if number not in set(sent)]
            _taken_off(connection, sent, f"sent to {archive} instead", now, known)
            _taken_off(connection, there, f"already at {archive}", now, known)
            return len(sent), len(there)

        return self._database.write(redirect)


def _archive_of(connection: Connection, delivery_id: int) -> str | None:
    return connection.execute(select(DELIVERY.c.archive).where(DELIVERY.c.id == delivery_id)).scalar()


def _may_be_taken_off(connection: Connection, delivery_id: int, known: Collection[str] | None) -> bool:
    """It is a dead letter, or was taken without proof by an archive that is not known."""
    row = connection.execute(select(DELIVERY.c.state, DELIVERY.c.archive).where(DELIVERY.c.id == delivery_id)).first()
    if row is None:
        return False
    never_proven = row.state == DeliveryState.DELIVERED and known is not None and row.archive not in known
    return never_proven or row.state == DeliveryState.DEAD


def _send_to(connection: Connection, delivery_id: int, archive: str, now: datetime) -> bool:
    """A delivery of the same result to another archive; one that has ended there without arriving goes again. False
    where it is there, or on its way.
    """
    dead = connection.execute(select(DELIVERY).where(DELIVERY.c.id == delivery_id)).one()
    there = connection.execute(
        select(DELIVERY.c.id).where(DELIVERY.c.archive == archive, DELIVERY.c.sop_instance_uid == dead.sop_instance_uid)
    ).scalar()
    if there is None:
        outbox.list_delivery(connection, dead.study_id, archive, dead.sop_instance_uid, now)
        return True
    ended = frozenset({DeliveryState.DEAD, DeliveryState.DISCARDED, DeliveryState.REPLACED})
    return outbox.set_going(connection, there, f"the operator sent it here instead of to {dead.archive}", now, ended)


def _taken_off(
    connection: Connection, delivery_ids: Collection[int], why: str, now: datetime, known: Collection[str] | None
) -> Sequence[int]:
    """The numbers of those that are DISCARDED now."""
    numbers = sorted(delivery_ids)
    studies = sorted(set(connection.execute(select(DELIVERY.c.study_id).where(DELIVERY.c.id.in_(numbers))).scalars()))
    states = {number: row.state for number in studies if (row := locked(connection, number)) is not None}
    event = DeliveryEvent(at=now, state=DeliveryState.DISCARDED, status=why)
    taken = [number for number in numbers if _may_be_taken_off(connection, number, known)]
    for number in taken:
        outbox.change(connection, number, event, only_from=_DEAD | {DeliveryState.DELIVERED})
    for study_id, state in states.items():
        if state == StudyState.GRADED:
            outbox.deliver_study_if_complete(connection, study_id, now)
    ledger_proof_steps.conclude(connection, studies, now)  # what is left may be proven
    return taken


def retry_study(connection: Connection, study_instance_uid: str, now: datetime) -> int:
    """See ``Ledger.retry_study``."""
    newest = newest_generation(connection, study_instance_uid)
    if newest is None:
        raise UnknownStudy("no image of this study has been received")
    requeued = newest.state in (StudyState.FAILED, StudyState.DECLINED)
    if requeued:
        reason = "the operator asked for another attempt"
        move(connection, newest.id, StudyState.QUEUED, reason, now, attempts=0, round=newest.round + 1)
    return int(requeued) + _set_going(connection, study_instance_uid, now)


def _set_going(connection: Connection, study_instance_uid: str, now: datetime) -> int:
    """Every delivery of every generation that has not arrived is due now; returns how many."""
    why = "the operator asked for another attempt"
    first_forms = _take_back_replacements(connection, study_instance_uid, now)
    numbers = connection.execute(
        select(DELIVERY.c.id)
        .join(STUDY, STUDY.c.id == DELIVERY.c.study_id)
        .where(STUDY.c.study_instance_uid == study_instance_uid, DELIVERY.c.state.in_(_NOT_ARRIVED))
        .order_by(DELIVERY.c.id)
    ).scalars()
    again = sum(outbox.set_going(connection, number, why, now, _NOT_ARRIVED) for number in list(numbers))
    replaced = frozenset({DeliveryState.REPLACED})
    return again + sum(outbox.set_going(connection, number, why, now, replaced) for number in first_forms)


def _take_back_replacements(connection: Connection, study_instance_uid: str, now: datetime) -> Sequence[int]:
    """Where no form of a kind has arrived, the first one (it is given back) is tried again: the archive may take it by
    now. The others stand back until then.
    """
    rows = connection.execute(
        select(DELIVERY.c.id, DELIVERY.c.study_id, DELIVERY.c.archive, DELIVERY.c.state, RESULT.c.kind)
        .join(RESULT, RESULT.c.sop_instance_uid == DELIVERY.c.sop_instance_uid)
        .join(STUDY, STUDY.c.id == DELIVERY.c.study_id)
        .where(STUDY.c.study_instance_uid == study_instance_uid, DELIVERY.c.state != DeliveryState.DISCARDED)
        .order_by(DELIVERY.c.id)
    )
    forms: dict[tuple[int, str, str], list[tuple[int, str]]] = {}
    for row in rows:
        forms.setdefault((row.study_id, row.archive, row.kind), []).append((row.id, row.state))
    first_forms = []
    for tried in forms.values():
        states = {state for _, state in tried}
        if DeliveryState.REPLACED in states and not states & ARRIVED:
            (first, _), *others = tried
            first_forms.append(first)
            for number, _ in others:
                status = "stands back while the first form is tried again"
                event = DeliveryEvent(at=now, state=DeliveryState.REPLACED, status=status)
                outbox.change(connection, number, event, only_from=_NOT_ARRIVED)
    return first_forms
