"""Discs as the network sees them in training: turned, shifted, scaled, brightened, blurred, with noise.

Rotation, shift and scale as for SpineNet (+-15 degrees, +-10 %); intensities wider, since one hospital's contrast
must not be learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from inference.discs import COLUMNS, MID, ROWS, SLICES
from inference.training.gradings import LEFT, MARGIN_COLUMNS, MARGIN_ROWS, TOP, GradedDiscs

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Images (n, 9, 112, 224), slice_present (n, 9), zones (n, 112, 224), labels."""

ROTATION_DEG, SCALE, SHIFT_ROWS_PX, SHIFT_COLUMNS_PX = 12.0, 0.10, 8.0, 14.0


def batch(discs: GradedDiscs, rows: NDArray[np.int64], chance: np.random.Generator) -> Batch:
    """The discs ``rows``, each augmented its own way. A stack shows either one slice or the three middle ones."""
    taken = _taken(discs, rows, chance)
    theta = _moves(len(rows), chance)
    slices = _moved(_margined(discs, taken), theta[taken.owner], "bilinear")
    zones = _moved(torch.from_numpy(discs.zones[rows])[:, None].float(), theta, "nearest")
    images, present = _in_places(_shaded(slices, chance), taken, len(rows))
    return images, present, zones[:, 0].to(torch.uint8), torch.from_numpy(discs.labels[rows])


def plain_batch(discs: GradedDiscs, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    """The discs as inference cuts them: the middle 112 x 224 pixels, every slice that is there."""
    taken = _taken(discs, rows, None)
    within = slice(TOP, TOP + ROWS), slice(LEFT, LEFT + COLUMNS)
    slices = _margined(discs, taken)[:, :, *within]
    zones = torch.from_numpy(discs.zones[rows][:, *within])
    return *_in_places(slices, taken, len(rows)), zones


@dataclass(frozen=True, kw_only=True, slots=True)
class _Taken:
    """Which slices are taken, for which disc of the batch, and to which of its nine places they go."""

    slices: NDArray[np.int64]
    owner: NDArray[np.int64]
    place: NDArray[np.int64]


def _taken(discs: GradedDiscs, rows: NDArray[np.int64], chance: np.random.Generator | None) -> _Taken:
    slices, owner, place = [], [], []
    for i, row in enumerate(rows):
        chosen = np.arange(*np.searchsorted(discs.slice_disc, [row, row + 1]))
        positions = discs.slice_position[chosen]
        if chance is not None and len(chosen) > 1:
            reach = int(chance.integers(2))
            shift = 0 if reach else int(chance.integers(-1, 2))  # a slice beside the mid-slice is a mid-slice elsewhere
            near = np.abs(positions - MID - shift) <= reach
            if not near.any():
                near, shift = positions == MID, 0
            chosen, positions = chosen[near], positions[near] - shift
        slices.append(chosen)
        owner.append(np.full(len(chosen), i))
        place.append(positions)
    return _Taken(slices=np.concatenate(slices), owner=np.concatenate(owner), place=np.concatenate(place))


def _margined(discs: GradedDiscs, taken: _Taken) -> Tensor:
    """(slices, 1, 192, 320)"""
    return torch.from_numpy(discs.slices[taken.slices])[:, None].float() / 255


def _in_places(slices: Tensor, taken: _Taken, count: int) -> tuple[Tensor, Tensor]:
    images = torch.zeros(count, SLICES, ROWS, COLUMNS)
    present = torch.zeros(count, SLICES, dtype=torch.bool)
    images[taken.owner, taken.place] = slices[:, 0]
    present[taken.owner, taken.place] = True
    return images, present


def _moves(count: int, chance: np.random.Generator) -> NDArray[np.float32]:
    """(count, 2, 3) from (x, y) in -1..1 of the 112 x 224 pixels to (x, y) in -1..1 of the 192 x 320."""
    angle = np.radians(chance.uniform(-ROTATION_DEG, ROTATION_DEG, count))
    scale = chance.uniform(1 - SCALE, 1 + SCALE, (2, count))
    down = chance.uniform(-SHIFT_ROWS_PX, SHIFT_ROWS_PX, count)
    right = chance.uniform(-SHIFT_COLUMNS_PX, SHIFT_COLUMNS_PX, count)
    column_half, row_half = MARGIN_COLUMNS / 2, MARGIN_ROWS / 2
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = np.cos(angle) * scale[0] * (COLUMNS / 2) / column_half
    theta[:, 0, 1] = -np.sin(angle) * scale[1] * (ROWS / 2) / column_half
    theta[:, 1, 0] = np.sin(angle) * scale[0] * (COLUMNS / 2) / row_half
    theta[:, 1, 1] = np.cos(angle) * scale[1] * (ROWS / 2) / row_half
    theta[:, 0, 2], theta[:, 1, 2] = right / column_half, down / row_half
    return theta


def _moved(planes: Tensor, theta: NDArray[np.float32], mode: str) -> Tensor:
    """(n, 1, 192, 320) -> (n, 1, 112, 224)"""
    grid = functional.affine_grid(torch.from_numpy(theta), [len(planes), 1, ROWS, COLUMNS], align_corners=False)
    return functional.grid_sample(planes, grid, mode=mode, align_corners=False)


def _shaded(slices: Tensor, chance: np.random.Generator) -> Tensor:
    """Gamma, gain, offset, a coil's gradient, blur and noise."""
    count = len(slices)

    def draw(low: float, high: float) -> Tensor:
        return torch.from_numpy(chance.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))

    shaded = slices.clamp_min(1e-4) ** torch.exp(draw(-0.25, 0.25)) * torch.exp(draw(-0.2, 0.2)) + draw(-0.04, 0.04)
    across = torch.linspace(-1, 1, COLUMNS)[None, None, None, :] * draw(-0.2, 0.2)
    along = torch.linspace(-1, 1, ROWS)[None, None, :, None] * draw(-0.1, 0.1)
    shaded = shaded * (1 + across + along)
    blurred = functional.avg_pool2d(shaded, 3, 1, 1)
    shaded = torch.lerp(shaded, blurred, draw(-0.3, 1.0).clamp_min(0))
    noise = torch.randn(slices.shape, generator=torch.Generator().manual_seed(int(chance.integers(2**62))))
    return (shaded + noise * draw(0.0, 0.03)).clamp(0, 1)
