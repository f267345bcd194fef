"""A recipe is checked before hours are spent on it, and a run's folder keeps to one."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.training.recipe import Recipe, RecipeError, keep, read


def _file(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_shipped_recipe_holds() -> None:
    assert read(None) == Recipe()


def test_what_the_file_names_changes_and_nothing_else(tmp_path: Path) -> None:
    assert read(_file(tmp_path, "epochs = 2\nlearning_rate = 1")) == Recipe(epochs=2, learning_rate=1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch = 2", "epoch is not known"),
        ("epochs = 2.5", "epochs has to be a number of type int"),
        ("epochs = true", "epochs has to be a number"),
        ("epochs = 0", "epochs has to be above 0"),
        ("folds = 1", "folds has to be 2 or more"),
        ("label_smoothing = 1.0", "label_smoothing has to be"),
        ("epochs", "no TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_the_name_of_its_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        read(_file(tmp_path, text))


def test_a_run_goes_on_with_its_own_recipe_only(tmp_path: Path) -> None:
    keep(Recipe(), tmp_path)
    keep(Recipe(), tmp_path)
    with pytest.raises(RecipeError, match="another recipe"):
        keep(Recipe(seed=21), tmp_path)
