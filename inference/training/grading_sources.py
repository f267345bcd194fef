"""The data sets that the grader is trained and evaluated on, in each of the layouts that they may lie in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

from inference.training import manifest, rsna, spider, spider_gradings
from inference.training.graded_series import DataSetError, GradedData


class Layout(StrEnum):
    """How a data folder is laid out."""

    SHARED = "shared"
    """SPIDER as mid-sagittal images and stacks (``inference.training.spider``)."""
    SPIDER_RELEASE = "spider-release"
    """The original SPIDER release."""
    RSNA = "rsna"
    """RSNA 2024 Lumbar Spine Degenerative Classification."""
    MANIFEST = "manifest"
    """Any studies, listed in a ``manifest.csv``."""


_READ: Mapping[Layout, Callable[[Path], GradedData]] = {
    Layout.SHARED: spider_gradings.shared,
    Layout.SPIDER_RELEASE: spider_gradings.release,
    Layout.RSNA: rsna.read,
    Layout.MANIFEST: manifest.read,
}


def read(root: Path, layout: Layout) -> GradedData:
    """The tables of a data set; its images are read when they are cut.

    Raises:
        DataSetError: the folder has another layout, or a table cannot be used.
    """
    return _READ[layout](root)


def folds(data: GradedData, count: int, seed: int) -> Mapping[int, int]:
    """Patient -> the fold in which he is held out.

    Raises:
        DataSetError: there are fewer patients than folds.
    """
    if len(data.patients) < count:
        raise DataSetError(
            f"{len(data.patients)} patient(s) cannot be dealt into {count} folds: give more patients, or a recipe "
            "with fewer folds"
        )
    dealt = spider.folds(tuple(data.patients), count, seed, apart=data.apart)
    return {patient: k for k, held_out in enumerate(dealt) for patient in held_out}
