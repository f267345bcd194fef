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
"""Images (n, 9, 112, 224), slice_present (n, 9), zones (n, 112, 224), labels. Of discs that bear T1 images the images
are (n, 9, 2, 112, 224): T2 and T1, which the mid-slice alone may have."""

ROTATION_DEG, SCALE, SHIFT_ROWS_PX, SHIFT_COLUMNS_PX = 12.0, 0.10, 8.0, 14.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What of the discs is shown."""

    slices: int = 3
    """A stack shows either one slice or so many about its middle."""
    turned: float = 0.0
    """Chance that a stack's slices come in the opposite order."""
    t1_hidden: float = 0.0
    """Chance that a disc's T1 image is not shown, where discs bear them."""
    part: tuple[int, int] = (0, 1)
    """From the first of these on, every so many-th of the rows is made; as it would be if all were."""


WHOLE = Shown()


def batch(discs: GradedDiscs, rows: NDArray[np.int64], chance: np.random.Generator, shown: Shown = WHOLE) -> Batch:
    """The discs ``rows``, each augmented its own way."""
    taken = _taken(discs, rows, chance, shown)
    theta = _moves(len(rows), chance)
    shades, noise = _drawn_shades(len(taken.slices), chance)
    mine = np.arange(shown.part[0], len(rows), shown.part[1])
    kept = np.isin(taken.owner, mine)
    taken = taken.of(kept, mine)
    slices = _moved(_margined(discs, taken), theta[mine][taken.owner], "bilinear")
    zones = _moved(torch.from_numpy(discs.zones[rows[mine]])[:, None].float(), theta[mine], "nearest")
    shaded = _shaded(slices, shades[:, torch.from_numpy(kept)], noise, kept)
    images, present = _in_places(shaded, taken, len(mine))
    if discs.t1 is not None:
        images = _beside(images, _t1_shown(discs.t1[rows], theta, mine, chance, shown.t1_hidden))
    return images, present, zones[:, 0].to(torch.uint8), torch.from_numpy(discs.labels[rows[mine]])


def plain_batch(
    discs: GradedDiscs, rows: NDArray[np.int64], shift_px: tuple[int, int] = (0, 0)
) -> tuple[Tensor, Tensor, Tensor]:
    """The discs as inference cuts them: the middle 112 x 224 pixels, every slice that is there.

    ``shift_px``: so far down and back of the middle, within the margin.
    """
    taken = _taken(discs, rows, None, WHOLE)
    top, left = TOP + shift_px[0], LEFT + shift_px[1]
    within = slice(top, top + ROWS), slice(left, left + COLUMNS)
    slices = _margined(discs, taken)[:, :, *within]
    zones = torch.from_numpy(discs.zones[rows][:, *within])
    images, present = _in_places(slices, taken, len(rows))
    if discs.t1 is not None:
        images = _beside(images, torch.from_numpy(discs.t1[rows][:, *within]).float() / 255)
    return images, present, zones


def shown_slices(
    slices: NDArray[np.uint8], zones: NDArray[np.uint8], chance: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """(n, 192, 320) of slices and of zones -> (n, 112, 224) of both, augmented as ``batch`` does."""
    theta = _moves(len(slices), chance)
    moved = _moved(torch.from_numpy(slices)[:, None].float() / 255, theta, "bilinear")
    shaded = _shaded(moved, *_drawn_shades(len(slices), chance), np.ones(len(slices), bool))
    drawn = _moved(torch.from_numpy(zones)[:, None].float(), theta, "nearest")
    return shaded[:, 0], drawn[:, 0].to(torch.uint8)


def _t1_shown(
    t1: NDArray[np.uint8],
    theta: NDArray[np.float32],
    mine: NDArray[np.int64],
    chance: np.random.Generator,
    hidden: float,
) -> Tensor:
    """(rows, 192, 320) -> (mine, 112, 224): moved as the T2 slices are, shaded on their own; 0 where there is none."""
    shades, noise = _drawn_shades(len(t1), chance)
    seen = t1.any(axis=(1, 2)) & (chance.random(len(t1)) >= hidden)
    moved = _moved(torch.from_numpy(t1[mine])[:, None].float() / 255, theta[mine], "bilinear")
    kept = np.isin(np.arange(len(t1)), mine)
    shaded = _shaded(moved, shades[:, torch.from_numpy(kept)], noise, kept)[:, 0]
    return shaded * torch.from_numpy(seen[mine])[:, None, None]


def _beside(images: Tensor, t1: Tensor) -> Tensor:
    """(n, 9, 112, 224) and (n, 112, 224) -> (n, 9, 2, 112, 224): T1 behind the mid-slice, 0 behind the others."""
    second = torch.zeros_like(images)
    second[:, MID] = t1
    return torch.stack([images, second], 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Taken:
    """Which slices are taken, for which disc of the batch, and to which of its nine places they go."""

    slices: NDArray[np.int64]
    owner: NDArray[np.int64]
    place: NDArray[np.int64]

    def of(self, kept: NDArray[np.bool_], owners: NDArray[np.int64]) -> _Taken:
        """Only the slices ``kept``, which belong to ``owners`` (ascending), counted anew from 0."""
        return _Taken(slices=self.slices[kept], owner=np.searchsorted(owners, self.owner[kept]), place=self.place[kept])


def _taken(discs: GradedDiscs, rows: NDArray[np.int64], chance: np.random.Generator | None, shown: Shown) -> _Taken:
    slices, owner, place = [], [], []
    for i, row in enumerate(rows):
        chosen = np.arange(*np.searchsorted(discs.slice_disc, [row, row + 1]))
        positions = discs.slice_position[chosen]
        if chance is not None and len(chosen) > 1:
            reach = int(chance.integers(2)) * (shown.slices // 2)
            shift = 0 if reach else int(chance.integers(-1, 2))  # a slice beside the mid-slice is a mid-slice elsewhere
            near = np.abs(positions - MID - shift) <= reach
            if not near.any():
                near, shift = positions == MID, 0
            chosen, positions = chosen[near], positions[near] - shift
            if shown.turned and chance.random() < shown.turned:
                positions = 2 * MID - positions
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


_SHADES = ((-0.25, 0.25), (-0.2, 0.2), (-0.04, 0.04), (-0.2, 0.2), (-0.1, 0.1), (-0.3, 1.0), (0.0, 0.03))
"""Of gamma, gain, offset, a coil's gradient across and along, blur and noise: from, to."""


def _drawn_shades(slices: int, chance: np.random.Generator) -> tuple[Tensor, int]:
    """(shades, slices, 1, 1, 1) and the seed of the noise."""
    shades = [chance.uniform(low, high, (slices, 1, 1, 1)).astype(np.float32) for low, high in _SHADES]
    return torch.from_numpy(np.stack(shades)), int(chance.integers(2**62))


def _shaded(slices: Tensor, shades: Tensor, noise_seed: int, kept: NDArray[np.bool_]) -> Tensor:
    """The slices ``kept`` of a batch with its shades, and their share of its noise."""
    gamma, gain, offset, across, along, blur, noise = shades
    shaded = slices.clamp_min(1e-4) ** torch.exp(gamma) * torch.exp(gain) + offset
    columns = torch.linspace(-1, 1, COLUMNS)[None, None, None, :] * across
    rows = torch.linspace(-1, 1, ROWS)[None, None, :, None] * along
    shaded = shaded * (1 + columns + rows)
    blurred = functional.avg_pool2d(shaded, 3, 1, 1)
    shaded = torch.lerp(shaded, blurred, blur.clamp_min(0))
    source = torch.Generator().manual_seed(noise_seed)
    grain = torch.randn((len(kept), *slices.shape[1:]), generator=source)[torch.from_numpy(kept)]
    noisy: Tensor = (shaded + grain * noise).clamp(0, 1)
    return noisy
