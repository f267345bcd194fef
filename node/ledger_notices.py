"""Notices to the operator: what is to be told, to which channel, and whether it was. Durable, each occasion told once.

Every ``now`` is aware. Several nodes may share the ledger: a notice is taken before it is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from node.ledger_database import Database
from node.ledger_schema import NOTICE
from node.notices import Notice, NoticeState, NoticeToRaise

_FIELDS = tuple(Notice.__slots__)


class Notices:
    """The monitoring's own part of the ledger. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def raise_once(self, notices: Sequence[NoticeToRaise], *, now: datetime) -> int:
        """List the notices that are not listed yet, due at once; returns how many were new."""
        return self._database.write(lambda connection: sum(_raise(connection, item, now) for item in notices))

    def last_of(self, channel: str) -> Mapping[str, Notice]:
        """For each subject the newest notice of a channel."""
        newest = (
            select(func.max(NOTICE.c.id))
            .where(NOTICE.c.channel == channel)
            .group_by(NOTICE.c.subject)
            .scalar_subquery()
        )
        query = select(NOTICE).where(NOTICE.c.id.in_(newest))
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return {row.subject: _notice(row) for row in rows}

    def take(self, channels: Collection[str], *, now: datetime, until: datetime, limit: int) -> tuple[Notice, ...]:
        """What is to be sent now to these channels, the oldest first. Nobody else is given it before ``until``: whoever
        dies with it in hand has it sent again then."""
        is_due = and_(NOTICE.c.state == NoticeState.DUE, NOTICE.c.not_before <= now, NOTICE.c.channel.in_(channels))

        def take(connection: Connection) -> tuple[Notice, ...]:
            due = select(NOTICE).where(is_due).order_by(NOTICE.c.id).limit(limit).with_for_update(skip_locked=True)
            rows = connection.execute(due).all()
            connection.execute(update(NOTICE).where(NOTICE.c.id.in_([row.id for row in rows])).values(not_before=until))
            return tuple(map(_notice, rows))

        any_due = select(NOTICE.c.id).where(is_due).limit(1)
        if self._database.read(lambda connection: connection.execute(any_due).first()) is None:
            return ()
        return self._database.write(take)

    def give_up_older(self, made_before: datetime, *, status: str) -> None:
        """Not tried any more, whatever their channel: nobody may have it in the settings any more."""
        old = and_(NOTICE.c.state == NoticeState.DUE, NOTICE.c.made_at < made_before)
        give_up = update(NOTICE).where(old).values(state=NoticeState.GIVEN_UP.value, last_status=status)
        any_old = select(NOTICE.c.id).where(old).limit(1)
        if self._database.read(lambda connection: connection.execute(any_old).first()) is not None:
            self._database.write(lambda connection: connection.execute(give_up))

    def sent(self, notice_id: int, *, status: str, now: datetime) -> None:
        """The channel took it."""
        self._change(notice_id, state=NoticeState.SENT, last_status=status, sent_at=now)

    def postponed(self, notice_id: int, *, status: str, not_before: datetime) -> None:
        """The channel did not take it; tried again at ``not_before``."""
        self._change(notice_id, state=NoticeState.DUE, last_status=status, not_before=not_before)

    def held(self, notice_id: int, *, not_before: datetime) -> None:
        """Not tried: another notice of its channel failed a moment ago."""
        waiting = update(NOTICE).where(NOTICE.c.id == notice_id, NOTICE.c.state == NoticeState.DUE)
        self._database.write(lambda connection: connection.execute(waiting.values(not_before=not_before)))

    def note(self, notice: NoticeToRaise, *, is_said: bool, now: datetime) -> None:
        """Write down afterwards what was said without the ledger; what nobody took is due."""

        def note(connection: Connection) -> None:
            if _raise(connection, notice, now) and is_said:
                same = update(NOTICE).where(NOTICE.c.occasion == notice.occasion, NOTICE.c.channel == notice.channel)
                connection.execute(same.values(state=NoticeState.SENT.value, attempts=1, sent_at=now))

        self._database.write(note)

    def given_up(self, notice_id: int, *, status: str) -> None:
        """Not tried any more."""
        self._change(notice_id, state=NoticeState.GIVEN_UP, last_status=status)

    def counts(self) -> Mapping[tuple[str, NoticeState], int]:
        """(channel, state) -> how many."""
        query = select(NOTICE.c.channel, NOTICE.c.state, func.count()).group_by(NOTICE.c.channel, NOTICE.c.state)
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return Counter({(channel, NoticeState(state)): count for channel, state, count in rows})

    def oldest_waiting(self) -> Notice | None:
        """The oldest that its channel has not taken."""
        query = select(NOTICE).where(NOTICE.c.state == NoticeState.DUE).order_by(NOTICE.c.id).limit(1)
        row = self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else _notice(row)

    def newest(self, *, limit: int) -> tuple[Notice, ...]:
        """The newest ones, in order."""
        query = select(NOTICE).order_by(NOTICE.c.id.desc()).limit(limit)
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return tuple(map(_notice, reversed(rows)))

    def _change(self, notice_id: int, **values: Any) -> None:
        changed = update(NOTICE).where(NOTICE.c.id == notice_id, NOTICE.c.state == NoticeState.DUE)
        tried = changed.values(attempts=NOTICE.c.attempts + 1, **values)
        self._database.write(lambda connection: connection.execute(tried))


def _raise(connection: Connection, notice: NoticeToRaise, now: datetime) -> bool:
    listed = select(NOTICE.c.id).where(NOTICE.c.occasion == notice.occasion, NOTICE.c.channel == notice.channel)
    if connection.execute(listed).first() is not None:
        return False
    connection.execute(
        insert(NOTICE).values(
            occasion=notice.occasion,
            subject=notice.subject,
            event=notice.event,
            text=notice.text,
            channel=notice.channel,
            state=NoticeState.DUE.value,
            attempts=0,
            not_before=now,
            last_status="",
            made_at=now,
        )
    )
    return True


def _notice(row: Row[Any]) -> Notice:
    values = row._mapping
    fields = {name: values[name] for name in _FIELDS if name not in ("notice_id", "state")}
    return Notice(notice_id=values["id"], state=NoticeState(values["state"]), **fields)
