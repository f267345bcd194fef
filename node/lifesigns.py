"""Signs of life of the node's processes, and what each of them says about itself: one small file for each.

They lie beside the ledger and not in it, so that they are there when the database is away, and so that a worker that
hangs or a receiver that was stopped can be told from one that has nothing to do. A process that is well writes its file
every few seconds, from a thread of its own.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = "parts"
BEAT_EVERY_S = 2.0
STARTS_KEPT = 20

Facts = Mapping[str, Any]

logger = logging.getLogger(__name__)

_facts: dict[str, Callable[[], object]] = {}
"""A part of the node is a process, and has one set of facts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sign:
    """What one process last said."""

    name: str
    pid: int
    started_at: datetime
    age_s: float
    """Since the process last said that it lives."""
    started_s_ago: tuple[float, ...]
    """Its last starts, this one too, in seconds before now."""
    facts: Facts


def clear(data_dir: Path) -> None:
    """Forget the processes of an earlier start. Whoever calls this holds the data directory."""
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()


def tell(name: str, fact: Callable[[], object]) -> None:
    """Have this process say ``fact()`` of itself with each sign of life; JSON, free of identifiers, quick to make."""
    _facts[name] = fact


def begin(data_dir: Path, name: str) -> None:
    """Say from now on, as part ``name`` of the node, that this process lives."""
    path = data_dir / FOLDER / f"{name}.json"
    starts = [*_starts(path), time.monotonic()][-STARTS_KEPT:]
    born = {"pid": os.getpid(), "started_at": datetime.now(UTC).isoformat(timespec="seconds"), "starts": starts}
    threading.Thread(target=_beat, args=(path, born), name="life-signs", daemon=True).start()


def read(data_dir: Path) -> tuple[Sign, ...]:
    """The last sign of each process that this start of the node has seen, by name; none where none ran."""
    folder = data_dir / FOLDER
    if not folder.is_dir():
        return ()
    return tuple(sign for path in sorted(folder.glob("*.json")) if (sign := _sign(path)) is not None)


def _beat(path: Path, born: Facts) -> None:
    failing = False
    while True:
        try:
            _write(path, born)
            failing = False
        except OSError as error:
            if not failing:
                logger.error("cannot say in %s that this process lives: %s", path.parent.name, error.strerror)
            failing = True
        time.sleep(BEAT_EVERY_S)


def _write(path: Path, born: Facts) -> None:
    content = {
        **born,
        "beat": time.monotonic(),  # one clock for all processes of a machine, and nobody sets it
        "facts": {name: fact() for name, fact in list(_facts.items())},
    }
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(path)


def _starts(path: Path) -> list[float]:
    """When this part was started before, since the node was."""
    try:
        return [float(start) for start in json.loads(path.read_text(encoding="utf-8"))["starts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _sign(path: Path) -> Sign | None:
    now = time.monotonic()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Sign(
            name=path.stem,
            pid=content["pid"],
            started_at=datetime.fromisoformat(content["started_at"]),
            age_s=max(0.0, now - content["beat"]),
            started_s_ago=tuple(now - start for start in content["starts"]),
            facts=content["facts"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # half gone in a crash of the machine; the next sign mends it
