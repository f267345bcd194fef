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

STORED_PIXEL_MM = 0.75
"""Training slices are kept finer than the network's 1 mm, so that zooming in does not only blur."""
CROP = 192
"""Edge of a training view in pixels of 1 mm: four lumbar levels and their surroundings."""


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
    """(CROP, CROP) float32"""
    targets: Tensor
    """(4, CROP, CROP) 0-1: disc, vertebra, canal, sacrum"""
    weights: Tensor
    """(4, CROP, CROP) 0-1: 0 where nothing is taught"""


class Chance:
    """Random numbers from one seeded generator."""

    def __init__(self, seed: tuple[int, ...]) -> None:
        self.numbers = np.random.default_rng(seed)

    def between(self, low: float, high: float) -> float:
        return float(self.numbers.uniform(low, high))

    def happens(self, probability: float) -> bool:
        return bool(self.numbers.random() < probability)

    def field(self, coarse: int, low: float, high: float) -> Tensor:
        """(CROP, CROP) smooth random field: ``coarse`` x ``coarse`` uniform numbers, interpolated."""
        grid = torch.from_numpy(self.numbers.uniform(low, high, (1, 1, coarse, coarse)).astype(np.float32))
        return functional.interpolate(grid, (CROP, CROP), mode="bicubic", align_corners=True)[0, 0]


def view_of(labelled: LabelledSlice, chance: Chance) -> View:
    """A random view, the same for the same ``chance``."""
    grid = _sampling_grid(labelled.labels, chance)
    pixels = torch.from_numpy(labelled.pixels).mean(0)
    labels = torch.from_numpy(labelled.labels)
    one_hot = torch.stack([(labels == label).sum(0) for label in Label]) / len(labels)
    inside = torch.ones_like(pixels)
    stacked = torch.cat((pixels[None], inside[None], one_hot))[None]
    sampled = functional.grid_sample(stacked, grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    pixels, inside, masks = sampled[0], (sampled[1] > 0.5).float() * _random_edges(chance), sampled[2:]
    pixels = _scanner_faults(_recontrasted(pixels, masks, chance), chance) * inside
    targets = masks[[Label.DISC, Label.VERTEBRA, Label.CANAL, Label.SACRUM]] * inside
    weights = (1 - masks[Label.UNKNOWN]).repeat(4, 1, 1)
    weights[3] *= (1 - masks[Label.BESIDE_SACRUM]) * float(labelled.sacrum_known)
    return View(pixels=pixels, targets=targets, weights=weights)


def plain_view(pixels: NDArray[np.float32], labels: NDArray[np.uint8]) -> View:
    """A whole stored slice (rows, columns) in pixels of 1 mm, nothing changed; padded to multiples of 16."""
    size = [round(n * STORED_PIXEL_MM / 16) * 16 for n in labels.shape]
    steps = [(torch.arange(n) - (n - 1) / 2) / STORED_PIXEL_MM * 2 / m for n, m in zip(size, labels.shape, strict=True)]
    y, x = torch.meshgrid(*steps, indexing="ij")
    one_hot = torch.stack([torch.from_numpy((labels == label).astype(np.float32)) for label in Label])
    stacked = torch.cat((torch.from_numpy(pixels)[None], one_hot))[None]
    sampled = functional.grid_sample(stacked, torch.stack((x, y), -1)[None], align_corners=False)[0]
    targets = sampled[1:][[Label.DISC, Label.VERTEBRA, Label.CANAL, Label.SACRUM]]
    return View(pixels=sampled[0], targets=targets, weights=torch.ones_like(targets))


def _sampling_grid(labels: NDArray[np.uint8], chance: Chance) -> Tensor:
    """(CROP, CROP, 2) x, y in grid_sample's -1..1: rotated +-20 degrees, zoomed 0.75-1.3, stretched, shifted."""
    rows, columns = labels.shape[1:]
    middle = np.array([chance.between(0.2, 0.8) * rows, chance.between(0.3, 0.7) * columns])
    seen = np.argwhere(labels[len(labels) // 2] == Label.DISC)
    if len(seen) and chance.happens(0.8):
        middle = seen[chance.numbers.integers(len(seen))] + chance.numbers.uniform(-45, 45, 2) / STORED_PIXEL_MM
    angle = math.radians(chance.between(-20, 20))
    zoom = math.exp(chance.between(math.log(0.75), math.log(1.3)))
    stretch = math.exp(chance.between(-0.12, 0.12))
    steps = (torch.arange(CROP, dtype=torch.float32) - (CROP - 1) / 2) / STORED_PIXEL_MM
    y, x = torch.meshgrid(steps * (stretch / zoom), steps / (stretch * zoom), indexing="ij")
    row = middle[0] + y * math.cos(angle) + x * math.sin(angle)
    column = middle[1] - y * math.sin(angle) + x * math.cos(angle)
    return torch.stack(((column + 0.5) * (2 / columns) - 1, (row + 0.5) * (2 / rows) - 1), dim=-1)


def _random_edges(chance: Chance) -> Tensor:
    """(CROP, CROP) of 0/1: now and then the image ends inside the view, most often below, so that S1 is out of it."""
    inside = torch.ones(CROP, CROP)
    if chance.happens(0.3):
        inside[int(chance.between(0.35, 1.0) * CROP) :] = 0
    if chance.happens(0.15):
        inside[: int(chance.between(0.0, 0.5) * CROP)] = 0
    if chance.happens(0.1):
        inside[:, : int(chance.between(0.0, 0.3) * CROP)] = 0
    if chance.happens(0.1):
        inside[:, int(chance.between(0.7, 1.0) * CROP) :] = 0
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


def _scanner_faults(pixels: Tensor, chance: Chance) -> Tensor:
    """Coil profile, gamma, window, blur, coarse matrix and noise."""
    if chance.happens(0.6):
        pixels = pixels * torch.exp(chance.field(3, -0.6, 0.6))
    pixels = pixels.clamp(0, 3) ** math.exp(chance.between(-0.35, 0.35))
    pixels = pixels * chance.between(0.65, 1.5) + chance.between(-0.08, 0.08)
    if chance.happens(0.3):
        sigma = chance.between(0.3, 1.1)
        taps = torch.exp(-0.5 * (torch.arange(-3, 4) / sigma) ** 2)
        taps = taps / taps.sum()
        pixels = functional.conv2d(pixels[None, None], taps.view(1, 1, 7, 1), padding=(3, 0))
        pixels = functional.conv2d(pixels, taps.view(1, 1, 1, 7), padding=(0, 3))[0, 0]
    if chance.happens(0.15):
        small = functional.interpolate(pixels[None, None], scale_factor=chance.between(0.5, 0.9), mode="area")
        pixels = functional.interpolate(small, (CROP, CROP), mode="bilinear", align_corners=False)[0, 0]
    noise = chance.numbers.standard_normal((CROP, CROP), dtype=np.float32) * chance.between(0, 0.08)
    return (pixels + torch.from_numpy(noise)).clamp(-0.5, 2)
