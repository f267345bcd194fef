"""Grades from measured numbers alone: a straight line per finding that anyone can read. The network's partner."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inference.anatomy import DiscLevel
from inference.descriptors import LEVEL
from inference.grades import Finding
from inference.networks.odds import LEARNED, Cuts

FURTHEST = 4.0
"""Numbers further from the usual than so many spreads count as this far: they tell of a failed outline."""
_SIGNALS = ("signal", "csf", "near", "far", "contrast", "bone_scale")
_OF_OTHERS = ("_to_above", "_to_below")
LEVELS = len(DiscLevel)
AT_LEVEL = ("height_middle", "height_mm", "height_front", "height_back", "signal_inner")
"""Numbers that count beside what is usual at the disc's level as well: discs grow higher footwards."""


def is_seen(finding: Finding, name: str) -> bool:
    """Whether a number is given to a finding's line.

    Marrow sees nothing of the bone on the other side: one label for both sides has to teach which side it is. A slip is
    the geometry of its own two bodies: with thirty examples, signals and other discs only teach it patients.
    """
    if finding is Finding.UPPER_MARROW_CHANGE:
        return not name.startswith("lower_")
    if finding is Finding.LOWER_MARROW_CHANGE:
        return not name.startswith("upper_")
    if finding is Finding.SPONDYLOLISTHESIS:
        own = name.removeprefix("upper_").removeprefix("lower_")
        return not own.startswith(_SIGNALS) and not name.endswith(_OF_OTHERS)
    return True


class FeatureRegression(nn.Module):
    """Numbers of a disc -> one severity score per finding (logistic; Pfirrmann by proportional odds).

    Each number counts twice: by how far it lies from the usual, and by how far in either direction. An unknown number
    counts as the usual one. Where the numbers hold a level, some count beside what is usual there, too.
    """

    center: Tensor
    spread: Tensor
    seen: Tensor
    usual: Tensor
    """(levels, of ``AT_LEVEL``) what is usual; 0 where not known, for NaN equals nothing and has no average."""

    def __init__(self, *, features: Sequence[str], findings: Sequence[Finding] = LEARNED) -> None:
        """``features``: names of the numbers; ``findings``: what is graded, in the order of the scores."""
        super().__init__()
        self.features = tuple(features)
        of_level = AT_LEVEL if LEVEL in features else ()
        own = tuple(name for name in features if name != LEVEL)
        self.names = (*own, *(f"{name}_to_usual" for name in of_level))
        """Of the numbers that the lines are made of."""
        self.own = len(own)
        """So many of them, the first ones, hold whatever the disc's name is."""
        if of_level:
            self.register_buffer("usual", torch.zeros(LEVELS, len(AT_LEVEL)))
        self.register_buffer("center", torch.zeros(len(self.names)))
        self.register_buffer("spread", torch.ones(len(self.names)))
        seen = [[float(is_seen(finding, name)) for name in (*self.names, *self.names)] for finding in findings]
        self.register_buffer("seen", torch.tensor(seen), persistent=False)
        self.weight = nn.Parameter(torch.zeros(len(findings), 2 * len(self.names)))
        self.bias = nn.Parameter(torch.zeros(len(findings)))
        self.cuts = Cuts()

    def forward(self, features: Tensor) -> Tensor:
        """(n, len(features)) with NaN for unknown -> (n, findings) scores."""
        return self.terms(features).sum(2) + self.bias

    def numbers(self, features: Tensor) -> Tensor:
        """(n, len(features)) -> (n, len(names)): the level replaced by how far the disc is from the usual there."""
        if LEVEL not in self.features:
            return features
        level = features[:, self.features.index(LEVEL)]
        own = features[:, [i for i, name in enumerate(self.features) if name != LEVEL]]
        usual = self.usual.to(features.dtype)[(level.nan_to_num(1.0).long() - 1).clamp(0, LEVELS - 1)]
        usual = torch.where(torch.isfinite(level)[:, None] & (usual != 0), usual, torch.nan)
        return torch.cat([own, features[:, self.at_level] - usual], 1)

    @property
    def at_level(self) -> list[int]:
        """Where ``AT_LEVEL`` lies among the features."""
        return [self.features.index(name) for name in AT_LEVEL]

    def known(self, features: Tensor) -> Tensor:
        """(n, len(features)) with NaN for unknown -> (n, len(names)) spreads from the usual; 0 for unknown."""
        known = (self.numbers(features) - self.center) / self.spread
        return torch.where(torch.isfinite(known), known, torch.zeros_like(known)).clamp(-FURTHEST, FURTHEST)

    def terms(self, features: Tensor) -> Tensor:
        """(n, len(features)) -> (n, findings, len(names)): what each number adds to each score."""
        known = self.known(features)
        both = torch.cat([known, known.abs()], 1)
        terms = both[:, None, :] * (self.weight * self.seen)
        return terms[..., : known.shape[1]] + terms[..., known.shape[1] :]
