"""A whole node as an operator runs it: `spinenode serve` in processes of its own, with settings of the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Where the node of the test sends its results."""

    name: str
    ae_title: str
    port: int


@dataclass(kw_only=True)
class Node:
    """A node that can be started, stopped, killed and started again on the same data."""

    folder: Path
    port: int
    monitoring_port: int = 0
    config: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "node.log"

    def start(self, within_s: float = 90) -> None:
        """Start and wait until it says that it is ready."""
        already = self.words().count("spinenode is ready")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPINENODE_")}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node", "serve", "--config", str(self.config)],
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        deadline = time.monotonic() + within_s
        while self.words().count("spinenode is ready") == already:
            assert self.process.poll() is None, f"the node ended at start:\n{self.words()[-2000:]}"
            assert time.monotonic() < deadline, f"the node was not ready in time:\n{self.words()[-2000:]}"
            time.sleep(0.1)

    def words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL of the supervisor alone: its children must notice and go too."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `spinenode WORDS --config ...`, as an operator beside the running node."""
        return subprocess.run(
            [sys.executable, "-m", "node", *words, "--config", str(self.config)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configured(folder: Path, archives: Sequence[Archive] = (), *, quiet_s: float = 2.0, extra: str = "") -> Node:
    """Write settings for a node on a free loopback port; it is not started."""
    folder.mkdir(parents=True, exist_ok=True)
    port, monitoring_port = free_port(), free_port()
    config = folder / "node.toml"
    tables = "".join(
        f'\n[[archives]]\nname = "{item.name}"\nae_title = "{item.ae_title}"\nhost = "127.0.0.1"\nport = {item.port}\n'
        for item in archives
    )
    config.write_text(
        f'[node]\ndata_dir = "{(folder / "data").as_posix()}"\n'
        f"[receiver]\nport = {port}\nminimum_free_mb = 100\n"
        f"[assembly]\nquiet_s = {quiet_s}\n"
        f"[monitoring]\nport = {monitoring_port}\n"
        f"[delivery]\nfirst_delay_s = 0.5\nmaximum_delay_s = 2\nconnect_timeout_s = 2\n{extra}{tables}",
        encoding="utf-8",
    )
    return Node(folder=folder, port=port, monitoring_port=monitoring_port, config=config)


@contextmanager
def running(folder: Path, archives: Sequence[Archive] = (), *, quiet_s: float = 2.0, extra: str = "") -> Iterator[Node]:
    """A started node; stopped at the end, whatever happened."""
    node = configured(folder, archives, quiet_s=quiet_s, extra=extra)
    node.start()
    try:
        yield node
    finally:
        node.stop()
