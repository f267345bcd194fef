"""`spinenode train grading` and `spinenode evaluate grading` say in plain sentences what is wrong with a data set."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from node.__main__ import main


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("layout", ["shared", "spider-release", "rsna", "manifest"])
def test_a_folder_of_another_layout_is_refused_in_one_sentence(tmp_path: Path, layout: str) -> None:
    where = ("--data", tmp_path, "--layout", layout)
    for words in (
        ("train", "grading", *where, "--out", tmp_path / "run"),
        ("evaluate", "grading", *where, "--run", tmp_path / "run", "--weights", "shipped"),
    ):
        answer = run(*words)
        assert answer.exit_code == 1
        assert "is it another --layout?" in answer.output
        assert "Traceback" not in answer.output


def test_every_bad_line_of_a_manifest_reaches_the_operator(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("patient,study,level,pfirrmann\na,nowhere,L4/L5,3\na,.,L4/L5,7\n")
    answer = run("train", "grading", "--data", tmp_path, "--layout", "manifest", "--out", tmp_path / "run")
    assert answer.exit_code == 1
    assert "line 2: study is neither a folder nor" in answer.output
    assert 'line 3: pfirrmann is "7"' in answer.output


def test_weights_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("patient,study,level,pfirrmann\na,.,L4/L5,3\n")
    words = ("evaluate", "grading", "--data", tmp_path, "--layout", "manifest", "--run", tmp_path / "run")
    answer = run(*words, "--weights", tmp_path / "absent.safetensors")
    assert answer.exit_code == 1
    assert "absent.safetensors" in answer.output
    assert "Traceback" not in answer.output


def test_an_unfinished_training_is_not_evaluated(tmp_path: Path) -> None:
    answer = run("evaluate", "grading", "--data", tmp_path, "--run", tmp_path)
    assert answer.exit_code == 1
    assert "holds no finished training" in answer.output
