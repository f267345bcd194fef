"""What the localiser is trained on, in each of the layouts that data may lie in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tqdm import tqdm

from inference.training import labelled_slices, masked_series, spider
from inference.training.augmentation import LabelledSlice
from inference.training.masked_series import MaskedSeries
from inference.volume import Unsuitable


class Layout(StrEnum):
    """How a data folder is laid out."""

    SHARED = "shared"
    """Stacks with semantic masks and mid-sagittal images without (``inference.training.spider``)."""
    SPIDER_RELEASE = "spider-release"
    """The original release: ``.mha`` images and instance masks."""
    NIFTI = "nifti"
    """Pairs of NIfTI image and mask."""


_SERIES: Mapping[Layout, Callable[[Path], tuple[MaskedSeries, ...]]] = {
    Layout.SPIDER_RELEASE: masked_series.spider_release,
    Layout.NIFTI: masked_series.nifti_pairs,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Labelled slices, and what must not be learned from."""

    stacks: tuple[LabelledSlice, ...]
    unseen: tuple[LabelledSlice, ...]
    """Of the patients held out, for the validation curve."""
    has_images_without_masks: bool
    """Whether there are images on which the network goes on to teach itself."""


def patients(root: Path, layout: Layout) -> tuple[str, ...]:
    """All patients, in a fixed order.

    Raises:
        Unsuitable: the folder has another layout.
    """
    if layout is Layout.SHARED:
        found = tuple(str(patient) for patient in spider.patients(root))
    else:
        found = tuple(dict.fromkeys(series.patient for series in _SERIES[layout](root)))
    if not found:
        raise Unsuitable(f"no images were found in {root.name}/")
    return found


def read(root: Path, layout: Layout, held_out: Set[str]) -> Sources:
    """Everything labelled, into memory; series that cannot be used are named and left out.

    Raises:
        Unsuitable: nothing is left to train on.
    """
    stacks: list[LabelledSlice] = []
    unseen: list[LabelledSlice] = []
    if layout is Layout.SHARED:
        for patient in tqdm(spider.stack_patients(root), desc="read stacks"):
            (unseen if str(patient) in held_out else stacks).append(labelled_slices.stack_slices(root, patient))
    else:
        for series in tqdm(_SERIES[layout](root), desc="read series"):
            try:
                slices = masked_series.labelled(series)
            except Unsuitable as unsuitable:
                tqdm.write(f"left out: {unsuitable}")
                continue
            (unseen if series.patient in held_out else stacks).extend(slices)
    if not stacks:
        raise Unsuitable(f"nothing in {root.name}/ can be trained on")
    return Sources(stacks=tuple(stacks), unseen=tuple(unseen), has_images_without_masks=layout is Layout.SHARED)
