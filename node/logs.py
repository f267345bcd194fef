"""What the node says to its operator: one line for each event on standard error, plain or JSON. No identifiers.

Exceptions appear as their type and the places they went through, never with their message: messages of the libraries
quote values of the data set. For the same reason only libraries that never see a data set may speak for themselves.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
TRUSTED_LIBRARIES = ("dbos",)
"""Libraries that know study numbers and nothing else."""
CONTEXT = ("study_id", "archive")
"""Fields that may stand beside a message: ``logger.info("...", extra={"study_id": 7})``."""

UID_LIKE = re.compile(r"\b[0-2](?:\.\d+){4,}")
"""Five numbers with dots or more: a UID, and no address or version."""

Format = Literal["plain", "json"]


def configure(process: str, level: str, style: Format) -> None:
    """Send this process's log to standard error, in ``style``, as from ``process``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(process) if style == "json" else _Plain(process))
    handler.addFilter(_is_free_of_identifiers)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("node").setLevel(level)
    logging.getLogger("dbos").addHandler(logging.NullHandler())  # else it prints for itself, past the filter
    warnings.simplefilter("ignore")  # those of pydicom quote the values that they warn about


def place(error: BaseException) -> str:
    """Type of an exception and the innermost place of ours on its way: ``ValueError at inference/stacking.py:120``."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE_ROOT)]
    ours = [frame for frame in ours if "site-packages" not in Path(frame.filename).parts] or list(frames)
    if not ours:
        return type(error).__name__
    return f"{type(error).__name__} at {_short(ours[-1].filename)}:{ours[-1].lineno}"


def _short(filename: str) -> str:
    path = Path(filename)
    if "site-packages" in path.parts:
        return "/".join(path.parts[path.parts.index("site-packages") + 1 :])
    return path.relative_to(PACKAGE_ROOT).as_posix() if path.is_relative_to(PACKAGE_ROOT) else path.name


def _is_free_of_identifiers(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] in {"node", *TRUSTED_LIBRARIES}


def _trace(kind: type[BaseException], error: BaseException, tail: TracebackType | None) -> str:
    frames = traceback.extract_tb(tail if tail is not None else error.__traceback__)
    return " < ".join([kind.__name__, *(f"{_short(frame.filename)}:{frame.lineno}" for frame in reversed(frames))])


def _fields(record: logging.LogRecord, process: str) -> dict[str, object]:
    fields: dict[str, object] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "process": process,
        "message": UID_LIKE.sub("[uid]", record.getMessage()),
    }
    fields.update({name: getattr(record, name) for name in CONTEXT if hasattr(record, name)})
    if record.exc_info and record.exc_info[0] is not None and record.exc_info[1] is not None:
        fields["trace"] = _trace(*record.exc_info)
    return fields


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(record, self.process), ensure_ascii=False)


class _Plain(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record, self.process)
        line = f"{fields['time']} {fields['level']:7} {self.process:10} {fields['message']}"
        for name in (*CONTEXT, "trace"):
            if name in fields:
                line += f" [{name} {fields[name]}]"
        return line.replace("\n", " ")
