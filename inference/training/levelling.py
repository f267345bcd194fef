"""Sets the biases of a trained localiser, in place, so that what it marks on labelled stacks has the right extent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from inference.marks import Tissue
from inference.networks.localiser import Localiser
from inference.training.augmentation import LabelledSlice, plain_view


def level_areas(localiser: Localiser, stacks: Sequence[LabelledSlice]) -> None:
    """Shift the biases of disc, vertebra and canal so that as much is marked as is labelled on the stacks, in place."""
    logits, targets = _plain_answers(localiser, stacks)
    for tissue in (Tissue.DISC, Tissue.VERTEBRA, Tissue.CANAL):
        said = torch.cat([each[tissue].ravel() for each in logits])
        labelled = int(sum(float(each[tissue].sum()) for each in targets))
        if labelled:
            _shift(localiser, tissue, -float(said.kthvalue(len(said) - labelled).values))


def raise_sacrum(localiser: Localiser, stacks: Sequence[LabelledSlice]) -> None:
    """Shift the bias of the sacrum channel so that labelled S1 is marked with 0.9 in the median, in place.

    S1 is drawn, not outlined by a reader, and a large part about it is not taught: the channel tells it well from all
    else, but learns its height slowly.
    """
    logits, targets = _plain_answers(localiser, stacks)
    said = [each[Tissue.SACRUM][target[Tissue.SACRUM] > 0.5] for each, target in zip(logits, targets, strict=True)]
    _shift(localiser, Tissue.SACRUM, math.log(9) - float(torch.cat(said).median()))


def _plain_answers(localiser: Localiser, stacks: Sequence[LabelledSlice]) -> tuple[list[Tensor], list[Tensor]]:
    """Logits and targets, each (4, rows, columns), of the middle slice and of those half-way to the sides."""
    logits, targets = [], []
    with torch.no_grad():
        for stack in stacks:
            for index in (len(stack.pixels) // 4, len(stack.pixels) // 2, 3 * len(stack.pixels) // 4):
                view = plain_view(stack.pixels[index], stack.labels[index])
                logits.append(localiser(view.pixels[None, None])[0])
                targets.append(view.targets)
    return logits, targets


def _shift(localiser: Localiser, tissue: Tissue, by: float) -> None:
    channels = slice(tissue * localiser.fold**2, (tissue + 1) * localiser.fold**2)
    with torch.no_grad():
        cast(Tensor, localiser.out.bias)[channels] += by
