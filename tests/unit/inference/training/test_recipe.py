"""A recipe is checked before hours are spent on it, and a run's folder keeps to one."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.training.recipe import SHIPPED, Recipe, RecipeError, keep, read


def _file(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_shipped_recipe_holds() -> None:
    assert read(None) == SHIPPED


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
        (
            'variant = "vgg"',
            "variant 'vgg' is not known .known: regions, slices_as_channels, slices_pooled",
        ),
        ("variant = 3", "variant has to be a text"),
        ("network = 3", "network has to be a table"),
        ('variant = "volumetric"\n[network]\nbranch_after = 9', "network: does not fit the variant volumetric"),
        ("[network]\nwidth = 1.0", "network: does not fit the variant regions"),
        ('precision = "half"', "precision 'half' is not known .known: mixed, full"),
        ("ema = 1.0", "ema has to be from 0 to below 1"),
        ("slices = 4", "slices has to be an odd number"),
        ("turned = 1.5", "turned has to be from 0 to 1"),
        ("forgiving = 1.5", "forgiving has to be from 0 to 1"),
        ("own_opinion = 1.0", "own_opinion has to be from 0 to below 1"),
        ("neighbours = -0.1", "neighbours has to be from 0 to below 1"),
        ("seeds = 0", "seeds has to be above 0"),
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


def test_a_table_of_the_file_is_told_to_the_network(tmp_path: Path) -> None:
    text = 'variant = "slices_pooled"\nseeds = 3\n[network]\nwidth = 0.05\npooling = "attention"'
    recipe = read(_file(tmp_path, text))
    assert (recipe.variant, recipe.seeds, recipe.network["pooling"]) == ("slices_pooled", 3, "attention")
    assert recipe.config(["pfirrmann"])["width"] == 0.05


def test_what_a_run_keeps_is_a_recipe_to_run_again(tmp_path: Path) -> None:
    recipe = Recipe(variant="volumetric", network={"width": 0.05}, ema=0.9)
    keep(recipe, tmp_path)
    keep(recipe, tmp_path)
    assert read(tmp_path / "recipe.json") == recipe


def test_a_run_kept_before_a_key_was_known_had_its_default(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"epochs": 24, "seed": 20}', encoding="utf-8")
    keep(Recipe(), tmp_path)
