"""`spinenode train localisation` and `spinenode evaluate localisation` say what they need, and what they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from inference.training import (
    localisation,
    localisation_figures,
    localisation_page,
    localisation_report,
    localisation_scores,
    localisation_sources,
)
from inference.training.localisation_sources import Layout, Sources
from node.__main__ import main


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[localisation.Training]:
    """What would have been trained; nothing is."""
    begun: list[localisation.Training] = []

    def train(training: localisation.Training) -> Path:
        begun.append(training)
        return training.out

    def read(root: Path, layout: Layout, held_out: Any) -> Sources:
        return Sources(stacks=(), unseen=(), has_images_without_masks=False)

    monkeypatch.setattr(localisation, "train", train)
    monkeypatch.setattr(localisation, "held_out_patients", lambda root, one_of: frozenset({one_of, 2 * one_of}))
    monkeypatch.setattr(localisation_sources, "read", read)
    monkeypatch.setattr(localisation_sources, "patients", lambda root, layout: tuple(str(n) for n in range(1, 15)))
    monkeypatch.setattr(localisation_scores, "read_localiser", lambda path: None)
    monkeypatch.setattr(localisation_report, "write", lambda training, unseen, localiser: "the report")
    return begun


def test_one_patient_of_seven_is_left_out_unless_told_otherwise(
    tmp_path: Path, trainings: list[localisation.Training]
) -> None:
    answer = run("train", "localisation", "--data", tmp_path, "--out", tmp_path / "new", "--seed", "3")
    assert answer.exit_code == 0, answer.output
    assert "the report" in answer.output
    (training,) = trainings
    assert training.held_out == {7, 14}
    assert (training.seed, training.layout, training.out) == (3, Layout.SHARED, tmp_path / "new/localiser.safetensors")
    assert training.stages == localisation.STAGES


def test_other_layouts_name_patients_by_words(tmp_path: Path, trainings: list[localisation.Training]) -> None:
    chosen = ("--layout", "nifti", "--hold-out", "5", "--short")
    assert run("train", "localisation", "--data", tmp_path, "--out", tmp_path / "new", *chosen).exit_code == 0
    (training,) = trainings
    assert training.held_out == {"5", "10"}
    assert (training.layout, training.stages) == (Layout.NIFTI, localisation.SHORT_STAGES)


def test_everybody_is_trained_on_when_nobody_is_held_out(
    tmp_path: Path, trainings: list[localisation.Training]
) -> None:
    assert run("train", "localisation", "--data", tmp_path, "--out", tmp_path / "new", "--hold-out", "0").exit_code == 0
    assert trainings[0].held_out == frozenset()


def test_a_training_that_was_begun_needs_resume(tmp_path: Path, trainings: list[localisation.Training]) -> None:
    (tmp_path / "localiser").mkdir()
    answer = run("train", "localisation", "--data", tmp_path, "--out", tmp_path)
    assert answer.exit_code == 1
    assert "--resume" in answer.output
    assert not trainings
    assert run("train", "localisation", "--data", tmp_path, "--out", tmp_path, "--resume").exit_code == 0
    assert len(trainings) == 1


def test_finished_weights_are_never_written_over(tmp_path: Path, trainings: list[localisation.Training]) -> None:
    (tmp_path / "localiser.safetensors").touch()
    answer = run("train", "localisation", "--data", tmp_path, "--out", tmp_path, "--resume")
    assert answer.exit_code == 1
    assert "there already" in answer.output
    assert not trainings


@pytest.mark.parametrize("layout", ["spider-release", "nifti"])
def test_a_folder_of_another_layout_is_refused_in_one_sentence(tmp_path: Path, layout: str) -> None:
    answer = run("train", "localisation", "--data", tmp_path, "--out", tmp_path / "new", "--layout", layout)
    assert answer.exit_code == 1
    assert "no image with a mask was found" in answer.output
    assert "Traceback" not in answer.output


def test_evaluation_needs_stacks_and_folds(tmp_path: Path) -> None:
    assert "no stacks with masks" in run("evaluate", "localisation", "--data", tmp_path).output
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "3_t2_SPACE_mask.nii.gz").touch()
    answer = run("evaluate", "localisation", "--data", tmp_path, "--folds", tmp_path)
    assert answer.exit_code == 1
    assert "folds.json" in answer.output


def test_figures_stand_under_their_date_command_and_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "3_t2_SPACE_mask.nii.gz").touch()
    (tmp_path / "folds.json").write_text("[[3, 4], [5]]")
    asked: list[bool] = []
    monkeypatch.setattr(localisation_scores, "unseen", lambda folder: {3: None, 4: None})
    monkeypatch.setattr(
        localisation_figures, "evaluate", lambda root, unseen, seen, experiments: asked.append(experiments)
    )
    places: list[localisation_page.Place] = []

    def write(
        found: object, root: Path, unseen: object, page: tuple[Path, localisation_page.Place], heading: str
    ) -> str:
        places.append(page[1])
        return heading

    monkeypatch.setattr(localisation_page, "write", write)
    answer = run("evaluate", "localisation", "--data", tmp_path, "--folds", tmp_path, "--quick")
    assert answer.exit_code == 0, answer.output
    assert asked == [False]
    assert "patient-wise cross-validation, 2 patients" in answer.output
    assert "--quick`" in answer.output
    assert places == [localisation_page.FOLDS]  # not over the shipped network's figures
