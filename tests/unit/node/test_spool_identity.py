"""A ledger and its spool belong together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from node.ledger import Ledger
from node.spool_identity import WrongSpool, require_spool_of


def test_a_ledger_takes_the_spool_that_comes_first_and_no_other(ledger: Ledger, tmp_path: Path) -> None:
    require_spool_of(ledger, tmp_path / "first")
    require_spool_of(ledger, tmp_path / "first")
    with pytest.raises(WrongSpool, match=r"belongs to another spool .* set node\.spool_dir .* or node\.database_url"):
        require_spool_of(ledger, tmp_path / "second")


def test_a_spool_that_has_moved_is_the_same(ledger: Ledger, tmp_path: Path) -> None:
    require_spool_of(ledger, tmp_path / "before")
    shutil.move(tmp_path / "before", tmp_path / "after")
    require_spool_of(ledger, tmp_path / "after")


def test_nothing_but_its_name_is_left_in_the_spool(ledger: Ledger, tmp_path: Path) -> None:
    require_spool_of(ledger, tmp_path / "spool")
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["spool.id"]
