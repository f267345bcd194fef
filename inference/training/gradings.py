"""Labelled discs as arrays: what the grader is trained on, whatever data set they were cut from.

One row per disc and image. ``disc_cutting`` makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference import discs
from inference.anatomy import DiscLevel
from inference.descriptors import FEATURES
from inference.grades import Finding
from inference.networks.odds import LEARNABLE, MARROW
from inference.training import grading_scores
from inference.training.graded_series import DataSetError
from inference.volume import FloatArray, VoxelArray

MARGIN_ROWS, MARGIN_COLUMNS = 192, 320
"""Discs are kept with a margin about their 112 x 224 pixels: turned and shifted ones then show real surroundings."""
TOP, LEFT = (MARGIN_ROWS - discs.ROWS) // 2, (MARGIN_COLUMNS - discs.COLUMNS) // 2
LEVEL_OF_LABEL: Mapping[int, DiscLevel] = dict(enumerate(reversed(tuple(DiscLevel)), start=1))
"""SPIDER's IVD label 1 is L5/S1, counted upwards."""
NUMBER_OF_LEVEL: Mapping[DiscLevel, int] = {level: number for number, level in LEVEL_OF_LABEL.items()}

MARROW_TARGET = "marrow_change"
"""A marrow change of either side: data sets may have one label per disc."""
TARGETS: tuple[str, ...] = (
    *(
        finding.value
        for finding in LEARNABLE
        if finding not in MARROW and finding is not Finding.CENTRAL_CANAL_STENOSIS
    ),
    MARROW_TARGET,
    Finding.CENTRAL_CANAL_STENOSIS.value,
)
"""What there may be labels for, in the order of ``GradedDiscs.labels``. SPIDER has none of canal stenosis."""
ENDPLATES = Finding.UPPER_ENDPLATE_DEFECT, Finding.LOWER_ENDPLATE_DEFECT
UNKNOWN = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class GradedDiscs:
    """All discs as arrays of equal length."""

    slices: NDArray[np.uint8]
    """(all slices of all discs, 192, 320), 255 = 1.0."""
    slice_disc: NDArray[np.int64]
    """(all slices,) which disc a slice belongs to."""
    slice_position: NDArray[np.int64]
    """(all slices,) 0-8; 4 is the mid-slice."""
    zones: NDArray[np.uint8]
    """(n, 192, 320) of ``Zone``, 0 in the margin."""
    features: VoxelArray
    """(n, features) with NaN."""
    labels: NDArray[np.int64]
    """(n, len(TARGETS)); ``UNKNOWN`` where there is none. Pfirrmann 1-5, others 0/1."""
    patient: NDArray[np.int64]
    label_number: NDArray[np.int64]
    """As SPIDER's IVD label: 1 is L5/S1, counted upwards. What the data set calls the disc."""
    is_stack: NDArray[np.bool_]
    t1: NDArray[np.uint8] | None = None
    """(n, 192, 320) the same place on a T1-weighted image (``t1_discs``), all 0 where there is none; None: not cut."""

    def __len__(self) -> int:
        return len(self.patient)

    def rows(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Indices of the discs chosen by a mask."""
        return np.flatnonzero(chosen)


def load(cache: Path) -> GradedDiscs:
    """The discs that ``disc_cutting.load_or_cut`` kept.

    Raises:
        DataSetError: they were cut for other targets or numbers than this version's.
    """
    with np.load(cache) as stored:
        arrays = {name: stored[name] for name in GradedDiscs.__dataclass_fields__ if name in stored}
    if arrays["labels"].shape[1] != len(TARGETS) or arrays["features"].shape[1] != len(FEATURES):
        raise DataSetError(f"{cache} was cut by another version: train into another folder")
    return GradedDiscs(**arrays)


def targets_of(labels: NDArray[np.int64]) -> tuple[str, ...]:
    """The targets that at least one disc has a label for: only these can be taught and told of. (n, len(TARGETS))."""
    return tuple(target for i, target in enumerate(TARGETS) if (labels[:, i] != UNKNOWN).any())


def findings_of(target: str) -> tuple[Finding, ...]:
    """The findings that a target's label speaks of: both marrow findings for ``marrow_change``."""
    return MARROW if target == MARROW_TARGET else (Finding(target),)


def findings_taught(labels: NDArray[np.int64]) -> tuple[Finding, ...]:
    """What a grader trained on these labels can say, in the order of its scores. (n, len(TARGETS))."""
    taught = {finding for target in targets_of(labels) for finding in findings_of(target)}
    return tuple(finding for finding in LEARNABLE if finding in taught)


def endplate_sides(discs: GradedDiscs) -> tuple[int, float]:
    """Whether the labels have the sides right: discs with one end plate marked, and the AUC with which the rougher
    edge of the outline is the marked one. Well above 0.5 = right, well below = the columns are exchanged."""
    upper, lower = (discs.labels[:, TARGETS.index(finding.value)] for finding in ENDPLATES)
    roughness = discs.features[:, [FEATURES.index("lower_roughness"), FEATURES.index("upper_roughness")]]
    difference = roughness[:, 0] - roughness[:, 1]
    one_sided = (upper != lower) & (np.minimum(upper, lower) >= 0) & np.isfinite(difference)
    return int(one_sided.sum()), grading_scores.auc(lower[one_sided], difference[one_sided])


def class_weights(labels: NDArray[np.int64], classes: Iterable[int], most: float) -> FloatArray:
    """Inverse class frequency N / (K n_c), at most ``most``; a class that does not occur weighs nothing."""
    wanted = list(classes)
    counts = np.array([(labels == value).sum() for value in wanted], np.float64)
    weights = np.where(counts > 0, counts.sum() / (len(wanted) * np.maximum(counts, 1)), 0.0)
    return np.minimum(weights, most)
