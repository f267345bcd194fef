"""The grading networks by name, as recipes and weights files name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference.networks.ensemble import Ensemble
from inference.networks.family import GradingNetwork
from inference.networks.grader import DiscGrader
from inference.networks.spinenet import SlicesAsChannels, SlicesPooled, Volumetric

VARIANTS: Mapping[str, type[GradingNetwork]] = {
    kind.variant: kind for kind in (DiscGrader, SlicesAsChannels, SlicesPooled, Volumetric)
}
DEFAULT = DiscGrader.variant
"""Of weights files whose header names none."""


def build(variant: str, config: Mapping[str, Any]) -> GradingNetwork:
    """An untrained network from what ``GradingNetwork.config`` holds.

    Raises KeyError, TypeError or ValueError where no network is so described.
    """
    if variant == Ensemble.variant:
        return Ensemble([build(config["member"], config["arguments"]) for _ in range(config["count"])])
    return VARIANTS[variant](**config)
