"""A node that can be killed at a step of its work: ``python -m tests.stepped_node CONFIG FOLDER [SECONDS]``.

Each effect of the node (a transaction of the ledger, a checkpoint of the queue, a file, a message to a peer) strikes
before it begins and after it has ended; a transaction also when all is said and COMMIT is not. What strikes is written
into FOLDER/trace; where it is what FOLDER/armed names, once, the processes named there get SIGKILL. With SECONDS an
answer that takes so long stands in for the networks (``tests/stand_in_node.py``).

The node's code knows nothing of this: the functions are replaced in each of its processes, which all import this
module as their main one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from node import part, service, settings

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()

EFFECTS = {
    "receiver": [("node.spool", "Spool.store_received"), ("node.spool", "Draft.finish")],
    "worker": [
        ("dbos._sys_db", "SystemDatabase.init_workflow"),
        ("dbos._sys_db", "SystemDatabase.start_queued_workflows"),
        ("node.study_files", "read"),
        ("inference.pipeline", "grade"),
        ("sr_templates.render", "render"),
        ("node.spool", "Spool.store_result"),
        ("dbos._sys_db", "SystemDatabase.record_operation_result"),
        ("dbos._sys_db", "SystemDatabase.update_workflow_outcome"),
    ],
    "dispatcher": [
        ("pynetdicom.association", "Association.send_c_store"),
        ("pynetdicom.association", "Association.send_n_action"),
        ("pynetdicom.association", "Association.send_c_find"),
    ],
}
"""Module and name of what each part does outside of the ledger."""
IDLE_RESULTS = (((), None), [], ())
"""What an effect returns that found nothing to do: nothing happened, and nothing strikes."""
_seen: Counter[int] = Counter()


def strike(label: str) -> None:
    """Write down that a step is reached, and kill what is to be killed here."""
    with (FOLDER / "trace").open("a", encoding="utf-8") as trace:
        trace.write(f"{label}\n")
    armed = FOLDER / "armed"
    try:
        order = json.loads(armed.read_text(encoding="utf-8"))
        if order["at"] != label:
            return
        _seen[order["number"]] += 1
        if _seen[order["number"]] < order["time"]:
            return
        armed.rename(FOLDER / "struck")  # of two that are here at once, one goes on
    except (FileNotFoundError, ValueError):
        return
    own = {"part": [os.getpid()], "node": [os.getppid(), os.getpid()]}
    for victim in own.get(order["victim"]) or _with_children(order["server"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    time.sleep(0.5)  # until the kernel has ended this process too, or for a database to be gone


def _with_children(server: int) -> list[int]:
    return [server, *(child.pid for child in psutil.Process(server).children(recursive=True))]


def _struck(label: str, effect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(effect)
    def striking(*arguments: Any, **named: Any) -> Any:
        if label.endswith("start_queued_workflows"):
            value = effect(*arguments, **named)
            if value[0]:
                strike(f"after {label}")
            return value
        strike(f"before {label}")
        value = effect(*arguments, **named)
        strike(f"after {label}")
        return value

    return striking


def _write_with_strikes(name: str, write: Callable[..., Any]) -> Callable[..., Any]:
    def striking(database: Any, work: Callable[[Any], Any]) -> Any:
        method = _asked_by(sys._getframe(1))
        if method is None:
            return write(database, work)
        label = f"{name}: {method}"

        def and_strike(connection: Any) -> Any:
            value = work(connection)
            strike(f"amid {label}")
            return value

        strike(f"before {label}")
        value = write(database, and_strike)
        strike(f"after {label}")
        return value

    return striking


def _asked_by(frame: Any) -> str | None:
    """Which method of the ledger asks for a transaction, e.g. ``Ledger.take_study``; images come through a lambda."""
    method = frame.f_code.co_qualname.partition(".<locals>")[0].partition(".<lambda>")[0]
    method = method.replace("__init__", "record_instance")
    return None if method in ("open_database", "LedgerWorkers.beat", "LedgerWorkers.owns_spool") else method


def _replace(module: str, name: str, by: Callable[[Any], Any]) -> None:
    holder: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for step in path:
        holder = getattr(holder, step)
    setattr(holder, last, by(getattr(holder, last)))


_work = part._work


def _with_strikes(name: str, chosen: settings.Settings, stop: threading.Event, supervisor: Connection) -> None:
    kind = name.partition("-")[0]
    if kind == "worker" and len(sys.argv) > 3:
        from tests import stand_in_node

        stand_in_node.stand_in(float(sys.argv[3]))
    for module, effect in EFFECTS.get(kind, ()):
        _replace(module, effect, functools.partial(_struck, f"{kind}: {effect}"))
    _replace("node.ledger_database", "Database.write", functools.partial(_write_with_strikes, kind))
    _work(name, chosen, stop, supervisor)


part._work = _with_strikes
service.FIRST_RESTART_S = service.LONGEST_RESTART_S = 0.2

if __name__ == "__main__":
    sys.exit(service.serve(settings.load(Path(sys.argv[1]))))
