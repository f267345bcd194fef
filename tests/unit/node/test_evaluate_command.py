"""`spinenode evaluate` says what it needs, and what it measured with what."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from inference.training import evidence_page, evidence_run
from node.__main__ import main


def test_a_folder_without_stacks_is_named_in_one_plain_sentence(tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["evaluate", "evidence", "--data", str(tmp_path)])
    assert answer.exit_code == 1
    assert "no stacks with masks in" in answer.output
    assert "Traceback" not in answer.output


def test_figures_stand_under_their_date_command_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stacks").mkdir()
    for patient in (3, 5):
        (tmp_path / "stacks" / f"{patient}_t2_SPACE_mask.nii.gz").touch()
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(evidence_run, "evaluate", lambda root, models, patients, kept: asked.append(patients))
    monkeypatch.setattr(evidence_page, "write", lambda scores, out, heading: heading)
    answer = CliRunner().invoke(
        main, ["evaluate", "evidence", "--data", str(tmp_path), "--stacks", "1", "--device", "cpu"]
    )
    assert answer.exit_code == 0, answer.output
    assert asked == [(3,)]
    assert "spinenode evaluate evidence --data" in answer.output
    assert "--stacks 1" in answer.output
    assert "sha256" in answer.output
