"""Grades from measured numbers alone: a straight line per finding that anyone can read. The network's partner."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inference.grades import Finding
from inference.networks.odds import LEARNED, Cuts

FURTHEST = 4.0
"""Numbers further from the usual than so many spreads count as this far: they tell of a failed outline."""
_SIGNALS = ("signal", "csf", "near", "far", "contrast", "bone_scale")
_OF_OTHERS = ("_to_above", "_to_below")


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
    counts as the usual one.
    """

    center: Tensor
    spread: Tensor
    seen: Tensor

    def __init__(self, *, features: Sequence[str], findings: Sequence[Finding] = LEARNED) -> None:
        """``features``: names of the numbers; ``findings``: what is graded, in the order of the scores."""
        super().__init__()
        self.register_buffer("center", torch.zeros(len(features)))
        self.register_buffer("spread", torch.ones(len(features)))
        seen = [[float(is_seen(finding, name)) for name in (*features, *features)] for finding in findings]
        self.register_buffer("seen", torch.tensor(seen), persistent=False)
        self.weight = nn.Parameter(torch.zeros(len(findings), 2 * len(features)))
        self.bias = nn.Parameter(torch.zeros(len(findings)))
        self.cuts = Cuts()

    def forward(self, features: Tensor) -> Tensor:
        """(n, len(features)) with NaN for unknown -> (n, findings) scores."""
        return self.terms(features).sum(2) + self.bias

    def terms(self, features: Tensor) -> Tensor:
        """(n, len(features)) -> (n, findings, len(features)): what each number adds to each score."""
        known = (features - self.center) / self.spread
        known = torch.where(torch.isfinite(known), known, torch.zeros_like(known)).clamp(-FURTHEST, FURTHEST)
        both = torch.cat([known, known.abs()], 1)
        terms = both[:, None, :] * (self.weight * self.seen)
        return terms[..., : known.shape[1]] + terms[..., known.shape[1] :]
