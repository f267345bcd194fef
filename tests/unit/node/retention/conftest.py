"""The bench on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.ledger import Ledger
from tests.unit.node.retention.bench import Bench


@pytest.fixture
def bench(tmp_path: Path, ledger: Ledger) -> Bench:
    return Bench(tmp_path, ledger)
