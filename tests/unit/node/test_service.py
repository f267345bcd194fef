"""The supervisor: starts, restarts and stops its parts, refuses to start twice, and leaves nothing behind.

Receiver and dispatcher are real processes here; the worker, which needs its networks, is run by the crash tests.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]

PROGRAM = """
import sys
from pathlib import Path
from node import service, settings


if __name__ == "__main__":
    try:
        sys.exit(service.serve(settings.load(Path(sys.argv[1]))))
    except service.CannotServe as error:
        sys.exit(f"cannot serve: {error}")
"""

pytestmark = pytest.mark.slow


@dataclass(kw_only=True)
class Service:
    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def parts(self) -> dict[str, int]:
        """Name -> process id of the last start of each part."""
        lines = [line.split() for line in self.said().splitlines() if " started as process " in line]
        return {words[words.index("started") - 1]: int(words[-1]) for words in lines}

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


Start = Callable[[], Service]


def until(condition: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start()`` runs the program on one data directory and port; every start is ended with the test."""
    port, started = free_port(), list[Service]()
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "node.toml").write_text(
        f'[node]\ndata_dir = "{tmp_path}/data"\nparts = ["receiver", "dispatcher"]\n'
        f"[receiver]\nport = {port}\nminimum_free_mb = 1\n"
        "[monitoring]\nport = 0\n",
        encoding="utf-8",
    )

    def run() -> Service:
        log = tmp_path / f"{len(started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "node.toml")],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        started.append(Service(process=process, log=log, port=port))
        return started[-1]

    yield run
    for service in started:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


def is_ready(service: Service) -> bool:
    assert service.process.poll() is None, service.said()
    return "spinenode is ready" in service.said()


def test_it_says_where_it_listens_once_it_does_and_stops_cleanly(start: Start) -> None:
    service = start()
    until(lambda: is_ready(service))
    assert f"spinenode is ready: SPINENODE@127.0.0.1:{service.port}" in service.said()
    assert service.listens()
    parts = service.parts()
    asked = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(timeout=20) == 0
    assert time.monotonic() - asked < 10
    assert not any(psutil.pid_exists(pid) for pid in parts.values())
    assert not service.listens()


def test_ctrl_c_stops_it_too(start: Start) -> None:
    service = start()
    until(lambda: is_ready(service))
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(timeout=20) == 0


def test_a_second_node_on_the_same_data_is_refused_by_name(start: Start) -> None:
    first = start()
    until(lambda: is_ready(first))
    second = start()
    assert second.process.wait(timeout=20) == 1
    assert f"another node serves {first.log.parent}/data (process {first.process.pid})" in second.said()
    assert is_ready(first)


def test_a_port_that_is_taken_is_named_with_the_remedy(start: Start, tmp_path: Path) -> None:
    service_port = int((tmp_path / "node.toml").read_text().split("port = ")[1].split()[0])
    with socket.create_server(("127.0.0.1", service_port)):
        service = start()
        assert service.process.wait(timeout=30) == 1
    assert f"cannot listen on 127.0.0.1:{service_port}: another program listens there" in service.said()
    assert "stop it or set receiver.port" in service.said()
    assert service.parts() == {}


@pytest.mark.parametrize("name", ["receiver", "dispatcher"])
def test_a_part_that_is_killed_is_started_again(start: Start, name: str) -> None:
    service = start()
    until(lambda: is_ready(service))
    before = service.parts()
    os.kill(before[name], signal.SIGKILL)
    until(lambda: service.parts()[name] != before[name])
    until(service.listens)
    assert f"the {name} was ended by SIGKILL; it is started again in 0.5 s" in service.said()
    untouched = ({"receiver", "dispatcher"} - {name}).pop()
    assert service.parts()[untouched] == before[untouched]


def test_parts_do_not_outlive_a_supervisor_that_is_killed(start: Start) -> None:
    service = start()
    until(lambda: is_ready(service))
    parts = service.parts()
    service.process.kill()
    service.process.wait()
    until(lambda: not any(psutil.pid_exists(pid) for pid in parts.values()), within_s=5)
    assert not service.listens()


def test_it_starts_at_once_after_it_was_killed(start: Start) -> None:
    first = start()
    until(lambda: is_ready(first))
    first.process.kill()
    second = start()
    until(lambda: is_ready(second))
    first.process.wait()


def test_neither_supervisor_nor_receiver_nor_dispatcher_loads_torch(start: Start) -> None:
    service = start()
    until(lambda: is_ready(service))
    for pid in (service.process.pid, *service.parts().values()):
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
        assert "libc" in maps
        assert "libtorch" not in maps


def test_a_part_that_cannot_start_ends_the_node_with_its_reason(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(config.read_text().replace("[receiver]", 'database_url = "nonsense://"\n[receiver]'))
    service = start()
    assert service.process.wait(timeout=30) == 1
    assert "cannot start: node.database_url cannot be used" in service.said()
    assert not service.listens()
