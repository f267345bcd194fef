"""What the ledger keeps of each archive: how it answers, and so whether results are sent there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from node import ledger_outbox as outbox
from node.breaker import BreakerState, Health, unknown
from node.ledger_database import Database
from node.ledger_schema import ARCHIVE


class LedgerArchives:
    """Health of the archives; reached as ``ledger.archives``. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Mapping[str, Health]:
        """Of every archive that anything was ever sent to, by its name in the settings."""
        query = select(ARCHIVE).order_by(ARCHIVE.c.name)
        return self._database.read(lambda connection: {row.name: _health(row) for row in connection.execute(query)})

    def health(self, name: str, *, now: datetime) -> Health:
        """Of one archive; of one that is not known yet, that it is to be tried."""
        query = select(ARCHIVE).where(ARCHIVE.c.name == name)
        row = self._database.read(lambda connection: connection.execute(query).first())
        return unknown(now) if row is None else _health(row)

    def write_health(self, name: str, health: Health, *, now: datetime) -> None:
        """How it stands from now on."""
        self._database.write(lambda connection: _write(connection, name, health, now))

    def out_of_reach(self, name: str, health: Health, *, tried: Collection[int], now: datetime) -> None:
        """How it stands after an association that did not come about, together with the deliveries that were to go over
        it: tried once more, and due again when the archive is next asked.
        """

        def write_down(connection: Connection) -> None:
            _write(connection, name, health, now)
            for delivery_id in sorted(tried):
                outbox.postponed(connection, delivery_id, health.last_answer, health.not_before or now, now)

        self._database.write(write_down)

    def ask_at_once(self, *, now: datetime) -> None:
        """Whoever is left alone is asked now: the operator has mended something."""
        self._database.write(
            lambda connection: connection.execute(
                update(ARCHIVE).where(ARCHIVE.c.probe_at > now).values(probe_at=now, changed_at=now)
            )
        )


def _write(connection: Connection, name: str, health: Health, now: datetime) -> None:
    values = {
        "breaker": health.state.value,
        "since": health.since,
        "down_since": health.down_since,
        "failures": health.failures,
        "probe_at": health.not_before,
        "last_answer": health.last_answer,
        "last_success_at": health.last_success_at,
        "changed_at": now,
    }
    if not connection.execute(update(ARCHIVE).where(ARCHIVE.c.name == name).values(**values)).rowcount:
        connection.execute(insert(ARCHIVE).values(name=name, **values))


def _health(row: Row[Any]) -> Health:
    return Health(
        state=BreakerState(row.breaker),
        since=row.since,
        failures=row.failures,
        not_before=row.probe_at,
        last_answer=row.last_answer,
        last_success_at=row.last_success_at,
        down_since=row.down_since,
    )
