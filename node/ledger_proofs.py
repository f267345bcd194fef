"""What the ledger knows of proof: what to ask an archive about, what was asked, what was answered, and what follows.

The report about a request may come to the dispatcher or to the receiver, which are two processes, at any time and more
than once.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, func, insert, select, update

from node import ledger_proof_steps as steps
from node.ledger_database import Database
from node.ledger_schema import COMMITMENT, COMMITMENT_ITEM, DELIVERY, STUDY
from node.proofs import LOOKS_BEFORE_SENT_AGAIN, CommitmentState, Filed, Patience, Report, Unproven, look_again_at
from node.records import DeliveryState


class Proofs:
    """Reached as ``ledger.proofs``. Each method is one transaction, and may raise ``LedgerError``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, archive: str, now: datetime, *, limit: int) -> tuple[Unproven, ...]:
        """What an archive is to be asked about now. A study waits until nothing more of it is to be sent there now."""
        return self._database.read(lambda connection: steps.due(connection, archive, now, limit))

    def postpone(
        self, archive: str, *, why: str, until: datetime, now: datetime, only: Collection[int] | None = None
    ) -> None:
        """The archive could not be asked (about ``only`` these, or anything): nothing is held against it."""

        def postpone(connection: Connection) -> None:
            which = steps.is_due(archive, now) if only is None else DELIVERY.c.id.in_(only)
            steps.note_all(connection, which, why, until, now)

        self._database.write(postpone)

    def ask_at_once(self, study_instance_uid: str, *, archives: Collection[str], now: datetime) -> int:
        """What these archives have not proved of a study is asked about now, earlier attempts forgotten; how much."""
        generations = select(STUDY.c.id).where(STUDY.c.study_instance_uid == study_instance_uid)
        ask = (
            update(DELIVERY)
            .where(DELIVERY.c.study_id.in_(generations), DELIVERY.c.state == DeliveryState.DELIVERED)
            .where(DELIVERY.c.archive.in_(archives))
            .values(prove_not_before=now, proof_attempts=0)
        )
        return self._database.write(lambda connection: connection.execute(ask).rowcount)

    # Storage commitment.

    def asking(
        self, transaction_uid: str, *, archive: str, delivery_ids: Collection[int], overdue_at: datetime, now: datetime
    ) -> None:
        """A request is about to be sent: its report, however early, must find it."""

        def write_down(connection: Connection) -> None:
            if steps.locked_request(connection, transaction_uid) is not None:
                return  # an earlier attempt of this call was committed, though its answer got lost
            connection.execute(
                insert(COMMITMENT).values(
                    transaction_uid=transaction_uid,
                    archive=archive,
                    state=CommitmentState.ASKING.value,
                    requested_at=now,
                    overdue_at=overdue_at,
                )
            )
            asked = [
                {"transaction_uid": transaction_uid, "delivery_id": number, "answer": ""} for number in delivery_ids
            ]
            connection.execute(insert(COMMITMENT_ITEM), asked)
            connection.execute(
                update(DELIVERY).where(DELIVERY.c.id.in_(delivery_ids)).values(prove_not_before=overdue_at)
            )

        self._database.write(write_down)

    def requested(self, transaction_uid: str) -> None:
        """The archive has taken the request: a report is due."""
        asking, requested = CommitmentState.ASKING, CommitmentState.REQUESTED
        self._database.write(
            lambda connection: steps.move_request(connection, transaction_uid, requested, only_from={asking})
        )

    def refused(self, transaction_uid: str, *, why: str, patience: Patience, now: datetime) -> None:
        """The archive answered the request itself with a failure, or not at all: made again later."""

        def refuse(connection: Connection) -> None:
            vain = steps.Vain(why, patience.again_after(now))
            steps.end_unanswered(connection, transaction_uid, CommitmentState.REFUSED, vain, now)

        self._database.write(refuse)

    def end_overdue(self, archive: str, *, patience: Patience, now: datetime) -> int:
        """Requests whose report did not come in time are made again; returns how many."""
        query = (
            select(COMMITMENT.c.transaction_uid)
            .where(COMMITMENT.c.archive == archive, COMMITMENT.c.state.in_(steps.WAITS))
            .where(COMMITMENT.c.overdue_at <= now)
            .order_by(COMMITMENT.c.requested_at)
        )
        overdue = self._database.read(lambda connection: connection.execute(query).scalars().all())
        if not overdue:
            return 0
        why = "not proven yet: no report about the storage commitment came in time"
        vain, state = steps.Vain(why, patience.again_after(now)), CommitmentState.OVERDUE
        return self._database.write(
            lambda connection: sum(steps.end_unanswered(connection, uid, state, vain, now) for uid in overdue)
        )

    def end_interrupted(self, archive: str, *, now: datetime) -> int:
        """Requests that a dispatcher was killed over are made again at once (none may be under way); how many."""

        def end(connection: Connection) -> int:
            interrupted = connection.execute(
                select(COMMITMENT.c.transaction_uid).where(
                    COMMITMENT.c.archive == archive, COMMITMENT.c.state == CommitmentState.ASKING.value
                )
            )
            uids = interrupted.scalars().all()
            for uid in uids:
                steps.ask_at_once(connection, uid, now)
            return len(uids)

        return self._database.write(end)

    def unanswered(self, transaction_uids: Collection[str]) -> int:
        """Of how many of these requests the report has not come yet."""
        query = (
            select(func.count())
            .select_from(COMMITMENT)
            .where(COMMITMENT.c.transaction_uid.in_(transaction_uids), COMMITMENT.c.state.in_(steps.WAITS))
        )
        return self._database.read(lambda connection: connection.execute(query).scalar_one())

    def knows(self, transaction_uid: str) -> bool:
        """Whether a request was made under this UID, and is not forgotten with its study."""
        query = select(COMMITMENT.c.transaction_uid).where(COMMITMENT.c.transaction_uid == transaction_uid)
        return self._database.read(lambda connection: connection.execute(query).first() is not None)

    def reported(self, report: Report, *, patience: Patience, now: datetime) -> Filed:
        """A report has come: what it names becomes PROVEN, is asked about again, or is sent again (see ``Filed``)."""
        return self._database.write(lambda connection: steps.file_report(connection, report, patience, now))

    # Queries.

    def found(self, delivery_ids: Collection[int], *, how: str, now: datetime) -> None:
        """A query found them: PROVEN."""

        def write_down(connection: Connection) -> None:
            studies = steps.lock_studies(connection, delivery_ids)
            for number in sorted(delivery_ids):
                steps.prove(connection, number, f"proven: {how} finds it", now)
            steps.conclude(connection, studies, now)

        self._database.write(write_down)

    def not_found(self, delivery_ids: Collection[int], *, how: str, most_sent_again: int, now: datetime) -> None:
        """A query did not find them: looked for again, then sent again, then dead letters."""

        def write_down(connection: Connection) -> None:
            steps.lock_studies(connection, delivery_ids)
            for delivery in steps.deliveries(connection, delivery_ids):
                looks = delivery.proof_attempts + 1
                if delivery.state != DeliveryState.DELIVERED:
                    continue
                if looks >= LOOKS_BEFORE_SENT_AGAIN:
                    why = f"the archive does not hold it: {how} does not find it"
                    steps.send_again(connection, delivery, why, most_sent_again, now)
                else:
                    vain = steps.Vain(f"not proven yet: {how} does not find it", partial(look_again_at, now))
                    steps.note(connection, delivery, vain, now)

        self._database.write(write_down)

    # To be told.

    def requests(self, archive: str) -> tuple[tuple[str, CommitmentState], ...]:
        """(Transaction UID, where it stands) of every request to an archive, the oldest first."""
        query = (
            select(COMMITMENT.c.transaction_uid, COMMITMENT.c.state)
            .where(COMMITMENT.c.archive == archive)
            .order_by(COMMITMENT.c.requested_at, COMMITMENT.c.transaction_uid)
        )
        return self._database.read(
            lambda connection: tuple((uid, CommitmentState(state)) for uid, state in connection.execute(query))
        )
