"""The ledger's database: opening it, bringing it up to date, and transactions that survive a busy or absent server."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    exc,
    inspect,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import ConnectionPoolEntry

from node.ledger_schema import METADATA, REVISION, VERSION_TABLE

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for another process to finish writing, in each attempt."""
PAUSES_S = (0.02, 0.1, 0.5, 1.0)
"""Between five attempts: a lost race is over at once, a restarting server takes a second or two. The whole stays
under the 30 s that senders commonly wait for a C-STORE response."""
IDLE_TRANSACTION_S = 30.0
"""A server ends a session that does nothing amid a transaction for so long; ours do nothing for milliseconds."""
_MIGRATION_LOCK = 0x5350494E
"""Key of the advisory lock that lets one process at a time migrate a PostgreSQL ledger (the letters SPIN)."""
_LOST_RACES = frozenset({"23505", "40001", "40P01"})
"""SQLSTATE of unique violation, serialization failure, deadlock: the other transaction won, look again."""
_VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))
"""As alembic makes it."""
_MIGRATIONS = Path(__file__).parent / "migrations"

_T = TypeVar("_T")


class LedgerError(Exception):
    """The ledger cannot do what was asked; nothing was written down."""


class LedgerUnavailable(LedgerError):
    """The ledger cannot be reached, stays busy, or its disk is full; nothing was written down."""


class OutcomeUnknown(LedgerUnavailable):
    """The connection broke while COMMIT was under way: the change may stand or not. Undo nothing that it speaks of."""


class UnknownStudy(LedgerError):
    """The ledger holds no such study."""


class WrongState(LedgerError):
    """The study is not in a state from which this change leads on: somebody else has changed it meanwhile."""


class Database:
    """Runs functions of a connection as transactions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(ledger_reads=True)

    def write(self, work: Callable[[Connection], _T]) -> _T:
        """``work(connection)`` in one transaction, repeated when it lost a race or met a busy or restarting database.

        ``work`` must therefore have no effect but on the connection, and must recognise what an earlier attempt
        of itself has committed.

        Raises:
            LedgerUnavailable: after a bounded number of attempts.
            OutcomeUnknown: a COMMIT was sent, its answer never came, and no later attempt succeeded.
            LedgerError: the database refuses what was asked.
            ValueError: a time without a zone.
        """
        outcome_unknown = False
        for pause_s in (*PAUSES_S, None):
            commit_sent = False
            try:
                with self._engine.connect() as connection:
                    connection.begin()
                    value = work(connection)
                    commit_sent = True
                    connection.commit()
                return value
            except (exc.DBAPIError, exc.TimeoutError) as error:
                outcome_unknown |= commit_sent and _sqlstate(error) not in _LOST_RACES
                if pause_s is None or not _worth_another_attempt(error):
                    raise _translated(error, outcome_unknown) from None
            except exc.StatementError as error:
                raise _own_refusal(error) from None
            time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def read(self, work: Callable[[Connection], _T]) -> _T:
        """``work(connection)`` in one transaction that locks nobody out.

        Raises:
            LedgerUnavailable: the database cannot be reached.
        """
        try:
            with self._reader.connect() as connection, connection.begin():
                return work(connection)
        except (exc.DBAPIError, exc.TimeoutError) as error:
            raise _translated(error, outcome_unknown=False) from None
        except exc.StatementError as error:
            raise _own_refusal(error) from None

    def close(self) -> None:
        self._engine.dispose()


def open_database(url: str) -> Database:
    """The database behind an SQLAlchemy URL, created where it is SQLite, migrated to the newest tables.

    Several processes may open it at once: one migrates, the others wait.

    Raises:
        LedgerUnavailable: it cannot be reached.
        LedgerError: the URL is of an unknown kind, the file is on a network file system, or a newer version of this
            program has migrated it.
    """
    try:
        parsed = make_url(url)
        engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _server(parsed)
    except (exc.ArgumentError, ModuleNotFoundError) as error:
        raise LedgerError(f"node.database_url cannot be used: {error}") from None
    database = Database(engine)
    try:
        database.write(_migrate)
    except LedgerError:
        database.close()
        raise
    return database


def _server(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, pool_size=5, max_overflow=5)
    event.listen(engine, "connect", _prepare_server_session)
    return engine


def _prepare_server_session(connection: Any, _: ConnectionPoolEntry) -> None:
    # a process that is stopped amid a transaction would keep its rows from the others for as long as it is stopped
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_S:g}s'")
    connection.commit()


def _sqlite(url: URL) -> Engine:
    file = Path(url.database or "")
    file.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # readable by the node alone: it holds patients' study UIDs
    engine = create_engine(
        url, hide_parameters=True, pool_size=5, max_overflow=5, connect_args={"timeout": BUSY_TIMEOUT_S}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late; _begin_sqlite says it
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LedgerError("SQLite cannot use its write-ahead log here: node.data_dir must be on a local disk")
    connection.execute(
        "PRAGMA synchronous = FULL"
    )  # COMMIT returns after fsync: an acknowledged image survives a crash
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    # A writer that begins by reading could find at its first write that another has overtaken it (SQLITE_BUSY, with no
    # waiting): it takes the write lock first. Readers do not.
    reads = connection.get_execution_options().get("ledger_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    if inspect(connection).has_table(VERSION_TABLE):
        found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
        if found != REVISION:
            _upgrade(connection)
    else:
        METADATA.create_all(connection, checkfirst=False)
        _VERSION.create(connection)
        connection.execute(_VERSION.insert(), {"version_num": REVISION})


def _upgrade(connection: Connection) -> None:
    """From whatever there is to the newest tables. A new ledger does without: alembic is 10 MB of a small process."""
    from alembic import command, util
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except util.CommandError as error:
        raise LedgerError(f"the ledger was made by a newer version of this program: {error}") from None


def _own_refusal(error: exc.StatementError) -> BaseException:
    """What one of our column types raised, which SQLAlchemy has wrapped up."""
    return error.orig if isinstance(error.orig, ValueError) else error


def _sqlstate(error: exc.DBAPIError | exc.TimeoutError) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _worth_another_attempt(error: exc.DBAPIError | exc.TimeoutError) -> bool:
    if isinstance(error, exc.TimeoutError):
        return False  # the pool has waited 30 s already
    if isinstance(error.orig, sqlite3.Error):
        return error.orig.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return error.connection_invalidated or isinstance(error, exc.OperationalError) or _sqlstate(error) in _LOST_RACES


def _translated(error: exc.DBAPIError | exc.TimeoutError, outcome_unknown: bool) -> LedgerError:
    """Our error for the driver's. Only words that cannot hold a patient's identifiers are taken over."""
    if isinstance(error, exc.TimeoutError):
        return LedgerUnavailable("no connection to the ledger became free")
    local = isinstance(error.orig, sqlite3.Error)
    away = isinstance(error, exc.OperationalError | exc.InterfaceError) or error.connection_invalidated
    said = str(error.orig).partition("\n")[0] if local or away else f"SQLSTATE {_sqlstate(error)}"
    what = f"{type(error).__name__}: {said}"
    if outcome_unknown:
        return OutcomeUnknown(what)
    return LedgerUnavailable(what) if away else LedgerError(what)
