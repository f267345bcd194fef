"""Grades from measured numbers by small perceptrons: beside the regression, they see how numbers go together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.grades import Finding
from inference.networks.odds import LEARNED, Cuts

MEMBERS = 5
HIDDEN = 64
USUAL_DISTANCE = 0.8
"""Mean distance of a number from the usual, in spreads; taken off, so that both inputs lie about 0."""


class Perceptrons(nn.Module):
    """The numbers of the regression -> one severity score per finding: the mean of members of different seeds.

    As in the regression, each number counts by how far it lies from the usual, and by how far in either direction. On
    which side marrow changed they cannot tell, for one label speaks of both: they are asked about either side only.
    They do not know the level: what depends on a name should depend on little.
    """

    def __init__(self, *, numbers: int, findings: Sequence[Finding] = LEARNED) -> None:
        """``numbers``: how many each disc has; ``findings``: what is graded, in the order of the scores."""
        super().__init__()
        self.members = nn.ModuleList(Perceptron(numbers, len(findings)) for _ in range(MEMBERS))

    @property
    def each(self) -> tuple[Perceptron, ...]:
        return tuple(self.members)  # type: ignore[arg-type]

    def forward(self, known: Tensor) -> Tensor:
        """(n, numbers) the first of ``FeatureRegression.known``, which know no level -> (n, findings) scores."""
        return torch.stack([member(known) for member in self.each]).mean(0)

    def cuts(self) -> Tensor:
        """(4,) ascending: where the Pfirrmann score passes from one class into the next."""
        return torch.stack([member.cuts() for member in self.each]).mean(0)


class Perceptron(nn.Module):
    """One member: two hidden layers and much dropout, for a thousand discs are few. Untrained it says 0."""

    def __init__(self, numbers: int, findings: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2 * numbers, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, findings)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.drop_numbers, self.drop_hidden = nn.Dropout(0.2), nn.Dropout(0.5)
        self.cuts = Cuts()

    def forward(self, known: Tensor) -> Tensor:
        """As of ``Perceptrons``."""
        both = torch.cat([known, known.abs() - USUAL_DISTANCE], 1)
        # The activations are functions: those that are modules take part in explaining the network, which this is not.
        hidden = self.drop_hidden(functional.gelu(self.first(self.drop_numbers(both))))
        hidden = self.drop_hidden(functional.gelu(self.second(hidden)))
        scores: Tensor = self.last(hidden)
        return scores
