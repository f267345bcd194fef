"""A PostgreSQL server of our own for tests: a new cluster in a temporary folder on a free port of loopback."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest


def find_initdb() -> Path:
    """``initdb`` on the PATH, or the newest where Debian keeps it; the test is skipped where PostgreSQL is not."""
    on_path = shutil.which("initdb")
    found = Path(on_path) if on_path else max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
    if found is None:
        _absent("PostgreSQL is not installed: apt-get install postgresql")
    if importlib.util.find_spec("psycopg") is None:
        _absent("the PostgreSQL driver is not installed: pip install 'spinenode[postgresql]'")
    return Path(str(found))


def _absent(what: str) -> None:
    if os.environ.get("REQUIRE_PEERS") == "1":
        pytest.fail(what)
    pytest.skip(what)


class Cluster:
    """A server that can be stopped and started again; made by ``running_cluster``."""

    def __init__(self, initdb: Path, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{port}"
        """Without a database name."""
        self._user = _unprivileged_user()
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        cluster = self._folder = folder / "cluster"
        self._control = [str(initdb.with_name("pg_ctl")), "-D", str(cluster), "-w"]
        self._log = str(folder / "log")
        _run([str(initdb), "-D", str(cluster), "-A", "trust", "-U", "postgres", "--no-sync"], self._user)

    def start(self) -> None:
        _run([*self._control, "-o", self._options, "-l", self._log, "start"], self._user)

    def process_id(self) -> int:
        """Of the server's first process, for SIGKILL."""
        return int((self._folder / "postmaster.pid").read_text().splitlines()[0])

    def processes(self) -> list[int]:
        """The server's first process and those that it has made."""
        server = psutil.Process(self.process_id())
        return [server.pid, *(child.pid for child in server.children(recursive=True))]

    def stop(self) -> None:
        """At once: open transactions are lost, as when the machine fails."""
        _run([*self._control, "-m", "immediate", "stop"], self._user)


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    initdb = find_initdb()
    folder = Path(tempfile.mkdtemp(prefix="spinenode-pg-"))
    cluster = Cluster(initdb, folder)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_server() -> Iterator[str]:
    """The URL of the server without a database name, e.g. ``postgresql+psycopg://postgres@127.0.0.1:40001``."""
    with running_cluster() as cluster:
        yield cluster.url


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; Debian's package brings a user for it."""
    return pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else None


def _run(command: list[str], user: str | None) -> None:
    subprocess.run(command, user=user, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=60)
