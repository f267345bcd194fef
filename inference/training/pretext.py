"""What a trunk can be taught without labels, and from what: two tasks that need no reader.

``masked``: half of a slice's tiles are painted over with its mean, and the trunk has to tell what was there (masked
image modelling, as He et al., CVPR 2022, but with a small decoder on a convolutional trunk). ``views``: of the slices
in a batch, each seen twice and differently, the trunk has to tell which two are of one disc (SimCLR, Chen et al., ICML
2020), by the same regions that grading pools.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from inference.networks.family import MID, SLICES
from inference.networks.grader import DiscGrader
from inference.networks.regions import Region
from inference.training.disc_augmentation import shown_slices
from inference.training.lesson import Moment
from inference.training.unlabelled import UnlabelledDiscs

TILE_PX, PAINTED = 16, 0.5
"""Two cells of the last map wide: painted tiles cannot be told from their own pixels."""
CELL_PX = 4
"""A cell of the last map, in the halved pixels that are asked for: the network itself sees no finer ones."""
TEMPERATURE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Slices to learn from, in one view or two."""

    images: Tensor
    """(views, n, 112, 224) in 0-1."""
    zones: Tensor
    """(views, n, 112, 224)"""
    disc: Tensor
    """(n,) which disc is shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Slices that no label is needed of."""

    discs: UnlabelledDiscs
    rows: NDArray[np.int64]
    views: int

    def batch(self, chosen: NDArray[np.int64], moment: Moment) -> Batch:
        """The slices ``chosen``; as a second view, of a stack, maybe the slice beside."""
        first, count = moment.part
        other = np.clip(chosen + moment.chance.integers(-1, 2, len(chosen)), 0, len(self.discs.slices) - 1)
        other = np.where(self.discs.disc[other] == self.discs.disc[chosen], other, chosen)
        seen = [
            shown_slices(self.discs.slices[rows], self.discs.zones[self.discs.disc[rows]], moment.chance)
            for rows in (chosen, other)[: self.views]
        ]
        images, zones = (torch.stack(each)[:, first::count].to(moment.device) for each in zip(*seen, strict=True))
        disc = torch.from_numpy(self.discs.disc[chosen][first::count]).to(moment.device)
        return Batch(images=images, zones=zones, disc=disc)


class Masked(nn.Module):
    """To tell what lies under the paint."""

    views = 1
    losses: tuple[str, ...] = ("painted_loss",)

    def __init__(self, network: DiscGrader, precision: torch.dtype) -> None:
        super().__init__()
        self.network, self.precision = network, precision
        channels = network.config["widths"][-1]
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, CELL_PX**2, 1), nn.PixelShuffle(CELL_PX)
        )

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and again for the log: of the painted pixels, in spreads of the slice's own brightness."""
        images = batch.images[0]
        painted = _painted(images)
        shown = torch.where(painted, images.mean((1, 2), keepdim=True), images)
        with torch.autocast(images.device.type, self.precision, enabled=self.precision is not torch.float32):
            told = self.decoder(self.network.maps_seen(shown)[1])[:, 0].float()
        asked, over = functional.avg_pool2d(images[:, None], 2)[:, 0], painted[:, ::2, ::2]
        spread = asked.std((1, 2), keepdim=True).clamp_min(0.02)
        asked = (asked - asked.mean((1, 2), keepdim=True)) / spread
        loss = functional.smooth_l1_loss(told[over], asked[over])
        return loss, loss.detach()

    @property
    def learning(self) -> list[nn.Parameter]:
        return [*_trunk(self.network), *self.decoder.parameters()]


class Views(nn.Module):
    """To tell which two views are of one disc."""

    views = 2
    losses: tuple[str, ...] = ("views_loss",)

    def __init__(self, network: DiscGrader, precision: torch.dtype) -> None:
        super().__init__()
        self.network, self.precision = network, precision
        pooled = len(Region) * 2 * sum(network.config["widths"][-2:])
        self.projection = nn.Sequential(nn.Linear(pooled, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and again for the log: of telling the other view among all slices of other discs."""
        images, zones = batch.images.flatten(0, 1), batch.zones.flatten(0, 1)
        with torch.autocast(images.device.type, self.precision, enabled=self.precision is not torch.float32):
            told = self.projection(self._summary(images, zones)).float()
        told = functional.normalize(told)
        alike = told @ told.T / TEMPERATURE
        count = len(told)
        place = torch.arange(count, device=told.device)
        other, disc = (place + count // 2) % count, batch.disc.repeat(2)
        same = disc[:, None] == disc[None, :]
        same[place, other] = False
        loss = functional.cross_entropy(alike.masked_fill(same, -torch.inf), other)
        return loss, loss.detach()

    def _summary(self, images: Tensor, zones: Tensor) -> Tensor:
        """(n, 112, 224) -> (n, what grading pools of both maps)."""
        nine = images.new_zeros((len(images), SLICES, *images.shape[1:]))
        present = torch.zeros(nine.shape[:2], dtype=torch.bool, device=images.device)
        nine[:, MID], present[:, MID] = images, True
        return torch.cat([each.flatten(1) for each in self.network.pooled(nine, present, zones)], 1)

    @property
    def learning(self) -> list[nn.Parameter]:
        return [*_trunk(self.network), *self.projection.parameters()]


TASKS: Mapping[str, type[Masked] | type[Views]] = {"masked": Masked, "views": Views}
"""By their names in recipes."""


def _painted(images: Tensor) -> Tensor:
    """(n, rows, columns) bool, in tiles."""
    count, rows, columns = images.shape
    tiles = torch.rand((count, rows // TILE_PX, columns // TILE_PX), device=images.device) < PAINTED
    return tiles.repeat_interleave(TILE_PX, 1).repeat_interleave(TILE_PX, 2)


def _trunk(network: DiscGrader) -> list[nn.Parameter]:
    return [*network.stem.parameters(), *network.blocks.parameters()]
