"""How the five Pfirrmann classes lie on a network's scores: three published ways to say "beyond this class".

Each turns (n, outputs) scores that rise with severity into (n, 4) log-odds of lying beyond the first... fourth class.
These never rise from class to class, whatever the scores are, so the classes' probabilities are never negative.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.networks.odds import Cuts

STEPS = 4
"""Between five classes."""
LEAST = 1e-6
"""A probability this close to 0 or 1 has no finite log-odds in float32."""


class Proportional(Cuts):
    """Cumulative logits: one score against learned, ascending cuts (McCullagh 1980)."""

    outputs = 1

    def beyond(self, scores: Tensor) -> Tensor:
        beyond: Tensor = scores - self()
        return beyond


class Conditional(nn.Module):
    """CORN (Shi, Cao, Raschka 2023): each score is the log-odds of the next class, given that this one was reached."""

    outputs = STEPS

    def beyond(self, scores: Tensor) -> Tensor:
        reached = functional.logsigmoid(scores.float()).cumsum(1)
        return reached - torch.log((-torch.expm1(reached)).clamp_min(LEAST))


class Softmax(nn.Module):
    """Unordered classes, as SpineNet has them: each score is the log-ratio of a class to the one before it.

    The same model as five logits, which count only up to a constant.
    """

    outputs = STEPS

    def beyond(self, scores: Tensor) -> Tensor:
        logits = torch.cat([scores.new_zeros(len(scores), 1), scores.cumsum(1)], 1).float()
        up_to = torch.logcumsumexp(logits, 1)[:, :-1]
        above = torch.logcumsumexp(logits.flip(1), 1).flip(1)[:, 1:]
        return above - up_to


SCALES: Mapping[str, type[Proportional] | type[Conditional] | type[Softmax]] = {
    "proportional": Proportional,
    "conditional": Conditional,
    "softmax": Softmax,
}
