"""The grading network by regions: one trunk for all findings; each finding looks where a reader looks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from inference.grades import Finding
from inference.networks import regions
from inference.networks.family import Branch, GradingNetwork, Look
from inference.networks.odds import LEARNED, MARROW
from inference.networks.regions import Region

_PLACES: Mapping[Finding, tuple[Region, ...]] = {
    Finding.PFIRRMANN: (Region.DISC, Region.MIDDLE, Region.SAC),
    Finding.DISC_NARROWING: (Region.DISC, Region.ENDPLATE_ABOVE, Region.ENDPLATE_BELOW),
    Finding.UPPER_ENDPLATE_DEFECT: (Region.ENDPLATE_ABOVE, Region.BONE_ABOVE, Region.DISC),
    Finding.LOWER_ENDPLATE_DEFECT: (Region.ENDPLATE_BELOW, Region.BONE_BELOW, Region.DISC),
    Finding.UPPER_MARROW_CHANGE: (Region.BONE_ABOVE, Region.ENDPLATE_ABOVE),
    Finding.LOWER_MARROW_CHANGE: (Region.BONE_BELOW, Region.ENDPLATE_BELOW),
    Finding.SPONDYLOLISTHESIS: (Region.DISC, Region.BACK_EDGE, Region.ENDPLATE_ABOVE, Region.ENDPLATE_BELOW),
    Finding.DISC_HERNIATION: (Region.BACK_EDGE, Region.BACK, Region.SAC),
    Finding.DISC_BULGING: (Region.BACK_EDGE, Region.BACK, Region.SAC),
    Finding.CENTRAL_CANAL_STENOSIS: (Region.BACK_EDGE, Region.BACK, Region.SAC),
}
"""What each finding's branch is given of the map. It is architecture, not something that was learned."""
MARROW_SCORES = "separate", "shared"
"""Each side's marrow is scored by its own branch, or by both branches alike, as ``sides_of`` does."""
LEAST_SHARE = 0.3
"""A cell counts for a region's maximum where at least so much of it lies in the region."""


class DiscGrader(GradingNetwork):
    """Disc volumes -> one severity score per finding, from the image alone; beside it the regression on its numbers.

    Each present slice passes the 2-D trunk; slices are averaged with fixed weights that fall off from the mid-slice.
    The last map (cells of 8 pixels that see about 100) is pooled region by region, mean and maximum; each finding's
    branch is given its own regions. Marrow is judged on the map before, whose cells see about 65 pixels, over bone
    and end plate of one side: that is what lets one marrow label per disc (either side) teach which side it is.
    """

    variant = "regions"
    slice_weights: Tensor

    def __init__(  # noqa: PLR0913 (what a weights file's header names)
        self,
        *,
        features: Sequence[str],
        slice_weights: Sequence[float],
        widths: Sequence[int] = (24, 32, 48, 64),
        hidden: int = 48,
        dropout: float = 0.3,
        findings: Sequence[str] = LEARNED,
        scale: str = "proportional",
        marrow: str = "separate",
        t1: bool = False,
    ) -> None:
        """``slice_weights``: 9, where 0 is not looked at; ``features``, ``findings``, ``scale``: as of
        ``GradingNetwork``; ``marrow``: one of ``MARROW_SCORES``; ``t1``: looks at a T1 image beside each slice, where
        there is one. Raises ValueError for another ``marrow``."""
        if marrow not in MARROW_SCORES:
            raise ValueError(f"marrow {marrow!r} is not known (known: {', '.join(MARROW_SCORES)})")
        super().__init__(features=features, findings=findings, scale=scale)
        self.config |= {"slice_weights": list(slice_weights), "widths": list(widths), "hidden": hidden}
        self.config |= {"dropout": dropout, "marrow": marrow} | ({"t1": True} if t1 else {})
        self.register_buffer("slice_weights", torch.tensor(slice_weights, dtype=torch.float32), persistent=False)
        halved = nn.AvgPool2d(2)  # pixels of 0.3 mm are finer than most images'
        self.stem = nn.Sequential(
            halved, nn.Conv2d(1, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        # A convolution of its own: the sum with T2's is what one over two channels would be. But that one's gradient
        # writes past its memory in torch 2.13 (oneDNN) where it has few outputs and more than one thread.
        self.on_t1 = nn.Conv2d(1, widths[0], 5, 2, 2, bias=False) if t1 else None
        self.blocks = nn.ModuleList(
            [_Residual(widths[0], widths[1], 2), _Residual(widths[1], widths[2], 1), _Residual(widths[2], widths[3], 1)]
        )
        self.branches = nn.ModuleList(
            Branch(
                2 * len(_PLACES[each]) * (widths[2] if each in MARROW else widths[3]),
                hidden,
                self.columns_of(each),
                dropout,
            )
            for each in self.findings
        )
        self.summary_size = len(Region) * 2 * widths[3]

    @property
    def last_layers(self) -> tuple[nn.Module, ...]:
        return tuple(branch.out for branch in self.branches)  # type: ignore[misc]

    def maps_of(self, finding: Finding) -> tuple[nn.Module, ...]:
        """The module whose output, (slices, channels, 14, 28), the finding's regions are pooled from."""
        return (self.blocks[1] if finding in MARROW else self.blocks[2],)

    def spread(self, of_map: Tensor, slice_present: Tensor) -> Tensor:
        cells = of_map.new_zeros((*slice_present.shape, *of_map.shape[1:]))
        disc, position, _ = self.looked_at(slice_present)
        cells[disc, position] = of_map
        return cells

    def slice_shares(self, slice_present: Tensor) -> Tensor:
        weights = self.slice_weights * slice_present.to(self.slice_weights.dtype)
        return weights / weights.sum(1, keepdim=True).clamp_min(1e-6)

    def layers_from_the_top(self) -> tuple[tuple[str, tuple[nn.Module, ...]], ...]:
        return (
            ("last layers", self.last_layers),
            ("branches", tuple(branch.mix for branch in self.branches)),  # type: ignore[misc]
            *((f"trunk block {i + 1}", (block,)) for i, block in reversed(list(enumerate(self.blocks)))),
            ("first layer", (self.stem[1], self.stem[2])),
        )

    def forward(self, images: Tensor, slice_present: Tensor, zones: Tensor) -> Tensor:
        """As ``look`` -> (n, findings) severities; the marrow's are those of its sides, which are what is told.

        Each ReLU is used once, as the visualisation methods ask.
        """
        near, far = self.pooled(images, slice_present, zones)
        return self.severity(self._with_sides(self.sides_of(near), far))

    def look(self, images: Tensor, slice_present: Tensor, zones: Tensor) -> Look:
        near, far = self.pooled(images, slice_present, zones)
        return Look(scores=self.scores_of(near, far), sides=self.sides_of(near), summary=far.flatten(1))

    def pooled(self, images: Tensor, slice_present: Tensor, zones: Tensor) -> tuple[Tensor, Tensor]:
        """(n, len(Region), 2 x channels) of the last map but one, and of the last."""
        disc, position, weight = self.looked_at(slice_present)
        near, far = self.maps_seen(images[disc, position])
        shares = regions.shares(zones).to(near.dtype)

        def averaged(maps: Tensor) -> Tensor:
            empty = maps.new_zeros((images.shape[0], *maps.shape[1:]))
            return empty.index_add(0, disc, maps * weight[:, None, None, None].to(maps.dtype))

        return _pooled(averaged(near), shares), _pooled(averaged(far), shares)

    def maps_seen(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """(slices, 112, 224), or (slices, 2, 112, 224) with T1 -> the last map but one, and the last: (slices,
        channels, 14, 28). A network that knows T1 takes none for zeros."""
        shown = slices[:, None] if slices.ndim == 3 else slices
        halved, first, *onward = self.stem
        maps = first(halved(_lone(shown[:, 0])))
        if self.on_t1 is not None and shown.shape[1] > 1:
            maps = maps + self.on_t1(halved(_lone(shown[:, 1])))
        for layer in onward:
            maps = layer(maps)
        near = self.blocks[1](self.blocks[0](maps))
        return near, self.blocks[2](near)

    def scores_of(self, near: Tensor, far: Tensor) -> Tensor:
        """What ``pooled`` gave -> (n, columns) scores."""
        if self.config["marrow"] == "shared":
            return self._with_sides(self.sides_of(near), far)
        scores = [self._score(finding, near if finding in MARROW else far) for finding in self.findings]
        return torch.cat(scores, 1).float()

    def _with_sides(self, sides: Tensor, far: Tensor) -> Tensor:
        """(n, 2) of ``sides_of`` -> (n, columns) scores in which they are the marrow's."""
        scores = [
            sides[:, MARROW.index(finding), None] if finding in MARROW else self._score(finding, far)
            for finding in self.findings
        ]
        return torch.cat(scores, 1).float()

    def _score(self, finding: Finding, pooled: Tensor) -> Tensor:
        """(n, columns) of one finding, from its own regions."""
        scores: Tensor = self.branches[self.findings.index(finding)](pooled[:, list(_PLACES[finding])].flatten(1))
        return scores

    def sides_of(self, near: Tensor) -> Tensor:
        """What ``pooled`` gave of the last map but one -> (n, 2): how changed the marrow above and below looks.

        One label speaks of both sides, so training may leave all changes to one of the two branches, and did. Here
        both branches judge both sides, so that the bone above and the bone below are compared by one measure.
        """
        if MARROW[0] not in self.findings:
            return near.new_zeros((len(near), len(MARROW))).float()
        branches = [self.branches[self.findings.index(finding)] for finding in MARROW]
        pooled = torch.cat(
            [near[:, list(_PLACES[finding])].flatten(1) for finding in MARROW]
        )  # one side after the other
        judged = torch.stack([branch(pooled) for branch in branches]).mean(0)
        return judged.reshape(len(MARROW), len(near)).T.float()

    def looked_at(self, slice_present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 9) bool -> disc, position and weight of each slice that passes the trunk, in the order of its batch."""
        weights = self.slice_shares(slice_present)
        disc, position = torch.nonzero(weights, as_tuple=True)
        return disc, position, weights[disc, position]


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


def _lone(slices: Tensor) -> Tensor:
    """(slices, rows, columns) -> (slices, 1, rows, columns), laid in memory anew: no view of two channels."""
    return slices.contiguous()[:, None].contiguous(memory_format=torch.channels_last)


def _pooled(maps: Tensor, shares: Tensor) -> Tensor:
    """(n, c, rows, columns), (n, regions, rows, columns) -> (n, regions, 2c): mean and maximum over each region.

    Both are 0 where a region was not drawn.
    """
    size = shares.sum((2, 3)).clamp_min(1e-3)[:, :, None]
    mean = torch.einsum("nchw,nrhw->nrc", maps, shares) / size
    inside = (shares > LEAST_SHARE).to(maps.dtype)
    most = torch.stack([(maps * inside[:, r : r + 1]).amax((2, 3)) for r in range(shares.shape[1])], 1)
    return torch.cat([mean, most], 2)
