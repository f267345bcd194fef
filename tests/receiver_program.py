"""A real receiver as a process, for tests: ``python -m tests.receiver_program SETTINGS_TOML [PAUSE_AT]``.

Prints its ports on standard output once it accepts associations and logs to standard error. With PAUSE_AT, a name of
``PAUSES``, the third object stops there for ever (and says so), so that a test can kill the process at that very step.
While the file that the environment variable RECEIVER_FAULT names exists, calls of the spool fail as it says: a line
"CALL ERRNO", e.g. "fsync EIO".
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node import intake, receiver, settings, spool
from node.ledger import Ledger

OBJECT_TO_STOP_AT = 3


def _pause_after(function: Callable[..., Any], name: str, *, call: int = OBJECT_TO_STOP_AT) -> Callable[..., Any]:
    calls = 0

    def replaced(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        value = function(*arguments, **named)
        if calls == call:
            _stop_here(name)
        return value

    return replaced


def _stop_here(name: str) -> None:
    print(f"paused {name}", flush=True)
    time.sleep(3600)


def _pause_in_file(name: str) -> None:
    # each object is written in two calls: its file header, then the data set, which is not there yet
    spool._write_all = _pause_after(spool._write_all, name, call=2 * OBJECT_TO_STOP_AT - 1)


def _pause_before_rename(name: str) -> None:
    # of the same two calls the second
    spool._write_all = _pause_after(spool._write_all, name, call=2 * OBJECT_TO_STOP_AT)


def _pause_before_fsync(name: str) -> None:
    spool.Draft._give_name = _pause_after(spool.Draft._give_name, name)  # type: ignore[method-assign]


def _pause_after_file(name: str) -> None:
    spool.Draft.finish = _pause_after(spool.Draft.finish, name)  # type: ignore[method-assign]


def _pause_after_commit(name: str) -> None:
    Ledger.record_instance = _pause_after(Ledger.record_instance, name)  # type: ignore[method-assign]


def _pause_before_answer(name: str) -> None:
    intake.Intake.keep = _pause_after(intake.Intake.keep, name)  # type: ignore[method-assign]


PAUSES = {
    "inside the file": _pause_in_file,
    "before the rename": _pause_before_rename,
    "before the fsync": _pause_before_fsync,
    "before the ledger": _pause_after_file,
    "after the commit": _pause_after_commit,
    "before the answer": _pause_before_answer,
}


FAULTY_CALLS = ("open", "write", "fsync", "statvfs")


class _FaultyDisk:
    """The module os as the spool sees it, failing while a file says so."""

    def __init__(self, fault: Path) -> None:
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return functools.partial(self._call, name) if name in FAULTY_CALLS else getattr(os, name)

    def _call(self, name: str, *arguments: Any) -> Any:
        if self._fault.exists():
            call, number = self._fault.read_text(encoding="ascii").split()
            if call == name:
                raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))
        return getattr(os, name)(*arguments)


def main() -> None:
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    if fault := os.environ.get("RECEIVER_FAULT"):
        spool.os = _FaultyDisk(Path(fault))  # type: ignore[assignment]
    if len(sys.argv) > 2:
        PAUSES[sys.argv[2]](sys.argv[2])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    os.environ.pop("SPINENODE_RECEIVER__PORT", None)
    read = settings.load(Path(sys.argv[1]))
    # Port 0, which settings refuse, lets the system choose a free one.
    free = read.model_copy(update={"receiver": read.receiver.model_copy(update={"port": 0})})
    receiver.run(free, stop, lambda port, tls_port: print(f"tls_port {tls_port}\nport {port}", flush=True))


if __name__ == "__main__":
    main()
