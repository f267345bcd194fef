"""What every grading network of the family does, whatever it is made of: the one door that its users go through.

Training, grading, evidence and the loading of weights know a ``GradingNetwork`` and nothing of its insides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from inference.grades import Finding
from inference.networks import odds
from inference.networks.odds import LEARNED, LogOdds, Opinions
from inference.networks.perceptrons import Perceptrons
from inference.networks.regression import FeatureRegression
from inference.networks.scales import SCALES

SLICES = 9
MID = SLICES // 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a network makes of a batch of discs."""

    scores: Tensor
    """(n, columns): one column per finding, or several for Pfirrmann, as its scale asks for."""
    sides: Tensor
    """(n, 2) how changed the marrow above and below looks, by one measure; 0 where marrow was not taught."""
    summary: Tensor
    """(n, summary_size): what the shared trunk saw, as numbers."""


class GradingNetwork(nn.Module, ABC):
    """Disc volumes -> scores of the findings it was taught, from the image alone.

    Beside it regression and perceptrons judge the measured numbers. Scores are unbounded; ``log_odds`` says what they
    mean, ``severity`` makes one number per finding of them.
    ``sharpness`` calibrates what all three say together.
    """

    variant: ClassVar[str]
    """Name in recipes and in the header of a weights file."""

    sharpness: Tensor
    summary_size: int

    def __init__(
        self, *, features: Sequence[str], findings: Sequence[str] = LEARNED, scale: str = "proportional"
    ) -> None:
        """``features``: names of the regression's numbers; ``findings``: what is taught, in the order of the scores;
        ``scale``: how Pfirrmann's classes lie on the scores, one of ``SCALES``."""
        super().__init__()
        self.findings = tuple(Finding(each) for each in findings)
        self.config: dict[str, Any] = {"features": list(features), "findings": list(self.findings), "scale": scale}
        """The arguments that build this network again."""
        self.register_buffer("sharpness", torch.ones(len(self.findings)))
        self.cuts = SCALES[scale]()
        self.regression = FeatureRegression(features=features, findings=self.findings)
        with torch.random.fork_rng(devices=[]):  # the network's own first weights do not depend on its partners
            self.perceptrons = Perceptrons(numbers=self.regression.own, findings=self.findings)

    @property
    def device(self) -> torch.device:
        return self.sharpness.device

    def columns_of(self, finding: Finding) -> int:
        """How many columns of the scores speak of a finding."""
        return self.cuts.outputs if finding is Finding.PFIRRMANN else 1

    @abstractmethod
    def look(self, images: Tensor, slice_present: Tensor, zones: Tensor) -> Look:
        """(n, 9, 112, 224) in 0-1, (n, 9) bool with the mid-slice present, (n, 112, 224) of ``Zone``.

        Networks that know T1 also take (n, 9, 2, 112, 224): behind each slice the T1 image of its place, or zeros.
        """

    def forward(self, images: Tensor, slice_present: Tensor, zones: Tensor) -> Tensor:
        """As ``look`` -> (n, findings), one severity each."""
        return self.severity(self.look(images, slice_present, zones).scores)

    def by_finding(self, scores: Tensor) -> Mapping[Finding, Tensor]:
        """(n, columns) -> the columns of each finding."""
        widths = [self.columns_of(finding) for finding in self.findings]
        return dict(zip(self.findings, torch.split(scores, widths, 1), strict=True))

    def severity(self, scores: Tensor) -> Tensor:
        """(n, columns) -> (n, findings): the mean of a finding's columns, which all rise with it."""
        return torch.cat([each.mean(1, keepdim=True) for each in self.by_finding(scores).values()], 1)

    def log_odds(self, scores: Tensor) -> LogOdds:
        """(n, columns) -> per finding the log-odds of lying beyond each class."""
        return {
            finding: self.cuts.beyond(each) if finding is Finding.PFIRRMANN else each
            for finding, each in self.by_finding(scores).items()
        }

    def opinions(self, scores: Tensor, features: Tensor) -> Opinions:
        """Of the network's scores, and of (n, features) numbers: log-odds."""
        known = self.regression.known(features)[:, : self.regression.own].to(self.sharpness.dtype)
        return Opinions(
            network=self.log_odds(scores),
            regression=odds.log_odds(self.regression(features), self.regression.cuts(), self.findings),
            perceptrons=odds.log_odds(self.perceptrons(known), self.perceptrons.cuts(), self.findings),
        )

    # What explains a score needs to know of the insides.

    @property
    @abstractmethod
    def last_layers(self) -> tuple[nn.Module, ...]:
        """The layers whose outputs, averaged, are the severities: no activation comes after them."""

    @abstractmethod
    def maps_of(self, finding: Finding) -> tuple[nn.Module, ...]:
        """The modules whose outputs, (..., channels, rows, columns) maps, show where a finding was seen."""

    @abstractmethod
    def spread(self, of_map: Tensor, slice_present: Tensor) -> Tensor:
        """A map of ``maps_of``, summed over its channels (dimension 1) -> (n, 9, rows, columns) with the same sum:
        what each slice had to do with it."""

    @abstractmethod
    def slice_shares(self, slice_present: Tensor) -> Tensor:
        """(n, 9) bool -> (n, 9) how much of the look each slice is given, summing to 1. 0: it is not looked at."""

    @abstractmethod
    def layers_from_the_top(self) -> tuple[tuple[str, tuple[nn.Module, ...]], ...]:
        """All learned layers of the network by name, from those that score down to those that see pixels."""


def shown_slices(slice_present: Tensor) -> Tensor:
    """(n, 9) bool -> (n, 9): which slice is shown at each place, the nearest that is there, inner before outer.

    For networks whose input always has nine slices: a lone mid-slice is then seen as a stack of that slice.
    """
    places = torch.arange(SLICES, device=slice_present.device)
    distance = (places[:, None] - places[None, :]).abs() * SLICES + (places - MID).abs()[None, :]
    apart = distance[None].expand(len(slice_present), -1, -1)
    return apart.masked_fill(~slice_present[:, None, :], SLICES * SLICES * 2).argmin(2)


class Branch(nn.Module):
    """Pooled maps -> scores: a small perceptron."""

    def __init__(self, pooled: int, hidden: int, scores: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.mix = nn.Linear(pooled, hidden)
        self.relu = nn.ReLU()
        self.out = nn.Linear(hidden, scores)

    def forward(self, pooled: Tensor) -> Tensor:
        scores: Tensor = self.out(self.drop(self.relu(self.mix(self.drop(pooled)))))
        return scores
