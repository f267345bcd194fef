"""The ledger's database: migrations, many processes at once, and a database that is busy or goes away."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

from node import ledger_database
from node.ledger import Ledger, LedgerError, LedgerUnavailable, OutcomeUnknown, open_ledger
from node.ledger_database import Database, _upgrade
from node.ledger_schema import METADATA, REVISION, VERSION_TABLE
from node.records import Recorded
from tests.unit.node.received_instances import after, image


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'node.db'}"


class TestOpening:
    @pytest.mark.parametrize("way", ["new", "migrated"])
    def test_a_new_ledger_and_one_that_the_migrations_made_have_the_same_tables(
        self, database_url: str, way: str
    ) -> None:
        engine = create_engine(database_url)
        if way == "new":
            open_ledger(database_url).close()
        else:
            with engine.begin() as connection:
                _upgrade(connection)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            assert compare_metadata(context, METADATA) == []
            assert context.get_current_revision() == REVISION
        engine.dispose()

    def test_opening_again_finds_what_was_written(self, database_url: str) -> None:
        first = open_ledger(database_url)
        first.record_instance(image(1))
        first.close()
        second = open_ledger(database_url)
        assert second.open_studies()[0].instance_count == 1
        second.close()

    def test_a_ledger_of_a_newer_program_is_refused(self, database_url: str) -> None:
        open_ledger(database_url).close()
        engine = create_engine(database_url)
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        engine.dispose()
        with pytest.raises(LedgerError, match="newer version"):
            open_ledger(database_url)

    def test_sqlite_commits_are_durable_and_its_file_private(self, sqlite_url: str, tmp_path: Path) -> None:
        database = ledger_database.open_database(sqlite_url)
        pragmas = {
            name: database.read(lambda c, name=name: c.execute(text(f"PRAGMA {name}")).scalar())  # type: ignore[misc]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
        database.close()
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert stat.S_IMODE((tmp_path / "node.db").stat().st_mode) == 0o600

    @pytest.mark.peers
    @pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
    def test_a_session_that_is_stopped_amid_a_transaction_is_ended_by_the_server(self, database_url: str) -> None:
        database = ledger_database.open_database(database_url)
        said = database.read(lambda c: c.execute(text("SHOW idle_in_transaction_session_timeout")).scalar())
        database.close()
        assert said == "30s"

    @pytest.mark.parametrize("url", ["nonsense", "mysql+nodriver://host/x"])
    def test_an_unusable_url_is_refused_with_the_name_of_its_setting(self, url: str) -> None:
        with pytest.raises(LedgerError, match=r"node\.database_url"):
            open_ledger(url)

    def test_a_server_that_is_not_there_is_unavailable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledger_database, "PAUSES_S", ())
        with pytest.raises(LedgerUnavailable, match="OperationalError"):
            open_ledger("postgresql+psycopg://nobody@127.0.0.1:1/none")


def _record_hundred(url: str, worker: int) -> list[str]:
    """20 images of its own, and 5 that every worker sends, in one study."""
    ledger = open_ledger(url)
    own = [image(100 * worker + number, copy=worker) for number in range(20)]
    shared = [image(number, copy=worker) for number in range(5)]
    answers = [ledger.record_instance(instance) for instance in own + shared]
    ledger.close()
    return [answer.value for answer in answers]


@pytest.mark.slow
def test_processes_that_open_and_record_at_once_lose_nothing_and_count_everything_once(database_url: str) -> None:
    workers = 4
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        answers = list(pool.map(_record_hundred, [database_url] * workers, range(1, workers + 1)))
    ledger = open_ledger(database_url)
    (study,) = ledger.open_studies()
    assert study.instance_count == workers * 20 + 5 == len(ledger.instances(study.study_id))
    assert sum(answer.count("new") for answer in answers) == workers * 20 + 5
    assert sum(answer.count("same_again") for answer in answers) == (workers - 1) * 5
    ledger.close()


def test_threads_that_send_the_same_image_at_once_make_one_of_it(ledger: Ledger) -> None:
    answers: list[Recorded] = []
    start = threading.Barrier(4)

    def send(copy: int) -> None:
        start.wait()
        answers.append(ledger.record_instance(image(1, copy=copy)))

    threads = [threading.Thread(target=send, args=(copy,)) for copy in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [Recorded.NEW, Recorded.SAME_AGAIN, Recorded.SAME_AGAIN, Recorded.SAME_AGAIN]


def test_closing_while_images_come_loses_none_and_no_generation_changes_afterwards(ledger: Ledger) -> None:
    """Three senders into one study, closed again and again: each closed generation keeps the set of its digest."""
    sent = [threading.Thread(target=_send_fifteen, args=(ledger, 100 * sender)) for sender in range(3)]
    closed: dict[int, list[str]] = {}
    for sender in sent:
        sender.start()
    while any(sender.is_alive() for sender in sent) or ledger.open_studies():
        for study in ledger.open_studies():
            if ledger.close_study(
                study.study_id, last_received_at=study.last_received_at, reason="now", now=study.last_received_at
            ):
                closed[study.study_id] = [found.sop_instance_uid for found in ledger.instances(study.study_id)]
        time.sleep(0.002)  # SQLite lets its writers in by chance: a closer that never pauses can keep senders out
    for sender in sent:
        sender.join()
    assert len(closed) > 1
    assert {study_id: [i.sop_instance_uid for i in ledger.instances(study_id)] for study_id in closed} == closed
    sets = [set(closed[study_id]) for study_id in sorted(closed)]
    assert all(earlier < later for earlier, later in pairwise(sets))
    assert len(sets[-1]) == 45


def _send_fifteen(ledger: Ledger, first: int) -> None:
    for number in range(first, first + 15):
        ledger.record_instance(image(number, at=after(number)))
        time.sleep(0.02)  # long enough for a closing in between


class TestTrouble:
    @pytest.fixture
    def database(self, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
        monkeypatch.setattr(ledger_database, "BUSY_TIMEOUT_S", 0.05)
        monkeypatch.setattr(ledger_database, "PAUSES_S", (0.0, 0.0))
        opened = ledger_database.open_database(sqlite_url)
        yield opened
        opened.close()

    def test_a_writer_that_never_ends_makes_the_ledger_unavailable(self, database: Database, tmp_path: Path) -> None:
        other = sqlite3.connect(tmp_path / "node.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked") as caught:
            database.write(lambda connection: connection.execute(text("SELECT 1")).scalar())
        assert not isinstance(caught.value, OutcomeUnknown)
        assert database.read(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1
        other.close()

    def test_a_commit_without_an_answer_has_an_unknown_outcome(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class DiskError(sqlite3.OperationalError):
            sqlite_errorcode = sqlite3.SQLITE_IOERR

        def fail(dialect: Any, connection: Any) -> None:
            raise DiskError("disk I/O error")

        monkeypatch.setattr(type(database._engine.dialect), "do_commit", fail)
        with pytest.raises(OutcomeUnknown, match="disk I/O error"):
            database.write(lambda connection: connection.execute(text("SELECT 1")).scalar())

    def test_a_broken_rule_of_the_tables_is_no_outage(self, database: Database) -> None:
        def insert_twice(connection: Connection) -> None:
            for _ in range(2):
                connection.execute(text("INSERT INTO study_history VALUES (1, 99, '2026-01-01', 'queued', '', '')"))

        with pytest.raises(LedgerError, match="constraint failed") as caught:
            database.write(insert_twice)
        assert not isinstance(caught.value, LedgerUnavailable)


@pytest.mark.peers
def test_a_connection_that_the_server_closes_is_replaced_without_the_caller_noticing(
    postgresql_server_url: str,
) -> None:
    database = ledger_database.open_database(f"{postgresql_server_url}/postgres")
    tries: list[int] = []

    def cut_off_once(connection: Connection) -> int:
        tries.append(1)
        if len(tries) == 1:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return int(connection.execute(text("SELECT 7")).scalar_one())

    assert database.write(cut_off_once) == 7
    assert len(tries) == 2
    database.close()


@pytest.mark.peers
def test_errors_of_the_server_are_told_without_the_values_they_quote(postgresql_server_url: str) -> None:
    database = ledger_database.open_database(f"{postgresql_server_url}/postgres")
    with pytest.raises(LedgerError) as caught:
        database.write(lambda connection: connection.execute(text("SELECT CAST('1.2.3.4' AS integer)")))
    assert "1.2.3.4" not in str(caught.value)
    assert "22P02" in str(caught.value)
    database.close()
