"""What the ledger knows of deletion: which studies are proven long enough, and what of them is gone.

The ledger says first that a file goes, then the file goes, then the ledger says that it is gone: a row never claims a
file that is not there. Every step can be repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, func, not_, or_, select, update

from node.ledger_database import Database
from node.ledger_intake import newest_generation
from node.ledger_schema import (
    COMMITMENT,
    COMMITMENT_ITEM,
    DELIVERY,
    DELIVERY_EVENT,
    HISTORY,
    INSTANCE,
    RESULT,
    STUDY,
)
from node.proofs import CommitmentState
from node.records import DeliveryState, Recorded, StudyState

GONE = "purged"
"""In place of the path of a file that is deleted."""
_AT_WORK = (StudyState.RECEIVING, StudyState.QUEUED, StudyState.GRADING, StudyState.GRADED)
_NEVER_SENT = (DeliveryState.REPLACED, DeliveryState.DISCARDED)


class Retention:
    """Reached as ``ledger.retention``. Each method is one transaction, and may raise ``LedgerError``.

    In all of them ``before`` is the time before which the last proof must have come, and ``trusted`` names the archives
    whose answer counts as proof.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def with_images(self, before: datetime, *, trusted: Collection[str], limit: int) -> tuple[str, ...]:
        """Study Instance UIDs of proven studies that have images still."""
        has_images = _exists(INSTANCE, _is_image, INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid)
        return self._proven(before, trusted, limit, has_images)

    def with_results(self, before: datetime, *, trusted: Collection[str], limit: int) -> tuple[str, ...]:
        """... that have no images any more, and results still."""
        has_images = _exists(INSTANCE, _is_image, INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid)
        return self._proven(before, trusted, limit, and_(not_(has_images), _has_results()))

    def with_rows(self, before: datetime, *, trusted: Collection[str], limit: int) -> tuple[str, ...]:
        """... that have no file any more."""
        return self._proven(before, trusted, limit, and_(not_(_has_files()), not_(_has_results())))

    def _proven(self, before: datetime, trusted: Collection[str], limit: int, also: Any) -> tuple[str, ...]:
        query = select(STUDY.c.study_instance_uid).where(_is_proven(before, trusted), also)
        return self._database.read(
            lambda connection: tuple(connection.execute(query.order_by(STUDY.c.id).limit(limit)).scalars())
        )

    def purge_images(
        self, study_instance_uid: str, before: datetime, *, trusted: Collection[str], now: datetime
    ) -> tuple[Path, ...]:
        """From now on the images of the study are held to be deleted; their files are to be removed.

        Empty where the study is not proven (any more): an image came, or something is sent again.
        """
        return self._purge(
            INSTANCE, _images_of(study_instance_uid), study_instance_uid, _is_proven(before, trusted), now
        )

    def purge_results(
        self, study_instance_uid: str, before: datetime, *, trusted: Collection[str], now: datetime
    ) -> tuple[Path, ...]:
        """The same for its results, and for copies of them that came back."""
        proven = _is_proven(before, trusted)
        copies = and_(
            INSTANCE.c.study_instance_uid == study_instance_uid,
            INSTANCE.c.role == Recorded.OWN_RESULT,
            INSTANCE.c.purged_at.is_(None),
        )
        results = and_(RESULT.c.study_id.in_(_generations(study_instance_uid)), RESULT.c.purged_at.is_(None))
        returned = self._purge(INSTANCE, copies, study_instance_uid, proven, now)
        return returned + self._purge(RESULT, results, study_instance_uid, proven, now)

    def _purge(self, table: Table, which: Any, study_instance_uid: str, proven: Any, now: datetime) -> tuple[Path, ...]:
        def purge(connection: Connection) -> tuple[Path, ...]:
            newest_generation(connection, study_instance_uid)  # locked: no image opens another one meanwhile
            is_proven = select(STUDY.c.id).where(STUDY.c.study_instance_uid == study_instance_uid, proven)
            if connection.execute(is_proven).first() is None:
                return ()
            paths = tuple(map(Path, connection.execute(select(table.c.path).where(which)).scalars()))
            connection.execute(update(table).where(which).values(purged_at=now))
            return paths

        return self._database.write(purge)

    def removed(self, paths: Sequence[Path]) -> None:
        """These files are deleted, and will not come back."""

        def write_down(connection: Connection) -> None:
            named = [str(path) for path in paths]
            for table in (INSTANCE, RESULT):
                gone = and_(table.c.path.in_(named), table.c.purged_at.is_not(None))
                connection.execute(update(table).where(gone).values(path=GONE))

        self._database.write(write_down)

    def left_over(self, *, limit: int) -> tuple[Path, ...]:
        """Files that are held to be deleted, and may be there still: a purge was interrupted."""

        def left_over(connection: Connection) -> tuple[Path, ...]:
            busy = STUDY.alias("busy")
            at_work = select(busy.c.study_instance_uid).where(busy.c.state.in_(_AT_WORK))
            idle = select(STUDY.c.id).where(STUDY.c.study_instance_uid.not_in(at_work))
            images = select(INSTANCE.c.path).where(
                INSTANCE.c.purged_at.is_not(None),
                INSTANCE.c.path != GONE,
                INSTANCE.c.study_instance_uid.not_in(at_work),
            )
            results = select(RESULT.c.path).where(
                RESULT.c.purged_at.is_not(None), RESULT.c.path != GONE, RESULT.c.study_id.in_(idle)
            )
            found = [*connection.execute(images.limit(limit)).scalars()]
            return tuple(map(Path, [*found, *connection.execute(results.limit(limit)).scalars()]))

        return self._database.read(left_over)

    def forget(self, study_instance_uid: str, before: datetime, *, trusted: Collection[str]) -> bool:
        """Deletes what the ledger knows of a study, but for objects that were kept beside it; False: not proven."""

        def forget(connection: Connection) -> bool:
            newest_generation(connection, study_instance_uid)
            may_go = and_(_is_proven(before, trusted), not_(_has_files()), not_(_has_results()))
            of_study = STUDY.c.study_instance_uid == study_instance_uid
            if connection.execute(select(STUDY.c.id).where(of_study, may_go)).first() is None:
                return False
            _delete_rows(connection, study_instance_uid)
            return True

        return self._database.write(forget)

    def forget_requests(self, before: datetime) -> int:
        """Deletes requests for storage commitment made before then that never brought an answer; returns how many."""

        ended = (CommitmentState.OVERDUE, CommitmentState.REFUSED)
        is_old = and_(COMMITMENT.c.state.in_(ended), COMMITMENT.c.requested_at <= before)
        old = select(COMMITMENT.c.transaction_uid).where(is_old)

        def forget(connection: Connection) -> int:
            connection.execute(delete(COMMITMENT_ITEM).where(COMMITMENT_ITEM.c.transaction_uid.in_(old)))
            return connection.execute(delete(COMMITMENT).where(is_old)).rowcount

        if self._database.read(lambda connection: connection.execute(old.limit(1)).first()) is None:
            return 0
        return self._database.write(forget)

    # To be told.

    def purged_images(self, study_instance_uid: str) -> tuple[int, datetime | None]:
        """How many images of the study are deleted, and since when."""
        query = select(func.count(), func.max(INSTANCE.c.purged_at)).where(
            INSTANCE.c.study_instance_uid == study_instance_uid,
            INSTANCE.c.role == Recorded.NEW,
            INSTANCE.c.purged_at.is_not(None),
        )
        count, since = self._database.read(lambda connection: connection.execute(query).one())
        return count, since


_is_image = and_(INSTANCE.c.role == Recorded.NEW, INSTANCE.c.purged_at.is_(None))


def _images_of(study_instance_uid: str) -> Any:
    return and_(INSTANCE.c.study_instance_uid == study_instance_uid, _is_image)


def _generations(study_instance_uid: str) -> Any:
    return select(STUDY.c.id).where(STUDY.c.study_instance_uid == study_instance_uid)


def _exists(table: Table, *conditions: Any) -> Any:
    return select(table.c.id).where(*conditions).exists()


def _has_files() -> Any:
    """Of a study row: a file of its images or of copies of its results may be there; conflicts do not count."""
    return _exists(
        INSTANCE,
        INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid,
        INSTANCE.c.role != Recorded.CONFLICT,
        INSTANCE.c.path != GONE,
    )


def _has_results() -> Any:
    """Of a study row: files of results of any of its generations may be there."""
    other = STUDY.alias("generation_with_results")
    return (
        select(RESULT.c.sop_instance_uid)
        .join(other, other.c.id == RESULT.c.study_id)
        .where(other.c.study_instance_uid == STUDY.c.study_instance_uid, RESULT.c.path != GONE)
        .exists()
    )


def _is_proven(before: datetime, trusted: Collection[str]) -> Any:
    """Of a study row: it is the last word on its study, some archive proved by ``before`` to hold what was made of it,
    and nothing of any generation is still to be received, graded, sent, decided or proved.
    """
    proven = or_(
        and_(DELIVERY.c.state == DeliveryState.PROVEN, DELIVERY.c.proven_at <= before),
        and_(
            DELIVERY.c.state == DeliveryState.DELIVERED,
            DELIVERY.c.archive.in_(trusted),
            DELIVERY.c.arrived_at <= before,
        ),
    )
    other = STUDY.alias("other_generation")
    same_study = other.c.study_instance_uid == STUDY.c.study_instance_uid
    later_word = and_(
        other.c.generation > STUDY.c.generation,
        or_(other.c.state != StudyState.UNCHANGED, other.c.changed_at > before),
    )
    is_at_work = select(other.c.id).where(same_study, or_(other.c.state.in_(_AT_WORK), later_word)).exists()
    open_delivery = (
        select(DELIVERY.c.id)
        .join(other, other.c.id == DELIVERY.c.study_id)
        .where(same_study, DELIVERY.c.state.not_in(_NEVER_SENT), not_(proven))
        .exists()
    )
    return and_(
        STUDY.c.state.in_((StudyState.DELIVERED, StudyState.DECLINED)),
        STUDY.c.closed_at <= before,  # follows from the rest, and spares most studies the rest
        _exists(DELIVERY, DELIVERY.c.study_id == STUDY.c.id, proven),
        not_(is_at_work),
        not_(open_delivery),
    )


def _delete_rows(connection: Connection, study_instance_uid: str) -> None:
    generations = _generations(study_instance_uid)
    deliveries = select(DELIVERY.c.id).where(DELIVERY.c.study_id.in_(generations))
    connection.execute(delete(COMMITMENT_ITEM).where(COMMITMENT_ITEM.c.delivery_id.in_(deliveries)))
    emptied = COMMITMENT.c.transaction_uid.not_in(select(COMMITMENT_ITEM.c.transaction_uid))
    connection.execute(delete(COMMITMENT).where(emptied))
    connection.execute(delete(DELIVERY_EVENT).where(DELIVERY_EVENT.c.delivery_id.in_(deliveries)))
    connection.execute(delete(DELIVERY).where(DELIVERY.c.study_id.in_(generations)))
    connection.execute(delete(RESULT).where(RESULT.c.study_id.in_(generations)))
    connection.execute(delete(HISTORY).where(HISTORY.c.study_id.in_(generations)))
    connection.execute(
        delete(INSTANCE).where(
            INSTANCE.c.study_instance_uid == study_instance_uid, INSTANCE.c.role != Recorded.CONFLICT
        )
    )
    connection.execute(delete(STUDY).where(STUDY.c.study_instance_uid == study_instance_uid))
