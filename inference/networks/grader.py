"""The grading network: one trunk for all findings, a branch for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.grades import Finding

LEARNED: tuple[Finding, ...] = (
    Finding.PFIRRMANN,
    Finding.DISC_NARROWING,
    Finding.UPPER_ENDPLATE_DEFECT,
    Finding.LOWER_ENDPLATE_DEFECT,
    Finding.UPPER_MARROW_CHANGE,
    Finding.LOWER_MARROW_CHANGE,
    Finding.SPONDYLOLISTHESIS,
    Finding.DISC_HERNIATION,
    Finding.DISC_BULGING,
)
"""Findings that the network speaks of: those that its training data have labels for."""

WHOLE: tuple[Finding, ...] = (
    Finding.PFIRRMANN,
    Finding.DISC_NARROWING,
    Finding.SPONDYLOLISTHESIS,
    Finding.DISC_HERNIATION,
    Finding.DISC_BULGING,
)
"""Findings of the whole disc; each of the others belongs to the bone above or below it."""

ENDPLATES = Finding.UPPER_ENDPLATE_DEFECT, Finding.LOWER_ENDPLATE_DEFECT
MARROW = Finding.UPPER_MARROW_CHANGE, Finding.LOWER_MARROW_CHANGE
MARROW_ROWS = 5
"""Rows of the earlier map (of 14, each 8 pixels apart) that belong to one side's bone: the last is centred 20 pixels
from the disc's middle and sees about as far as the middle."""
MARROW_COLUMNS = slice(7, 21)
"""Its columns (of 28) over the disc's depth: bone, not the canal behind or the vessels in front."""


class DiscGrader(nn.Module):
    """Disc volumes -> one severity score per finding.

    Each present slice passes the 2-D trunk; slices are then averaged with fixed weights that fall off from the
    mid-slice. The last map is pooled whole, and its upper and lower half for the end plates. Marrow is judged on an
    earlier map, whose cells see 5 mm to each side only, over the rows above and below the disc: neither side sees the
    other's bone. That is what lets one marrow label per disc (either side) teach which side it is.

    Scores are unbounded. A binary finding is positive above 0. Pfirrmann's four ``cuts`` turn its one score into five
    classes (proportional odds). ``temperature`` softens the scores into probabilities.
    """

    own_index: Tensor
    above_index: Tensor
    below_index: Tensor
    slice_weights: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    temperature: Tensor

    def __init__(
        self,
        *,
        features: Sequence[str],
        slice_weights: Sequence[float],
        widths: Sequence[int] = (24, 48, 64, 96, 128),
        hidden: int = 128,
        dropout: float = 0.3,
    ) -> None:
        """``features``: names of the numbers beside the images; ``slice_weights``: 9, where 0 is not looked at."""
        super().__init__()
        own = [i for i, name in enumerate(features) if not name.startswith(("upper_", "lower_"))]
        above = [i for i, name in enumerate(features) if name.startswith("upper_")]
        below = [i for i, name in enumerate(features) if name.startswith("lower_")]
        self.register_buffer("own_index", torch.tensor(own), persistent=False)
        self.register_buffer("above_index", torch.tensor(above), persistent=False)
        self.register_buffer("below_index", torch.tensor(below), persistent=False)
        self.register_buffer("slice_weights", torch.tensor(slice_weights, dtype=torch.float32), persistent=False)
        self.register_buffer("feature_mean", torch.zeros(len(features)))
        self.register_buffer("feature_scale", torch.ones(len(features)))
        self.register_buffer("temperature", torch.ones(len(LEARNED)))
        self.near, self.far = _trunk(widths)
        self.known_features = nn.Identity()  # a place to hook into: its output is the centred, scaled features
        pooled, side = 2 * widths[-1], len(own) + len(above)
        self.whole = _Branch(pooled, len(features), hidden, len(WHOLE), dropout)
        self.endplates = nn.ModuleList(_Branch(2 * pooled, side, hidden, 1, dropout) for _ in range(2))
        self.marrow = nn.ModuleList(_Branch(2 * widths[1], side, hidden, 1, dropout) for _ in range(2))
        self.first_cut = nn.Parameter(torch.tensor(-2.0))
        self.cut_steps = nn.Parameter(torch.full((3,), 1.0))

    @property
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """The layers whose sums are the scores: no activation comes after them."""
        branches = [self.whole, *self.endplates, *self.marrow]
        return tuple(layer for branch in branches for layer in (branch.out, branch.line))

    @property
    def first_maps(self) -> nn.Module:
        """The module whose output, (slices, channels, 28, 56), is the finest that the network makes of a patch."""
        return self.near[3]

    @property
    def cuts(self) -> Tensor:
        """(4,) ascending: where the Pfirrmann score passes from one class into the next."""
        return torch.cat([self.first_cut[None], self.first_cut + functional.softplus(self.cut_steps).cumsum(0)])

    def forward(self, images: Tensor, slice_present: Tensor, features: Tensor) -> Tensor:
        """(n, 9, 112, 224) in 0-1, (n, 9) bool, (n, len(features)) with NaN for unknown -> (n, len(LEARNED)) scores."""
        near, far = self._slices_averaged(images, slice_present)
        known = (features - self.feature_mean) / self.feature_scale
        known = self.known_features(torch.where(torch.isfinite(known), known, torch.zeros_like(known)).clamp(-4, 4))
        whole = _pooled(far)
        whole_scores = self.whole(whole, known)
        scores = {finding: whole_scores[:, i] for i, finding in enumerate(WHOLE)}
        half = (far.shape[2] + 1) // 2
        for i, index in enumerate((self.above_index, self.below_index)):
            of_side = known[:, torch.cat([self.own_index, index])]
            end = _pooled(far[:, :, :half] if i == 0 else far[:, :, -half:])
            bodies = near[:, :, :, MARROW_COLUMNS]
            bone = _pooled(bodies[:, :, :MARROW_ROWS] if i == 0 else bodies[:, :, -MARROW_ROWS:])
            scores[ENDPLATES[i]] = self.endplates[i](torch.cat([whole, end], 1), of_side)[:, 0]
            scores[MARROW[i]] = self.marrow[i](bone, of_side)[:, 0]
        return torch.stack([scores[finding] for finding in LEARNED], 1).float()

    def probabilities(self, scores: Tensor) -> Mapping[Finding, Tensor]:
        """(n, len(LEARNED)) scores -> per finding (n, classes) probabilities, mildest class first."""
        softened = scores / self.temperature
        result = {}
        for i, finding in enumerate(LEARNED):
            cuts = self.cuts / self.temperature[i] if finding is Finding.PFIRRMANN else scores.new_zeros(1)
            above = torch.sigmoid(softened[:, i, None] - cuts)
            edges = torch.cat([torch.ones_like(above[:, :1]), above, torch.zeros_like(above[:, :1])], 1)
            result[finding] = edges[:, :-1] - edges[:, 1:]
        return result

    def looked_at(self, slice_present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 9) bool -> disc, position and weight of each slice that passes the trunk, in the order of its batch."""
        weights = self.slice_weights * slice_present.to(self.slice_weights.dtype)
        weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-6)
        disc, position = torch.nonzero(weights, as_tuple=True)
        return disc, position, weights[disc, position]

    def _slices_averaged(self, images: Tensor, slice_present: Tensor) -> tuple[Tensor, Tensor]:
        """The trunk's two maps, (n, channels, rows, columns); only slices that are present and weigh anything pass."""
        disc, position, weight = self.looked_at(slice_present)
        near = self.near(images[disc, position][:, None].contiguous(memory_format=torch.channels_last))
        share = weight[:, None, None, None]

        def averaged(maps: Tensor) -> Tensor:
            empty = maps.new_zeros((images.shape[0], *maps.shape[1:]))
            return empty.index_add(0, disc, maps * share.to(maps.dtype))

        return averaged(near), averaged(self.far(near))


class _Residual(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels_out)
        self.skip = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        # Activations are modules, one per place: the visualisation methods hook into them.
        self.inner_relu, self.outer_relu = nn.ReLU(), nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.inner_relu(self.first_norm(self.first(maps)))
        outer: Tensor = self.outer_relu(self.second_norm(self.second(inner)) + self.skip(maps))
        return outer


class _Branch(nn.Module):
    """Pooled maps and features -> scores: a small perceptron plus a straight line from the features."""

    def __init__(self, pooled: int, features: int, hidden: int, scores: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.mix = nn.Linear(pooled + features, hidden)
        self.relu = nn.ReLU()
        self.out = nn.Linear(hidden, scores)
        self.line = nn.Linear(features, scores, bias=False)
        nn.init.zeros_(self.line.weight)

    def forward(self, pooled: Tensor, features: Tensor) -> Tensor:
        mixed = self.relu(self.mix(torch.cat([self.drop(pooled), features], 1)))
        scores: Tensor = self.out(self.drop(mixed)) + self.line(features)
        return scores


def _trunk(widths: Sequence[int]) -> tuple[nn.Sequential, nn.Sequential]:
    """(n, 1, 112, 224) -> (n, widths[1], 14, 28), whose cells see 34 pixels, -> (n, widths[-1], 4, 7).

    The patch is halved first: its pixels of 0.3 mm are finer than most images'.
    """
    halved = nn.AvgPool2d(2)
    stem = [nn.Conv2d(1, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    blocks = [_Residual(a, b, 2 if i < 3 else 1) for i, (a, b) in enumerate(pairwise(widths))]
    return nn.Sequential(halved, *stem, blocks[0]), nn.Sequential(*blocks[1:])


def _pooled(maps: Tensor) -> Tensor:
    """(n, c, rows, columns) -> (n, 2c): mean and maximum."""
    return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
