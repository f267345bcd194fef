"""Scores -> log-odds of being beyond each class -> probabilities of the classes. Shared by all who give scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.grades import Finding

LEARNED: tuple[Finding, ...] = (
    Finding.PFIRRMANN,
    Finding.DISC_NARROWING,
    Finding.UPPER_ENDPLATE_DEFECT,
    Finding.LOWER_ENDPLATE_DEFECT,
    Finding.UPPER_MARROW_CHANGE,
    Finding.LOWER_MARROW_CHANGE,
    Finding.SPONDYLOLISTHESIS,
    Finding.DISC_HERNIATION,
    Finding.DISC_BULGING,
)
"""Findings that SPIDER's labels teach, and so the shipped grader. Scores come in the order of a grader's findings."""
LEARNABLE: tuple[Finding, ...] = (*LEARNED, Finding.CENTRAL_CANAL_STENOSIS)
"""All findings that a grader can be taught where a data set has labels for them, in the order of its scores."""

MARROW = Finding.UPPER_MARROW_CHANGE, Finding.LOWER_MARROW_CHANGE
"""One label speaks of both: the finding is there where at least one side has it."""

LogOdds = Mapping[Finding, Tensor]
"""Per finding of the grader (n, classes - 1): log-odds of lying beyond the first, the second... class."""


class Cuts(nn.Module):
    """Where the Pfirrmann score passes from one class into the next (proportional odds)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.tensor(-2.0))
        self.steps = nn.Parameter(torch.full((3,), 1.0))

    def forward(self) -> Tensor:
        """(4,) ascending."""
        return torch.cat([self.first[None], self.first + functional.softplus(self.steps).cumsum(0)])


def log_odds(scores: Tensor, cuts: Tensor, findings: Sequence[Finding] = LEARNED) -> LogOdds:
    """(n, len(findings)) scores, unbounded; a binary finding is positive above 0."""
    return {
        finding: scores[:, i, None] - cuts if finding is Finding.PFIRRMANN else scores[:, i, None]
        for i, finding in enumerate(findings)
    }


def probabilities(beyond: LogOdds) -> Mapping[Finding, Tensor]:
    """Per finding (n, classes), mildest class first, summing to 1."""
    return {finding: shares(each) for finding, each in beyond.items()}


def either(sides: Tensor) -> Tensor:
    """(n, 2) log-odds of each side -> (n,) of at least one, the two being independent (noisy or)."""
    neither = functional.softplus(sides).sum(1)  # minus the log of P(neither)
    return neither + torch.log(-torch.expm1(-neither))


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinions:
    """What is said of the same discs, from the image and from the measured numbers; each of the same findings."""

    network: LogOdds
    regression: LogOdds
    perceptrons: LogOdds

    @property
    def all(self) -> tuple[LogOdds, ...]:
        return self.network, self.regression, self.perceptrons


def averaged(opinions: Opinions, sharpness: Tensor, sides: Tensor) -> LogOdds:
    """All opinions count alike: their mean log-odds, times ``sharpness`` (findings,).

    Marrow is averaged as its label is, over both sides together. Which side it is, ``sides`` says, (n, 2) of
    ``DiscGrader.sides_of``: the likelier side has the joint probability, the other one less in their proportion.
    No opinion learned the sides, and each puts what it finds on one of them.
    """
    findings = tuple(opinions.network)
    joined = {f: torch.stack([said[f] for said in opinions.all]).mean(0) * sharpness[i] for i, f in enumerate(findings)}
    if MARROW[0] not in findings:
        return joined
    of_any = torch.stack([either(torch.cat([said[f] for f in MARROW], 1)) for said in opinions.all]).mean(0)
    likelier = torch.sigmoid(of_any * sharpness[findings.index(MARROW[0])])[:, None]
    by_side = torch.sigmoid(sides)
    chance = likelier * by_side / by_side.amax(1, keepdim=True)
    for i, finding in enumerate(MARROW):
        joined[finding] = torch.logit(chance[:, i : i + 1], 1e-6)
    return joined


def shares(beyond: Tensor) -> Tensor:
    """(n, classes - 1) log-odds of lying beyond the first, the second... class -> (n, classes) probabilities."""
    above = torch.sigmoid(beyond)
    edges = torch.cat([torch.ones_like(above[:, :1]), above, torch.zeros_like(above[:, :1])], 1)
    return edges[:, :-1] - edges[:, 1:]
