"""Random views of labelled sagittal slices: geometry, edges of the image, contrast tissue by tissue, scanner faults.

Knows nothing of files or of networks. Every random number comes from the generator that is handed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

STORED_PIXEL_MM = 0.6
"""Pixels of the stored training slices and of the views: the localiser's own."""
ROWS, COLUMNS = 320, 192
"""Size of a training view: 192 x 115 mm, five lumbar levels and their surroundings."""


class Label(IntEnum):
    """What a pixel of a training slice is."""

    BACKGROUND = 0
    DISC = 1
    VERTEBRA = 2
    CANAL = 3
    SACRUM = 4
    BESIDE_SACRUM = 5
    """Certainly none of disc, vertebra, canal; whether it counts as S1 is left open."""
    UNKNOWN = 6
    """Teaches nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledSlice:
    """One or more neighbouring slices (a slab to be averaged, as a thick slice would) with their labels."""

    pixels: NDArray[np.float32]
    """(slices, rows, columns) of ``STORED_PIXEL_MM``, 2-98 percentiles on 0-1."""
    labels: NDArray[np.uint8]
    """(slices, rows, columns) of ``Label``."""
    sacrum_known: bool
    """Whether the bottom labelled disc is surely L5/S1; otherwise the sacrum channel is not taught."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One training example."""

    pixels: Tensor
    """(ROWS, COLUMNS) float32"""
    targets: Tensor
    """(4, ROWS, COLUMNS) 0-1: disc, vertebra, canal, sacrum"""
    weights: Tensor
    """(4, ROWS, COLUMNS) 0-1: 0 where nothing is taught"""


class Chance:
    """Random numbers from one seeded generator."""

    def __init__(self, seed: tuple[int, ...]) -> None:
        self.numbers = np.random.default_rng(seed)

    def between(self, low: float, high: float) -> float:
        return float(self.numbers.uniform(low, high))

    def happens(self, probability: float) -> bool:
        return bool(self.numbers.random() < probability)

    def field(self, coarse: int, low: float, high: float) -> Tensor:
        """(ROWS, COLUMNS) smooth random field: ``coarse`` x ``coarse`` uniform numbers, interpolated."""
        grid = torch.from_numpy(self.numbers.uniform(low, high, (1, 1, coarse, coarse)).astype(np.float32))
        smooth = functional.interpolate(grid, (ROWS // 8, COLUMNS // 8), mode="bicubic", align_corners=True)
        return functional.interpolate(smooth, (ROWS, COLUMNS), mode="bilinear", align_corners=True)[0, 0]


def view_of(labelled: LabelledSlice, chance: Chance, mild: bool = False) -> View:
    """A random view, the same for the same ``chance``; ``mild``: about the size it has, on a scanner without faults."""
    pixels, masks, inside = _sampled(labelled, _sampling_places(labelled.labels, chance, mild))
    inside = inside * _random_edges(chance)
    pixels = _recontrasted(pixels, masks, chance)
    spoilt = torch.zeros_like(pixels)
    if mild:
        pixels = pixels * torch.exp(chance.field(3, -0.4, 0.4)) * inside
    else:
        pixels, spoilt = _metal(pixels, chance)
        pixels = _scanner_faults(pixels, chance) * inside
    targets = masks[[Label.DISC, Label.VERTEBRA, Label.CANAL, Label.SACRUM]] * inside
    weights = ((1 - masks[Label.UNKNOWN]) * (1 - spoilt)).repeat(4, 1, 1)
    weights[3] *= (1 - masks[Label.BESIDE_SACRUM]) * float(labelled.sacrum_known)
    return View(pixels=pixels, targets=targets, weights=weights)


def _sampled(labelled: LabelledSlice, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (ROWS, COLUMNS), masks (labels, ROWS, COLUMNS), and 0/1 where the slice reaches, at (row, column) places.

    Only the part of the slice that the view shows is touched: it is a fraction of a wide field of view.
    """
    flat = places.reshape(-1, 2)
    low = [max(0, int(at) - 1) for at in flat.min(0).values.floor().tolist()]
    high = [max(start + 2, int(at) + 2) for start, at in zip(low, flat.max(0).values.ceil().tolist(), strict=True)]
    window = (slice(None), slice(low[0], high[0]), slice(low[1], high[1]))
    pixels, labels = torch.from_numpy(labelled.pixels[window]), torch.from_numpy(labelled.labels[window])
    if 0 in pixels.shape:
        empty = torch.zeros(1 + len(Label), ROWS, COLUMNS)
        return empty[0], empty[1:], empty[0]
    one_hot = torch.stack([(labels == label).float().mean(0) for label in Label])
    stacked = torch.cat((pixels.mean(0)[None], torch.ones_like(one_hot[:1]), one_hot))
    shape = torch.tensor(pixels.shape[1:])
    grid = (places - torch.tensor(low) + 0.5) * (2 / shape) - 1
    sampled = functional.grid_sample(stacked[None], grid.flip(-1)[None], mode="bilinear", align_corners=False)[0]
    return sampled[0], sampled[2:], (sampled[1] > 0.5).float()


def plain_view(pixels: NDArray[np.float32], labels: NDArray[np.uint8]) -> View:
    """A whole stored slice (rows, columns), nothing changed; padded below and behind to multiples of 32."""
    margin = [(0, -n % 32) for n in labels.shape]
    padded = np.pad(labels, margin)
    targets = torch.from_numpy(
        np.stack([padded == each for each in (Label.DISC, Label.VERTEBRA, Label.CANAL, Label.SACRUM)])
    ).float()
    return View(pixels=torch.from_numpy(np.pad(pixels, margin)), targets=targets, weights=torch.ones_like(targets))


def _sampling_places(labels: NDArray[np.uint8], chance: Chance, mild: bool) -> Tensor:
    """(ROWS, COLUMNS, 2) row, column of the stored slice: rotated +-20 degrees, zoomed, stretched, shifted.

    A third of the views is zoomed as if the pixel size in the image's header were wrong or missing.
    """
    rows, columns = labels.shape[1:]
    middle = np.array([chance.between(0.2, 0.8) * rows, chance.between(0.3, 0.7) * columns])
    seen = np.argwhere(labels[len(labels) // 2] == Label.DISC)
    if len(seen) and chance.happens(0.8):
        middle = seen[chance.numbers.integers(len(seen))] + chance.numbers.uniform(-45, 45, 2) / STORED_PIXEL_MM
    angle = math.radians(chance.between(-20, 20))
    least, most = (0.9, 1.12) if mild else (0.55, 1.7) if chance.happens(0.33) else (0.75, 1.3)
    zoom = math.exp(chance.between(math.log(least), math.log(most)))
    stretch = math.exp(chance.between(-0.12, 0.12))
    down = (torch.arange(ROWS, dtype=torch.float32) - (ROWS - 1) / 2) * (stretch / zoom)
    back = (torch.arange(COLUMNS, dtype=torch.float32) - (COLUMNS - 1) / 2) / (stretch * zoom)
    y, x = torch.meshgrid(down, back, indexing="ij")
    row = middle[0] + y * math.cos(angle) + x * math.sin(angle)
    column = middle[1] - y * math.sin(angle) + x * math.cos(angle)
    return torch.stack((row, column), dim=-1)


def _random_edges(chance: Chance) -> Tensor:
    """(ROWS, COLUMNS) of 0/1: now and then the image ends inside the view, below so that S1 is out of it, or above."""
    inside = torch.ones(ROWS, COLUMNS)
    if chance.happens(0.3):
        inside[int(chance.between(0.35, 1.0) * ROWS) :] = 0
    if chance.happens(0.3):
        inside[: int(chance.between(0.0, 0.5) * ROWS)] = 0
    if chance.happens(0.1):
        inside[:, : int(chance.between(0.0, 0.3) * COLUMNS)] = 0
    if chance.happens(0.1):
        inside[:, int(chance.between(0.7, 1.0) * COLUMNS) :] = 0
    return inside


def _recontrasted(pixels: Tensor, masks: Tensor, chance: Chance) -> Tensor:
    """Each tissue brighter or darker by itself, so that T1, STIR and fat-suppressed contrast are met too.

    The ranges follow what tissue ratios T1, T2 and STIR show; each disc gets its own factor through a smooth field.
    """
    disc, bone = masks[Label.DISC], masks[Label.VERTEBRA] + masks[Label.SACRUM] + masks[Label.BESIDE_SACRUM]
    canal = masks[Label.CANAL]
    rest = (1 - disc - bone - canal).clamp(0, 1)
    if chance.happens(0.35):  # fat suppression and other windows: bright background pulled down, or lifted
        knee, depth = chance.between(0.4, 0.9), chance.between(-0.4, 0.9)
        pixels = pixels * (1 - rest * depth * torch.sigmoid((pixels - knee) * 12))
    if chance.happens(0.2):  # texture of a tissue fades towards its mean
        for mask in (disc, bone, canal):
            mean = (pixels * mask).sum() / mask.sum().clamp_min(1)
            pixels = torch.lerp(pixels, mean.expand_as(pixels), mask * chance.between(0.2, 0.9))
    if chance.happens(0.8):
        disc_factor = chance.between(0.4, 1.6) * chance.field(7, 0.6, 1.4)
        bone_factor = chance.between(0.5, 1.6) * chance.field(6, 0.8, 1.2)
        canal_factor = chance.between(0.08, 1.15) if chance.happens(0.5) else chance.between(0.8, 1.3)
        pixels = pixels * (1 + disc * (disc_factor - 1) + bone * (bone_factor - 1) + canal * (canal_factor - 1))
    return pixels


def _metal(pixels: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
    """Now and then a void with a bright rim, as screws leave; and 0-1 where nothing can be taught for it."""
    if not chance.happens(0.06):
        return pixels, torch.zeros_like(pixels)
    down, back = torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij")
    row, column = chance.between(0.1, 0.9) * ROWS, chance.between(0.2, 0.8) * COLUMNS
    radii = chance.numbers.uniform(8, 28, 2) / STORED_PIXEL_MM
    distance = (((down - row) / radii[0]) ** 2 + ((back - column) / radii[1]) ** 2).sqrt()
    void = torch.sigmoid((1 - distance) * 12)
    rim = torch.exp(-(((distance - 1.1) / 0.12) ** 2)) * chance.between(0, 1.5)
    return pixels * (1 - void) + rim.float(), (distance < 0.8).float()


def _scanner_faults(pixels: Tensor, chance: Chance) -> Tensor:
    """Coil profile, gamma, inversion, window, fold-over, ghosts, blur, coarse matrix and noise."""
    if chance.happens(0.6):
        pixels = pixels * torch.exp(chance.field(3, -0.6, 0.6))
    pixels = pixels.clamp(0, 3) ** math.exp(chance.between(-0.35, 0.35))
    if chance.happens(0.06):
        pixels = 1 - pixels.clamp(0, 1)
    pixels = pixels * chance.between(0.65, 1.5) + chance.between(-0.08, 0.08)
    axis = int(chance.happens(0.5))
    if chance.happens(0.08):  # the far end of the body folds over onto the near one
        pixels = pixels + chance.between(0.2, 0.7) * _shifted(pixels, axis, chance.between(0.55, 0.9))
    if chance.happens(0.1):  # breathing and pulsation repeat the image along the phase axis
        period, strength = chance.between(0.08, 0.3), chance.between(0.03, 0.2)
        ghosts = (_shifted(pixels, axis, sign * n * period) / n for n in (1, 2) for sign in (-1, 1))
        pixels = pixels + strength * torch.stack(tuple(ghosts)).sum(0)
    if chance.happens(0.3):
        pixels = _blurred(pixels, (chance.between(0.3, 1.8), chance.between(0.3, 1.8)))
    if chance.happens(0.2):
        size = [round(n * chance.between(0.35, 0.9)) for n in (ROWS, COLUMNS)]
        small = functional.interpolate(pixels[None, None], size, mode="area")
        pixels = functional.interpolate(small, (ROWS, COLUMNS), mode="bilinear", align_corners=False)[0, 0]
    noise = chance.numbers.standard_normal((ROWS, COLUMNS), dtype=np.float32) * chance.between(0, 0.1)
    return (pixels + torch.from_numpy(noise)).clamp(-0.5, 2)


def _shifted(pixels: Tensor, axis: int, share: float) -> Tensor:
    """The image displaced by a share of its length; what leaves at one end enters at the other."""
    return torch.roll(pixels, round(share * pixels.shape[axis]), dims=axis)


def _blurred(pixels: Tensor, sigmas: tuple[float, float]) -> Tensor:
    """Gaussian of so many pixels along rows and columns, which a matrix need not resolve alike."""
    offsets = torch.arange(-4, 5)
    down, back = (torch.exp(-0.5 * (offsets / sigma) ** 2) for sigma in sigmas)
    pixels = functional.conv2d(pixels[None, None], (down / down.sum()).view(1, 1, 9, 1), padding=(4, 0))
    return functional.conv2d(pixels, (back / back.sum()).view(1, 1, 1, 9), padding=(0, 4))[0, 0]
