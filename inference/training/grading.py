"""Trains one disc grader's network on labelled discs. ``grading_run`` deals the folds and keeps the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.networks import variants
from inference.networks.ensemble import Ensemble
from inference.networks.family import GradingNetwork
from inference.networks.grader import DiscGrader
from inference.training import parallel, pretraining
from inference.training.gradings import GradedDiscs, findings_taught
from inference.training.lesson import Lesson, Material, standardised
from inference.training.loop import Loop, Session
from inference.training.losses import Weighted, classes_of, of_network, shares_of, weighted
from inference.training.parallel import Part
from inference.training.recipe import SLICE_WEIGHTS, Recipe, RecipeError
from inference.training.unlabelled import UnlabelledDiscs

__all__ = ["SLICE_WEIGHTS", "Session", "Weighted", "classes_of", "shares_of", "train", "weighted"]

BETWEEN_SEEDS = 1000
"""From one member of an ensemble to the next."""


def train(
    discs: GradedDiscs,
    rows: NDArray[np.int64],
    recipe: Recipe,
    session: Session,
    unlabelled: UnlabelledDiscs | None = None,
) -> GradingNetwork:
    """A grader whose network is trained on the given discs, on the CPU in eval mode; of several seeds an ensemble.

    Goes on from the session's checkpoint where there is one, and leaves its last one beside the log. ``unlabelled``:
    what ``recipe.pretrain`` needs; only the discs of the patients of ``rows`` are looked at. Raises RecipeError where a
    checkpoint is of another training, or discs are missing.
    """
    members = []
    for number in range(recipe.seeds):
        log = session.log if recipe.seeds == 1 else session.log.with_stem(f"{session.log.stem}_seed{number}")
        own = replace(session, seed=session.seed + BETWEEN_SEEDS * number, log=log)
        begun = _begun(discs, rows, recipe, own, unlabelled)
        if session.beside:
            devices = (session.device, *session.beside)
            parallel.run(_learn_together, (discs, rows, (recipe, own, begun)), devices, log.with_suffix(".meeting"))
        members.append(_learned(discs, rows, recipe, own, begun))
    return members[0] if len(members) == 1 else Ensemble(members).eval()


def _begun(
    discs: GradedDiscs,
    rows: NDArray[np.int64],
    recipe: Recipe,
    session: Session,
    unlabelled: UnlabelledDiscs | None,
) -> Mapping[str, Tensor]:
    """The weights that the network begins with in place of chance's."""
    if recipe.sees_t1 and discs.t1 is None:
        raise RecipeError("a network that knows T1 needs discs with their T1 images")
    if not recipe.pretrain:
        return {}
    torch.manual_seed(session.seed)
    network = DiscGrader(**recipe.config(findings_taught(discs.labels)))
    return pretraining.trunk(network, unlabelled, np.unique(discs.patient[rows]), recipe, session)


def _learned(
    discs: GradedDiscs, rows: NDArray[np.int64], recipe: Recipe, session: Session, begun: Mapping[str, Tensor]
) -> GradingNetwork:
    """On one device; after a training on several, from the checkpoint that they left."""
    loop = _loop(discs, rows, (recipe, session, begun), Part())
    loop.run()
    learned: GradingNetwork = loop.lesson.network.cpu().eval()
    return learned


def _learn_together(
    part: Part,
    device: str,
    discs: GradedDiscs,
    rows: NDArray[np.int64],
    asked: tuple[Recipe, Session, Mapping[str, Tensor]],
) -> None:
    recipe, session, begun = asked
    _loop(discs, rows, (recipe, replace(session, device=device), begun), part).run()


def _loop(
    discs: GradedDiscs,
    rows: NDArray[np.int64],
    asked: tuple[Recipe, Session, Mapping[str, Tensor]],
    part: Part,
) -> Loop:
    recipe, session, begun = asked
    torch.manual_seed(session.seed)
    network = variants.build(recipe.variant, recipe.config(findings_taught(discs.labels)))
    network.load_state_dict({**network.state_dict(), **begun})
    mixed = torch.bfloat16 if session.device == "cpu" else torch.float16
    lesson = Lesson(
        network,
        of_network(discs, rows, recipe),
        recipe.teacher,
        mixed if recipe.precision == "mixed" else torch.float32,
    )
    material = Material(discs=discs, numbers=standardised(discs, rows), rows=rows)
    return Loop(lesson, material, recipe, session, part)
