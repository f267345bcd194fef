"""What every process of the node does around its own work: hears signals, logs, tells the supervisor how it is.

A part never outlives its supervisor: it would hold the port or the study that the next supervisor's parts need.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from types import FrameType

from node import lifesigns, logs
from node.settings import Settings

RECEIVER = "receiver"
WORKER = "worker"
"""The first one; the others are called worker-2, worker-3, ..."""
DISPATCHER = "dispatcher"
MONITOR = "monitor"
READY = "ready"
CANNOT_START = "cannot start"
FAILED = 1
_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal to get when the parent dies."""

logger = logging.getLogger(__name__)


def run_part(name: str, settings: Settings, supervisor: Connection, supervisor_pid: int) -> None:
    """Run one part of the node to its end; the entry point of its process. Never returns."""
    _die_with(supervisor_pid)
    lifesigns.begin(settings.node.data_dir, name)
    logs.configure(name, settings.node.log_level, settings.node.log_format)
    stop = _stop_on_sigterm()
    status = 0
    try:
        _work(name, settings, stop, supervisor)
    except Exception as error:  # the boundary of the process: nothing else would say what ended it
        status = FAILED
        supervisor.send((CANNOT_START, _sentence(error)))
        logger.exception("the %s ends: %s", name, _sentence(error))
    logging.shutdown()
    sys.stdout.flush()
    # a study, a C-STORE or a library's thread may be in the middle of something long; all of it is taken up again
    os._exit(status)


def _work(name: str, settings: Settings, stop: threading.Event, supervisor: Connection) -> None:
    def ready(*_: object) -> None:
        supervisor.send((READY, ""))

    if name == MONITOR:
        from node import monitoring

        monitoring.run(settings, stop=stop, on_ready=ready, now=_now)
        return
    _require_own_spool(settings)
    if name == RECEIVER:
        from node import receiver

        receiver.run(settings, stop, on_ready=ready)
    elif name.startswith(WORKER):
        from node import worker

        worker.run(settings, slot=int(name.partition("-")[2] or 1), stop=stop, on_ready=ready, now=_now)
    elif name == DISPATCHER:
        from node import dispatcher

        dispatcher.run(settings, stop=stop, on_ready=ready, now=_now)
    else:
        raise ValueError(f"no part of the node is called {name!r}")


def _require_own_spool(settings: Settings) -> None:
    from node.ledger import open_ledger
    from node.spool_identity import require_spool_of

    ledger = open_ledger(settings.database_url)
    try:
        require_spool_of(ledger, settings.spool_dir)
    finally:
        ledger.close()


def _now() -> datetime:
    return datetime.now(UTC)


def _sentence(error: Exception) -> str:
    """Errors of ours carry words for the operator; of the others only type and place are safe to show."""
    if type(error).__module__.split(".")[0] in {"node", "inference"}:
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({logs.place(error)})"
    return logs.place(error)


def _stop_on_sigterm() -> threading.Event:
    stop = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor tells us
    return stop


def _die_with(supervisor_pid: int) -> None:
    """End this process when the supervisor is gone, even by SIGKILL: by the kernel on Linux, by a thread elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor_pid:  # it was gone before we asked
        os._exit(FAILED)
    threading.Thread(target=_watch_supervisor, name="supervisor-watch", daemon=True).start()


def _watch_supervisor() -> None:
    supervisor = parent_process()
    if supervisor is not None:
        wait([supervisor.sentinel])
        os._exit(FAILED)
