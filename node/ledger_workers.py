"""Who works: the workers' heartbeats, the lease of the one that looks after the queue, and the spool they share.

Workers of one ledger may run on several machines whose clocks differ: every time here is the database's own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, text, update

from node.ledger_database import Database
from node.ledger_schema import LEASE, SPOOL, WORKER

QUEUE_LEASE = "queue"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a worker stands among the others, as of its last beat."""

    leads: bool
    """It looks after the queue until its lease ends: takes up what dead workers left."""
    live: Collection[str]
    """Names of the workers that beat; whoever is not among them is dead, or must behave as if it were."""


class LedgerWorkers:
    """Part of the ledger; each method is one transaction and may raise ``LedgerUnavailable``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, worker: str, *, forebears: str) -> None:
        """Enter a worker that starts. Those whose names begin with ``forebears`` are proven dead, and leave."""

        def enter(connection: Connection) -> None:
            now = _database_now(connection)
            connection.execute(delete(WORKER).where(WORKER.c.executor.startswith(forebears, autoescape=True)))
            connection.execute(delete(LEASE).where(LEASE.c.owner.startswith(forebears, autoescape=True)))
            connection.execute(insert(WORKER).values(executor=worker, started_at=now, beat_at=now))

        self._database.write(enter)

    def beat(self, worker: str, *, dead_after_s: float) -> Standing | None:
        """Say that a worker lives, and learn who else does; None where it has been declared dead meanwhile.

        The one that holds the lease declares dead whoever has not beaten for ``dead_after_s``. Nobody returns from
        that: its studies are others' now.
        """

        def note(connection: Connection) -> Standing | None:
            now = _database_now(connection)
            beaten = connection.execute(update(WORKER).where(WORKER.c.executor == worker).values(beat_at=now)).rowcount
            if not beaten:
                return None
            leads = _leased(connection, QUEUE_LEASE, worker, now, timedelta(seconds=dead_after_s))
            if leads:
                last_sign = now - timedelta(seconds=dead_after_s)
                connection.execute(delete(WORKER).where(WORKER.c.beat_at < last_sign))
            live = connection.execute(select(WORKER.c.executor)).scalars()
            return Standing(leads=leads, live=frozenset(live))

        return self._database.write(note)

    def end(self, worker: str) -> None:
        """A worker leaves of its own will; what it has not finished is taken up by others."""

        def leave(connection: Connection) -> None:
            connection.execute(delete(WORKER).where(WORKER.c.executor == worker))
            connection.execute(delete(LEASE).where(LEASE.c.owner == worker))

        self._database.write(leave)

    def owns_spool(self, spool_id: str) -> bool:
        """Whether the ledger's images lie in this spool; the first one that asks makes it so.

        A worker on another spool would find none of the images that this ledger names.
        """

        def ask(connection: Connection) -> bool:
            found = connection.execute(select(SPOOL.c.id)).scalar()
            if found is None:
                connection.execute(insert(SPOOL).values(id=spool_id, only=1))
            return found in (None, spool_id)

        return self._database.write(ask)


def _leased(connection: Connection, name: str, owner: str, now: datetime, span: timedelta) -> bool:
    """Take or keep a lease; False where another one holds it."""
    held = connection.execute(select(LEASE).where(LEASE.c.name == name).with_for_update()).first()
    if held is None:
        connection.execute(insert(LEASE).values(name=name, owner=owner, until=now + span))
        return True
    if held.owner != owner and held.until >= now:
        return False
    connection.execute(update(LEASE).where(LEASE.c.name == name).values(owner=owner, until=now + span))
    return True


def _database_now(connection: Connection) -> datetime:
    if connection.dialect.name == "postgresql":
        moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return moment.astimezone(UTC)
    said = connection.execute(text("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')")).scalar_one()
    return datetime.fromisoformat(said).replace(tzinfo=UTC)
