"""Several networks of one variant, trained from different seeds: their mean opinion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inference.grades import Finding
from inference.networks.family import GradingNetwork, Look
from inference.networks.odds import LogOdds


class Ensemble(GradingNetwork):
    """The mean of its members' log-odds. What is said of numbers, and the sharpness, are its own: members have none."""

    variant = "ensemble"

    def __init__(self, members: Sequence[GradingNetwork]) -> None:
        """``members``: of one variant and the same arguments."""
        first = members[0]
        super().__init__(
            **{name: first.config[name] for name in ("features", "findings", "scale")},
        )
        del self.cuts
        for member in members:
            del member.regression, member.perceptrons
        self.members = nn.ModuleList(members)
        self.config = {"member": first.variant, "count": len(members), "arguments": first.config}
        self.summary_size = sum(member.summary_size for member in members)

    @property
    def _each(self) -> list[Any]:
        return list(self.members)

    def forward(self, images: Tensor, slice_present: Tensor, zones: Tensor) -> Tensor:
        return torch.stack([member(images, slice_present, zones) for member in self._each]).mean(0)

    def look(self, images: Tensor, slice_present: Tensor, zones: Tensor) -> Look:
        looks: list[Look] = [member.look(images, slice_present, zones) for member in self._each]
        return Look(
            scores=torch.cat([look.scores for look in looks], 1),
            sides=torch.stack([look.sides for look in looks]).mean(0),
            summary=torch.cat([look.summary for look in looks], 1),
        )

    def severity(self, scores: Tensor) -> Tensor:
        of_members = zip(self._each, scores.chunk(len(self.members), 1), strict=True)
        return torch.stack([member.severity(part) for member, part in of_members]).mean(0)

    def log_odds(self, scores: Tensor) -> LogOdds:
        of_members = zip(self._each, scores.chunk(len(self.members), 1), strict=True)
        said: list[LogOdds] = [member.log_odds(part) for member, part in of_members]
        return {finding: torch.stack([each[finding] for each in said]).mean(0) for finding in self.findings}

    @property
    def last_layers(self) -> tuple[nn.Module, ...]:
        return tuple(layer for member in self._each for layer in member.last_layers)

    def maps_of(self, finding: Finding) -> tuple[nn.Module, ...]:
        return tuple(module for member in self._each for module in member.maps_of(finding))

    def spread(self, of_map: Tensor, slice_present: Tensor) -> Tensor:
        spread: Tensor = self._each[0].spread(of_map, slice_present)
        return spread

    def slice_shares(self, slice_present: Tensor) -> Tensor:
        shares: Tensor = self._each[0].slice_shares(slice_present)
        return shares

    def layers_from_the_top(self) -> tuple[tuple[str, tuple[nn.Module, ...]], ...]:
        steps = zip(*(member.layers_from_the_top() for member in self._each), strict=True)
        return tuple((step[0][0], tuple(module for _, modules in step for module in modules)) for step in steps)
