"""SpineNet's own networks (Jamaludin 2017, section 4): VGG-M trunks shared by all tasks, and one branch per task.

Three ways to see nine slices: as the channels of one image, one by one and pooled, or as a volume. Five convolutional
blocks and two fully connected layers as in VGG-M (Chatfield 2014), with batch normalisation where VGG-M has local
response normalisation. ``branch_after`` is the block after which tasks part: up to it weights are shared, later blocks
and the fully connected layers are each task's own. ``width`` scales all widths; 1 is the published size, for GPUs.

Absent slices: the networks whose input is always nine slices are shown the nearest slice there is in their place; the
one that sees slices one by one sees only those that are there. So a lone mid-slice is judged as a stack of itself.

They see the whole patch and no outline. The marrow's one branch judges two instances, the patch's upper half and its
lower half turned upside down, so that one label of either side (noisy or) teaches both by one measure.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from inference.grades import Finding
from inference.networks.family import SLICES, GradingNetwork, Look, shown_slices
from inference.networks.odds import LEARNED, MARROW
from inference.networks.slice_pooling import POOLINGS

WIDTHS = 96, 256, 512, 512, 512
CONNECTED = 1024
BLOCKS = len(WIDTHS)
POOLED_CELLS = 3 * 6
"""Of the last block's maps, 112 x 224 pixels after five halvings."""
_KERNELS, _STRIDES, _IS_POOLED = (7, 5, 3, 3, 3), (2, 2, 1, 1, 1), (True, True, False, False, True)

Layers = Callable[[int, int, int], nn.Module]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """To which disc, and which of its places, the images of a batch belong."""

    disc: Tensor
    place: Tensor
    count: int

    def twice(self) -> Layout:
        """Of two instances of every disc, the first of all discs before the second."""
        disc, place = torch.cat([self.disc, self.disc + self.count]), torch.cat([self.place, self.place])
        return Layout(disc=disc, place=place, count=2 * self.count)


class SpineNet(GradingNetwork):
    """What the three have in common. ``features``, ``findings``, ``scale``: as of ``GradingNetwork``."""

    volumetric_blocks: ClassVar[int] = 0
    """So many blocks convolve over slices too."""
    channels: ClassVar[int] = 1

    def __init__(  # noqa: PLR0913 (what a weights file's header names)
        self,
        *,
        features: Sequence[str],
        findings: Sequence[str] = LEARNED,
        scale: str = "proportional",
        width: float = 1.0,
        branch_after: int = BLOCKS,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(features=features, findings=findings, scale=scale)
        if not 1 <= branch_after <= BLOCKS:
            raise ValueError(f"branch_after has to be from 1 to {BLOCKS}")
        self.config |= {"width": width, "branch_after": branch_after, "dropout": dropout}
        self.widths = [max(4, round(each * width)) for each in WIDTHS]
        self.branch_after = branch_after
        self.trunk = nn.ModuleList(self.block(i) for i in range(branch_after))
        tasks = [each for each in self.findings if each is not MARROW[1]]
        self.tasks = nn.ModuleDict({task.value: self.task(self.columns_of(task), width, dropout) for task in tasks})
        self.summary_size = 2 * self.widths[branch_after - 1]

    def block(self, index: int) -> nn.Sequential:
        """One convolutional block, fresh: convolution, normalisation, ReLU, pooling where VGG-M pools."""
        inputs = self.widths[index - 1] if index else self.channels
        kernel, stride, pad = _KERNELS[index], _STRIDES[index], _KERNELS[index] // 2
        layers: list[nn.Module]
        if index < self.volumetric_blocks:
            size, step, around = (3, kernel, kernel), (1, stride, stride), (1, pad, pad)
            layers = [nn.Conv3d(inputs, self.widths[index], size, step, around, bias=False)]
            layers.append(nn.BatchNorm3d(self.widths[index]))
            pool: nn.Module = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        else:
            layers = [nn.Conv2d(inputs, self.widths[index], kernel, stride, pad, bias=False)]
            layers.append(nn.BatchNorm2d(self.widths[index]))
            pool = nn.MaxPool2d(3, 2, 0 if index == BLOCKS - 1 else 1)
        layers.append(nn.ReLU())
        return nn.Sequential(*layers, *([pool] if _IS_POOLED[index] else []))

    def task(self, columns: int, width: float, dropout: float) -> _Task:
        """What is one task's own."""
        blocks = [self.block(i) for i in range(self.branch_after, BLOCKS)]
        connected = max(16, round(CONNECTED * width))
        return _Task(blocks, self.slice_pooling(), (self.widths[-1] * POOLED_CELLS, connected, columns), dropout)

    def slice_pooling(self) -> nn.Module:
        """(maps, disc, count) of ``branch_after`` to the end -> one map per disc."""
        return _Kept()

    @abstractmethod
    def prepared(self, images: Tensor, slice_present: Tensor) -> tuple[Tensor, Layout]:
        """What enters the trunk."""

    def look(self, images: Tensor, slice_present: Tensor, zones: Tensor) -> Look:
        """The zones are not looked at."""
        maps, layout = self.prepared(images, slice_present)
        for i, block in enumerate(self.trunk):
            maps = block(self.flattened(maps, i))
        scores, sides = [], maps.new_zeros((layout.count, 2))
        for finding in self.findings:
            if finding is MARROW[0]:
                sides = self.tasks[finding.value](*instances(maps, layout), self).reshape(2, layout.count).T
            if finding in MARROW:
                scores.append(sides[:, MARROW.index(finding), None])
            else:
                scores.append(self.tasks[finding.value](maps, layout, self))
        return Look(scores=torch.cat(scores, 1).float(), sides=sides.float(), summary=self.summary(maps, layout))

    def flattened(self, maps: Tensor, block: int) -> Tensor:
        """What a block takes in of what the one before it gave."""
        return maps.amax(2) if maps.ndim == 5 and block >= self.volumetric_blocks else maps

    def summary(self, maps: Tensor, layout: Layout) -> Tensor:
        """(n, summary_size) mean and maximum of the trunk's last maps over each disc."""
        flat = maps.flatten(2)
        both = torch.cat([flat.mean(2), flat.amax(2)], 1)
        of_discs = both.new_zeros((layout.count, both.shape[1])).index_add(0, layout.disc, both)
        return of_discs / torch.bincount(layout.disc, minlength=layout.count)[:, None]

    @property
    def last_layers(self) -> tuple[nn.Module, ...]:
        return tuple(task.out for task in self.tasks.values())  # type: ignore[misc]

    def maps_of(self, finding: Finding) -> tuple[nn.Module, ...]:
        """The last map that all tasks share and that still tells slices apart."""
        last = min(self.branch_after, self.volumetric_blocks or BLOCKS) - 1
        return tuple(layer for layer in self.trunk[last].children() if isinstance(layer, nn.ReLU))

    def layers_from_the_top(self) -> tuple[tuple[str, tuple[nn.Module, ...]], ...]:
        tasks: Sequence[Any] = list(self.tasks.values())
        return (
            ("last layers", self.last_layers),
            ("branches", tuple(layer for task in tasks for layer in (task.blocks, task.sixth, task.seventh))),
            *((f"trunk block {i + 1}", (block,)) for i, block in reversed(list(enumerate(self.trunk))) if i > 0),
            ("first layer", (self.trunk[0],)),
        )


class SlicesAsChannels(SpineNet):
    """2-D: nine slices are nine channels of one image."""

    variant = "slices_as_channels"
    channels = SLICES

    def prepared(self, images: Tensor, slice_present: Tensor) -> tuple[Tensor, Layout]:
        return _filled(images, slice_present), _one_each(images)

    def spread(self, of_map: Tensor, slice_present: Tensor) -> Tensor:
        """One map speaks of all slices: each has its share of places in it."""
        return of_map[:, None] * self.slice_shares(slice_present)[:, :, None, None]

    def slice_shares(self, slice_present: Tensor) -> Tensor:
        return _shares_of_places(slice_present)


class SlicesPooled(SpineNet):
    """2-D slice by slice, with the same weights; pooled over slices before the fully connected layers."""

    variant = "slices_pooled"

    def __init__(self, *, pooling: str = "max", **arguments: Any) -> None:
        """``pooling``: one of ``POOLINGS``; the remaining arguments are those of ``SpineNet``."""
        self.pooling = pooling
        super().__init__(**arguments)
        self.config |= {"pooling": pooling}

    def slice_pooling(self) -> nn.Module:
        return POOLINGS[self.pooling](self.widths[-1])

    def prepared(self, images: Tensor, slice_present: Tensor) -> tuple[Tensor, Layout]:
        disc, place = torch.nonzero(slice_present, as_tuple=True)
        return images[disc, place][:, None], Layout(disc=disc, place=place, count=len(images))

    def spread(self, of_map: Tensor, slice_present: Tensor) -> Tensor:
        cells = of_map.new_zeros((*slice_present.shape, *of_map.shape[1:]))
        disc, place = torch.nonzero(slice_present, as_tuple=True)
        cells[disc, place] = of_map
        return cells

    def slice_shares(self, slice_present: Tensor) -> Tensor:
        present = slice_present.float()
        return present / present.sum(1, keepdim=True)


class Volumetric(SpineNet):
    """3-D: the first four blocks convolve over slices too; their maximum over slices enters the fifth."""

    variant = "volumetric"
    volumetric_blocks = 4

    def prepared(self, images: Tensor, slice_present: Tensor) -> tuple[Tensor, Layout]:
        return _filled(images, slice_present)[:, None], _one_each(images)

    def spread(self, of_map: Tensor, slice_present: Tensor) -> Tensor:
        """What was seen at a place goes to the slice that was shown there."""
        shown = shown_slices(slice_present)
        where = shown[:, :, None, None].expand_as(of_map)
        return torch.zeros_like(of_map).scatter_add(1, where, of_map)

    def slice_shares(self, slice_present: Tensor) -> Tensor:
        return _shares_of_places(slice_present)


class _Task(nn.Module):
    """One task's own blocks and fully connected layers."""

    def __init__(
        self, blocks: Sequence[nn.Module], pooling: nn.Module, sizes: tuple[int, int, int], dropout: float
    ) -> None:
        """``sizes``: numbers that enter, that lie between, and that come out."""
        super().__init__()
        cells, connected, columns = sizes
        self.blocks, self.pooling = nn.ModuleList(blocks), pooling
        self.sixth, self.seventh = nn.Linear(cells, connected), nn.Linear(connected, connected)
        self.sixth_relu, self.seventh_relu, self.drop = nn.ReLU(), nn.ReLU(), nn.Dropout(dropout)
        self.out = nn.Linear(connected, columns)

    def forward(self, maps: Tensor, layout: Layout, network: SpineNet) -> Tensor:
        """(n, columns)"""
        for i, block in enumerate(self.blocks, start=network.branch_after):
            maps = block(network.flattened(maps, i))
        of_disc = self.pooling(network.flattened(maps, BLOCKS), layout.disc, layout.count)
        hidden = self.drop(self.sixth_relu(self.sixth(of_disc.flatten(1))))
        columns: Tensor = self.out(self.drop(self.seventh_relu(self.seventh(hidden))))
        return columns


class _Kept(nn.Module):
    """One map per disc already."""

    def forward(self, maps: Tensor, disc: Tensor, count: int) -> Tensor:
        return maps


def instances(maps: Tensor, layout: Layout) -> tuple[Tensor, Layout]:
    """The upper half of every map, and the lower half turned upside down; the other half is 0."""
    rows = maps.shape[-2]
    near = (torch.arange(rows, device=maps.device) < (rows + 1) // 2).to(maps.dtype)[:, None]
    return torch.cat([maps * near, maps.flip(-2) * near]), layout.twice()


def _filled(images: Tensor, slice_present: Tensor) -> Tensor:
    shown = shown_slices(slice_present)
    return images.gather(1, shown[:, :, None, None].expand_as(images))


def _one_each(images: Tensor) -> Layout:
    disc = torch.arange(len(images), device=images.device)
    return Layout(disc=disc, place=torch.zeros_like(disc), count=len(images))


def _shares_of_places(slice_present: Tensor) -> Tensor:
    shown = shown_slices(slice_present)
    counts = torch.zeros(slice_present.shape, device=slice_present.device)
    return counts.scatter_add(1, shown, torch.ones_like(counts)) / SLICES
