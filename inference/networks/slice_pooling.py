"""Maps of single slices -> one map of the disc. Absent slices have no map, so they have no say.

Each takes ``maps`` (slices, channels, rows, columns), not negative, and ``disc`` (slices,), which disc of ``count``
each belongs to, and gives (count, channels, rows, columns).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


class MeanOverSlices(nn.Module):
    """Every slice counts alike."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, maps: Tensor, disc: Tensor, count: int) -> Tensor:
        slices = torch.bincount(disc, minlength=count).clamp_min(1).to(maps.dtype)
        summed = maps.new_zeros((count, *maps.shape[1:])).index_add(0, disc, maps)
        return summed / slices[:, None, None, None]


class MaxOverSlices(nn.Module):
    """What any slice shows, the disc shows."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, maps: Tensor, disc: Tensor, count: int) -> Tensor:
        empty = maps.new_zeros((count, *maps.shape[1:]))
        return empty.scatter_reduce(0, disc[:, None, None, None].expand_as(maps), maps, "amax")


class AttentionOverSlices(nn.Module):
    """Slices count by how much they have to tell, which is learned (Ilse 2018, eq. 8, one linear layer).

    In eval mode the weights are held fixed for gradients: what is explained is what the attended slices show.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels))  # at first every slice counts alike

    def forward(self, maps: Tensor, disc: Tensor, count: int) -> Tensor:
        shares = self.shares(maps, disc, count).to(maps.dtype)
        shares = shares if self.training else shares.detach()
        return maps.new_zeros((count, *maps.shape[1:])).index_add(0, disc, maps * shares[:, None, None, None])

    def shares(self, maps: Tensor, disc: Tensor, count: int) -> Tensor:
        """(slices,) how much each counts; 1 in all for every disc."""
        told = functional.linear(maps.mean((2, 3)), self.weight)[:, 0].float()
        highest = told.new_full((count,), -torch.inf).scatter_reduce(0, disc, told.detach(), "amax")
        strength = torch.exp(told - highest[disc])
        return strength / strength.new_zeros(count).index_add(0, disc, strength)[disc]


POOLINGS: Mapping[str, type[MeanOverSlices] | type[MaxOverSlices] | type[AttentionOverSlices]] = {
    "mean": MeanOverSlices,
    "max": MaxOverSlices,
    "attention": AttentionOverSlices,
}
