"""deploy/node.toml and the settings are one: every key stands there, with its default, and none that is unknown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from node.settings import ArchiveSettings, SenderSettings, Settings, load

NODE_TOML = Path(__file__).resolve().parents[3] / "deploy" / "node.toml"
TEXT = NODE_TOML.read_text(encoding="utf-8")
TABLES = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}


def keys() -> Iterator[tuple[str, str]]:
    for name, table in TABLES.items():
        yield from ((name, key) for key in table.model_fields)  # type: ignore[union-attr]
    yield from (("archives", key) for key in ArchiveSettings.model_fields)
    yield from (("senders", key) for key in SenderSettings.model_fields)


def section(name: str) -> str:
    """The lines of a table, comments without their mark."""
    lines = [re.sub(r"^# ?", "", line) for line in TEXT.splitlines()]
    start = next(number for number, line in enumerate(lines) if re.fullmatch(rf"\[\[?{name}\]\]?", line.strip()))
    end = next(
        (n for n, line in enumerate(lines[start + 1 :], start + 1) if re.fullmatch(r"\[\[?\w+\]\]?", line.strip())),
        None,
    )
    return "\n".join(lines[start:end])


@pytest.mark.parametrize(("table", "key"), keys(), ids=".".join)
def test_every_key_stands_in_the_file(table: str, key: str) -> None:
    assert re.search(rf"^{key} = ", section(table), re.MULTILINE), f"{table}.{key} is not in deploy/node.toml"


def test_the_file_is_read_and_gives_the_defaults() -> None:
    assert load(NODE_TOML) == Settings()
