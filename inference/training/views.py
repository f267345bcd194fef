"""How often, and how shifted, a disc is looked at when a network is evaluated: test-time augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.discs import SLICES
from inference.training.disc_augmentation import plain_batch
from inference.training.gradings import GradedDiscs


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """Every combination of these is one view; the scores are averaged over them."""

    shifts_px: Sequence[int] = (0,)
    """Down, and backwards."""
    slice_shifts: Sequence[int] = (0,)
    """Not taken where the disc's place 4 would then hold no slice."""
    turned: Sequence[bool] = (False,)
    """Whether the slices come in the opposite order."""

    def of(self, discs: GradedDiscs, rows: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """What a network is given, view by view."""
        for down, back in product(self.shifts_px, self.shifts_px):
            images, present, zones = plain_batch(discs, rows, (down, back))
            for shift, turned in product(self.slice_shifts, self.turned):
                places = (torch.arange(SLICES) + shift)[None].expand(len(rows), -1).clone()
                inside = (places >= 0) & (places < SLICES)
                places = places.clamp(0, SLICES - 1)
                is_there = present.gather(1, places) & inside
                lone = ~is_there[:, SLICES // 2]
                places[lone], is_there[lone] = torch.arange(SLICES), present[lone]
                wide = (*places.shape, *[1] * (images.ndim - 2))
                moved = images.gather(1, places.view(wide).expand_as(images)) * is_there.view(wide)
                yield (moved.flip(1), is_there.flip(1), zones) if turned else (moved, is_there, zones)


VIEWS: Mapping[str, Views] = {
    "plain": Views(),
    "shifted": Views(shifts_px=(-8, 0, 8)),
    "paper": Views(shifts_px=(-16, 0, 16), slice_shifts=(-1, 0, 1), turned=(False, True)),
}
"""``paper``: the 54 views of SpineNet."""
