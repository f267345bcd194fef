"""What a training of the grader can be told: one frozen set of numbers, from a TOML file, kept beside what it made."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path


class RecipeError(Exception):
    """The recipe cannot be used; says which key and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The defaults are what the shipped weights were made with."""

    epochs: int = 24
    batch: int = 32
    learning_rate: float = 2e-3
    """Highest of the one-cycle schedule, reached after a tenth of the steps."""
    weight_decay: float = 2e-2
    label_smoothing: float = 0.05
    heaviest_class: float = 8.0
    """Limit of the inverse-frequency weight: 33 slips in 1,200 discs would otherwise weigh 18-fold and be memorised."""
    teacher: float = 0.5
    """Weight of the second task: to tell the measured numbers from the image. 0 leaves it out."""
    folds: int = 5
    seed: int = 20

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "learning_rate", "heaviest_class"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"{name} has to be above 0")
        if self.folds < 2:
            raise RecipeError("folds has to be 2 or more")
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError("label_smoothing has to be from 0 to below 1")


def read(path: Path | None) -> Recipe:
    """The recipe of a TOML file with keys as above; the defaults without one. Raises RecipeError."""
    if path is None:
        return Recipe()
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path.name} is no TOML: {error}") from error
    known = {field.name: type(field.default) for field in fields(Recipe)}
    for name, value in given.items():
        if name not in known:
            raise RecipeError(f"{name} is not known (known: {', '.join(known)})")
        if isinstance(value, bool) or not isinstance(value, int if known[name] is int else (int, float)):
            raise RecipeError(f"{name} has to be a number of type {known[name].__name__}")
    return Recipe(**given)


def keep(recipe: Recipe, folder: Path) -> None:
    """Write the recipe into the run's folder. Raises RecipeError where the folder holds a run of another recipe."""
    path = folder / "recipe.json"
    text = json.dumps(asdict(recipe), indent=1) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise RecipeError(f"{folder} holds a run of another recipe: choose another folder, or remove it")
    path.write_text(text, encoding="utf-8")
