"""A graded study, an empty ledger and an empty spool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.ledger import Ledger, open_ledger
from node.spool import Spool
from tests.report_factories import GradedStudy, graded_study


@pytest.fixture(scope="module")
def study() -> GradedStudy:
    return graded_study()


@pytest.fixture(autouse=True)
def _captures_only_where_they_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes a second that most of these tests do not need."""
    monkeypatch.setattr("sr_templates.secondary_capture.captures", lambda *_: ())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/node.db")
    yield opened
    opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", minimum_free_bytes=0)
