"""Reads CSV tables of labels as people and programs write them, and names what is wrong by its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.training.graded_series import DataSetError

MOST_NAMED = 20
"""Faults that are told in one message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a table."""

    line: int
    """As an editor counts, from 1; the header is line 1."""
    cells: dict[str, str]
    """Column -> text without blanks around it; empty where nothing is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A CSV with a header row."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path, required: Iterable[str]) -> Table:
    """The table; cells are parted by commas, or by semicolons where the header has no comma. Empty lines are skipped.

    Raises:
        DataSetError: it is missing, is no UTF-8 text, lacks a column, or has lines of another width.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as absent:
        raise DataSetError(f"{path.name} is missing from {path.parent.name}/: is it another --layout?") from absent
    except UnicodeDecodeError as other:
        raise DataSetError(f"{path.name} is no UTF-8 text (byte {other.start}): save it as CSV in UTF-8") from other
    if "\0" in text:
        raise DataSetError(f"{path.name} holds zero bytes: save it as CSV in UTF-8, not UTF-16 or a spreadsheet")
    header, _, _ = text.partition("\n")
    delimiter = "," if "," in header or ";" not in header else ";"
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as broken:
        raise DataSetError(f"{path.name}, line {reader.line_num}: {broken}: check the quotation marks") from broken
    if not lines:
        raise DataSetError(f"{path.name} is empty: its first line names the columns")
    columns = tuple(lines[0][1])
    _require_columns(path.name, columns, required)
    filled = [(line, cells) for line, cells in lines[1:] if any(cells)]
    refuse(
        path.name,
        [
            f"line {line}: {len(cells)} cells instead of {len(columns)}: keep the commas of empty cells"
            for line, cells in filled
            if len(cells) != len(columns)
        ],
    )
    rows = tuple(Row(line=line, cells=dict(zip(columns, cells, strict=True))) for line, cells in filled)
    return Table(columns=columns, rows=rows)


def refuse(name: str, faults: Sequence[str]) -> None:
    """Raise DataSetError that names the first ``MOST_NAMED`` faults and counts the rest; nothing without a fault."""
    if not faults:
        return
    named = [f"  {fault}" for fault in faults[:MOST_NAMED]]
    if len(faults) > MOST_NAMED:
        named.append(f"  and {len(faults) - MOST_NAMED} more")
    raise DataSetError("\n".join([f"{name} cannot be used:", *named]))


def _require_columns(name: str, columns: Sequence[str], required: Iterable[str]) -> None:
    missing = [column for column in required if column not in columns]
    if missing:
        raise DataSetError(f"{name} has no column {', '.join(missing)} (its columns: {', '.join(columns)})")
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise DataSetError(f"{name} has the column {', '.join(repeated)} twice: keep one")
