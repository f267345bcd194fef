"""DCMTK's image archive dcmqrscp: stores and answers queries, and knows no storage commitment."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.node_process import free_port

AE_TITLE = "DCMQRSCP"


@contextmanager
def running(program: Path, folder: Path) -> Iterator[int]:
    """An empty archive below ``folder``; yields its port."""
    storage = folder / "storage"
    storage.mkdir(parents=True)
    port = free_port()
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{AE_TITLE} {storage} RW (200, 1024mb) ANY\nAETable END\n",
        encoding="ascii",
    )
    with (folder / "dcmqrscp.log").open("wb") as log:
        process = subprocess.Popen([str(program), "-c", str(config)], stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _wait_for(port, process, folder / "dcmqrscp.log")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, "dcmqrscp did not answer within 20 s"
            time.sleep(0.1)
        else:
            return
