"""What a training of the grader can be told: one frozen set of settings, from a TOML file, kept beside what it made."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from inference.descriptors import FEATURES
from inference.networks import variants
from inference.networks.family import SLICES
from inference.networks.grader import DiscGrader
from inference.networks.odds import LEARNED

SLICE_WEIGHTS = (0.0, 0.0, 0.0, 0.25, 0.5, 0.25, 0.0, 0.0, 0.0)
"""Most discs that teach are one mid-sagittal slice: what lies further out was not seen in training."""
PRECISIONS = "mixed", "full"


PRETEXTS = "", "masked", "views"
"""Nothing; pixels that were painted over; which two views are of one disc (``inference.training.pretext``)."""


class RecipeError(Exception):
    """The recipe cannot be used; says which key and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The defaults are one network of the shipped weights, which are the mean of three (``seeds`` 3)."""

    variant: str = DiscGrader.variant
    """One of ``inference.networks.variants.VARIANTS``."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """A table: arguments of the variant's class (``width``, ``branch_after``, ``pooling``, ``scale``...)."""
    seeds: int = 1
    """Networks trained from different seeds; more than one make an ensemble."""
    epochs: int = 24
    batch: int = 32
    learning_rate: float = 2e-3
    """Highest of the one-cycle schedule, reached after a tenth of the steps."""
    weight_decay: float = 2e-2
    ema: float = 0.0
    """Decay, per step, of the moving average of the weights that is kept in their place; 0 keeps the last weights."""
    label_smoothing: float = 0.05
    own_opinion: float = 0.0
    """Share of what is asked of the network that is its own opinion, from a third of the steps on; 0: labels alone."""
    forgiving: float = 0.0
    """q of the generalised cross entropy, 0 to 1: the higher, the less a label counts that the network cannot see."""
    neighbours: float = 0.0
    """Share of what is asked for a Pfirrmann grade that lies on the grades next to it."""
    heaviest_class: float = 8.0
    """Limit of the inverse-frequency weight: 33 slips in 1,200 discs would otherwise weigh 18-fold and be memorised."""
    teacher: float = 0.5
    """Weight of the second task: to tell the measured numbers from the image. 0 leaves it out."""
    pretrain: str = ""
    """What the trunk is taught first, on all discs of the training's patients, labelled or not: one of ``PRETEXTS``."""
    pretrain_epochs: int = 16
    t1_hidden: float = 0.25
    """Chance that a disc's T1 image is not shown to a network that knows T1 (``t1`` in ``network``)."""
    slices: int = 3
    """Of a stack, training shows either its mid-slice or so many slices about it."""
    turned: float = 0.0
    """Chance that a stack's slices are shown in the opposite order, as SpineNet does with 0.5."""
    precision: str = "mixed"
    """"mixed": float16 with a scaled loss on CUDA, bfloat16 on a processor; "full": float32."""
    folds: int = 5
    seed: int = 20

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "learning_rate", "heaviest_class", "seeds", "pretrain_epochs"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"{name} has to be above 0")
        if self.folds < 2:
            raise RecipeError("folds has to be 2 or more")
        self._check_shares()
        if self.pretrain and self.variant != DiscGrader.variant:
            raise RecipeError(f"pretrain is for the variant {DiscGrader.variant} alone")
        if not (1 <= self.slices <= SLICES and self.slices % 2):
            raise RecipeError(f"slices has to be an odd number from 1 to {SLICES}")
        choices = ("variant", tuple(variants.VARIANTS)), ("precision", PRECISIONS), ("pretrain", PRETEXTS)
        for name, known in choices:
            if getattr(self, name) not in known:
                raise RecipeError(f"{name} {getattr(self, name)!r} is not known (known: {', '.join(known)})")

    def _check_shares(self) -> None:
        for name in ("label_smoothing", "ema", "own_opinion", "neighbours"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"{name} has to be from 0 to below 1")
        for name in ("turned", "forgiving", "t1_hidden"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} has to be from 0 to 1")

    @property
    def sees_t1(self) -> bool:
        return bool(self.network.get("t1", False))

    def config(self, findings: Sequence[str]) -> dict[str, Any]:
        """What ``variants.build`` builds the network from."""
        of_regions = {"slice_weights": list(SLICE_WEIGHTS), "marrow": "shared"}
        usual = of_regions if self.variant == DiscGrader.variant else {}
        return {"features": list(FEATURES), "findings": list(findings), **usual, **self.network}


SHIPPED = Recipe(seeds=3)
"""As the shipped weights were made."""


def read(path: Path | None) -> Recipe:
    """The recipe of a TOML file with keys as above, or of a run's ``recipe.json``; without one ``SHIPPED``.

    Raises RecipeError.
    """
    if path is None:
        return SHIPPED
    text = path.read_text(encoding="utf-8")
    try:
        given = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise RecipeError(f"{path.name} is no {path.suffix.lstrip('.').upper()}: {error}") from error
    usual = Recipe()
    known = {each.name: type(getattr(usual, each.name)) for each in fields(Recipe)}
    for name, value in given.items():
        if name not in known:
            raise RecipeError(f"{name} is not known (known: {', '.join(known)})")
        wanted = (int, float) if known[name] is float else known[name]
        if isinstance(value, bool) or not isinstance(value, wanted):
            words: Mapping[type, str] = {dict: "a table", str: "a text"}
            kind = words.get(known[name], f"a number of type {known[name].__name__}")
            raise RecipeError(f"{name} has to be {kind}")
    recipe = Recipe(**given)
    try:
        variants.build(recipe.variant, recipe.config(LEARNED))
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(f"network: does not fit the variant {recipe.variant}: {error}") from error
    return recipe


def keep(recipe: Recipe, folder: Path) -> None:
    """Write the recipe into the run's folder. Raises RecipeError where the folder holds a run of another recipe."""
    path = folder / "recipe.json"
    if path.exists() and read(path) != recipe:
        raise RecipeError(f"{folder} holds a run of another recipe: choose another folder, or remove it")
    path.write_text(as_text(recipe), encoding="utf-8")


def as_text(recipe: Recipe) -> str:
    """As ``read`` reads it again from a ``.json`` file."""
    return json.dumps(asdict(recipe), indent=1) + "\n"
