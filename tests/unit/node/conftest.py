"""Ledgers for the tests of the node: each test that asks for ``ledger`` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from node.ledger import Ledger, open_ledger
from tests import postgresql_server

BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)]


@pytest.fixture(autouse=True)
def _sockets_of_failed_connections_go_here(request: pytest.FixtureRequest) -> Iterator[None]:
    """pynetdicom leaves them to the garbage collector, which would find them in somebody else's test."""
    yield
    if request.module.__name__.endswith(("test_commands", "test_echo")):
        gc.collect()


@pytest.fixture(scope="session")
def postgresql_server_url() -> Iterator[str]:
    with postgresql_server.running_server() as url:
        yield url


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'node.db'}"
    url = f"{request.getfixturevalue('postgresql_server_url')}/postgres"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger's file: to copy it is faster than to migrate a new one for each test."""
    file = tmp_path_factory.mktemp("migrated") / "node.db"
    open_ledger(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def ledger(database_url: str, migrated_sqlite: Path) -> Iterator[Ledger]:
    if database_url.startswith("sqlite"):
        shutil.copy(migrated_sqlite, database_url.removeprefix("sqlite:///"))
    opened = open_ledger(database_url)
    yield opened
    opened.close()
