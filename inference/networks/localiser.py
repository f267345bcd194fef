"""The network that marks disc, vertebra, canal and S1 on a sagittal slice.

A 2-D U-Net (Ronneberger 2015, arXiv 1505.04597). It sees one slice at a time and knows nothing of levels,
volumes, or millimetres beyond the pixel size it was trained on. Blocks of ``fold`` x ``fold`` pixels enter as
channels and leave as channels (Shi 2016, arXiv 1609.05158): fine marks for the price of coarse ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inference.marks import Tissue

PIXEL_MM = 1.0
"""Edge of the square pixels that a network without ``fold`` is trained on."""


class Localiser(nn.Module):
    """(n, 1, rows, columns) float32 of ``pixel_mm`` -> (n, 4, rows, columns) logits, channels as in ``Tissue``.

    Rows and columns must be multiples of ``stride``. Each pixel's channels are independent (sigmoid, not softmax).
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (12, 24, 48, 80, 112),
        outputs: int = len(Tissue),
        fold: int = 1,
        pixel_mm: float = PIXEL_MM,
    ) -> None:
        super().__init__()
        self.widths, self.fold, self.pixel_mm = tuple(widths), fold, pixel_mm
        self.stride: int = fold * 2 ** (len(widths) - 1)
        self.enlarge = "bilinear" if fold == 1 else "nearest"  # nearest: half the time of a training step
        self.down = nn.ModuleList(
            _double(before, after) for before, after in zip((fold**2, *widths[:-1]), widths, strict=True)
        )
        self.bottom = nn.Sequential(_single(widths[-1], widths[-1], dilation=2), _single(widths[-1], widths[-1]))
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        self.up = nn.ModuleList(_double(deep + shallow, shallow) for deep, shallow in reversed(pairs))
        self.out = nn.Conv2d(widths[0], outputs * fold**2, kernel_size=2 * fold - 1, padding=fold - 1)

    def forward(self, slices: Tensor) -> Tensor:
        features, skips = nn.functional.pixel_unshuffle(slices, self.fold), []
        features = features.contiguous(memory_format=torch.channels_last)
        for index, block in enumerate(self.down):
            features = block(features if index == 0 else nn.functional.max_pool2d(features, 2))
            skips.append(features)
        features = self.bottom(features)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            larger = nn.functional.interpolate(features, scale_factor=2, mode=self.enlarge)
            features = block(torch.cat((larger, skip), dim=1))
        return nn.functional.pixel_shuffle(self.out(features), self.fold)


def standardised(slices: Tensor) -> Tensor:
    """(n, rows, columns) intensities of any scale -> (n, 1, rows, columns), each slice's 2-98 percentiles on 0-1.

    Clipped to -0.5 .. 2 so that a bright vessel or coil spot stays bounded.
    """
    flat = slices.flatten(1)[:, ::7]  # every 7th pixel is enough for a percentile of a picture
    low, high = torch.quantile(flat, 0.02, dim=1), torch.quantile(flat, 0.98, dim=1)
    scale = (high - low).clamp_min(1e-6)
    return ((slices - low[:, None, None]) / scale[:, None, None]).clamp(-0.5, 2.0)[:, None]


def _single(before: int, after: int, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel_size=3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(_single(before, after), _single(after, after))
