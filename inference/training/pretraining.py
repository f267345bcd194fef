"""Teaches the trunk of the network by regions on discs without labels, before it learns to grade.

Seeded and resumable as the training behind it: its checkpoint and its log lie beside that one's, named ``_trunk``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.networks.grader import DiscGrader
from inference.training import pretext
from inference.training.loop import Loop, Session
from inference.training.parallel import Part
from inference.training.recipe import Recipe, RecipeError
from inference.training.unlabelled import UnlabelledDiscs

TRUNK = "stem.", "blocks."
"""What the networks' names of a trunk's weights begin with."""


def trunk(
    network: DiscGrader,
    discs: UnlabelledDiscs | None,
    patients: NDArray[np.int64],
    recipe: Recipe,
    session: Session,
) -> Mapping[str, Tensor]:
    """Weights of a taught trunk by name, on the CPU: from ``network``, which is changed, and the patients' discs.

    On the session's first device alone. Raises RecipeError where there is nothing to learn from, or a checkpoint is of
    another training.
    """
    rows = np.zeros(0, np.int64) if discs is None else discs.rows_of(patients)
    if discs is None or len(rows) < 2:
        raise RecipeError("pretrain needs discs without labels: there are none of these patients")
    torch.manual_seed(session.seed)
    mixed = torch.bfloat16 if session.device == "cpu" else torch.float16
    task = pretext.TASKS[recipe.pretrain](network, mixed if recipe.precision == "mixed" else torch.float32)
    material = pretext.Material(discs=discs, rows=rows, views=task.views)
    own = replace(session, log=session.log.with_stem(f"{session.log.stem}_trunk"), beside=())
    Loop(task, material, replace(recipe, epochs=recipe.pretrain_epochs, ema=0.0), own, Part()).run()
    return {name: value.cpu() for name, value in network.state_dict().items() if name.startswith(TRUNK)}
