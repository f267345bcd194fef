"""Discs with their radiological gradings, cut from SPIDER by the localiser that inference uses.

One row per disc and image: every T2 mid-sagittal PNG (one slice) and every T2-SPACE stack (nine). A disc gets the
labels of its level only where the localiser's count of discs agrees with SPIDER's within one; a slice with a wrong
count would teach labels of the neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inference import discs
from inference.anatomy import DiscLevel, Spine
from inference.descriptors import FEATURES
from inference.grades import Finding
from inference.training import grading_scores, spider
from inference.volume import FloatArray, SagittalVolume, Unsuitable, VoxelArray, upright

MARGIN_ROWS, MARGIN_COLUMNS = 192, 320
"""Discs are kept with a margin about their 112 x 224 pixels: turned and shifted ones then show real surroundings."""
TOP, LEFT = (MARGIN_ROWS - discs.ROWS) // 2, (MARGIN_COLUMNS - discs.COLUMNS) // 2
LEVEL_OF_LABEL = dict(enumerate(reversed(tuple(DiscLevel)), start=1))
"""SPIDER's IVD label 1 is L5/S1, counted upwards."""

COLUMN_OF: dict[Finding, str] = {
    Finding.PFIRRMANN: "Pfirrman grade",
    Finding.DISC_NARROWING: "Disc narrowing",
    Finding.UPPER_ENDPLATE_DEFECT: "LOW endplate",
    Finding.LOWER_ENDPLATE_DEFECT: "UP endplate",
    Finding.SPONDYLOLISTHESIS: "Spondylolisthesis",
    Finding.DISC_HERNIATION: "Disc herniation",
    Finding.DISC_BULGING: "Disc bulging",
}
"""SPIDER names the end plate of the *vertebra*: its "UP endplate" is the upper end plate of the vertebra below the
disc, so the disc's lower one, and the other way round. Seen in the images: where only "UP" is marked the Schmorl node
lies below the disc. ``endplate_sides`` measures it."""
ENDPLATES = Finding.UPPER_ENDPLATE_DEFECT, Finding.LOWER_ENDPLATE_DEFECT
MODIC_COLUMN = "Modic"
MARROW_TARGET = "marrow_change"
"""A Modic change of either side: SPIDER has one Modic label per disc."""
TARGETS: tuple[str, ...] = (*(finding.value for finding in COLUMN_OF), MARROW_TARGET)
"""What there are labels for, in the order of ``GradedDiscs.labels``."""
UNKNOWN = -1

Localise = Callable[[SagittalVolume], Spine]


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
    """SPIDER's IVD label. For analysis only: grading knows no level."""
    is_stack: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.patient)

    def rows(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Indices of the discs chosen by a mask."""
        return np.flatnonzero(chosen)


def load_or_cut(root: Path, cache: Path, localise: Localise) -> GradedDiscs:
    """The discs of the data set, from ``cache`` where it exists (delete it after a change of localiser)."""
    if not cache.exists():
        discs_cut = cut_all(root, localise)
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_suffix(".part.npz")
        np.savez(temporary, **{name: getattr(discs_cut, name) for name in GradedDiscs.__dataclass_fields__})
        temporary.replace(cache)
    return load(cache)


def load(cache: Path) -> GradedDiscs:
    """The discs that ``load_or_cut`` kept."""
    with np.load(cache) as stored:
        return GradedDiscs(**{name: stored[name] for name in GradedDiscs.__dataclass_fields__})


def cut_all(root: Path, localise: Localise) -> GradedDiscs:
    """Localise and cut every T2 image and every stack of the data set."""
    labels = spider.gradings(root)
    counts = spider.disc_counts(root)
    rows: list[_Row] = []
    for name, patient, read in tqdm(list(_volumes(root)), desc="cut discs"):
        volume = read()
        try:
            spine = localise(volume)
        except Unsuitable:
            continue  # an image without a spine in it teaches nothing
        if abs(len(spine.discs) - counts.get(name, len(spine.discs))) <= 1:
            rows.extend(_rows_of(volume, spine, patient, labels))
    return _stacked(rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    slices: NDArray[np.uint8]
    positions: NDArray[np.int64]
    zones: NDArray[np.uint8]
    features: VoxelArray
    labels: list[int]
    patient: int
    label_number: int


def _volumes(root: Path) -> Iterator[tuple[str, int, Callable[[], SagittalVolume]]]:
    for image in spider.midsagittal_images(root):
        if image.weighting == "t2":
            yield image.name, image.patient, partial(spider.read_midsagittal, root, image)
    for patient in spider.stack_patients(root):
        yield f"{patient}_t2_SPACE", patient, partial(spider.read_stack, root, patient)


def _rows_of(
    volume: SagittalVolume, spine: Spine, patient: int, labels: Mapping[tuple[int, int], Mapping[str, int]]
) -> Iterable[_Row]:
    standing = upright(volume)
    plans, volumes = discs.plan(standing, spine), discs.cut(volume, spine)
    for where, disc_volume in zip(plans, volumes, strict=True):
        number = next(label for label, level in LEVEL_OF_LABEL.items() if level is where.disc.level)
        said = labels.get((patient, number))
        if said is None:
            continue
        patch = discs.resample(standing, where, MARGIN_ROWS, MARGIN_COLUMNS)
        yield _Row(
            slices=np.rint(patch[disc_volume.slice_present] * 255).astype(np.uint8),
            positions=np.flatnonzero(disc_volume.slice_present),
            zones=np.pad(disc_volume.zones, ((TOP, TOP), (LEFT, LEFT))),
            features=disc_volume.features,
            labels=labels_of(said),
            patient=patient,
            label_number=number,
        )


def labels_of(said: Mapping[str, int]) -> list[int]:
    """One disc's row of the gradings table -> labels in the order of ``TARGETS``."""
    modic = said.get(MODIC_COLUMN, UNKNOWN)
    return [said.get(column, UNKNOWN) for column in COLUMN_OF.values()] + [min(modic, 1)]


def endplate_sides(discs: GradedDiscs) -> tuple[int, float]:
    """Whether ``COLUMN_OF`` has the sides right: discs with one end plate marked, and the AUC with which the rougher
    edge of the outline is the marked one. Well above 0.5 = right, well below = the columns are exchanged."""
    upper, lower = (discs.labels[:, TARGETS.index(finding.value)] for finding in ENDPLATES)
    roughness = discs.features[:, [FEATURES.index("lower_roughness"), FEATURES.index("upper_roughness")]]
    difference = roughness[:, 0] - roughness[:, 1]
    one_sided = (upper != lower) & (np.minimum(upper, lower) >= 0) & np.isfinite(difference)
    return int(one_sided.sum()), grading_scores.auc(lower[one_sided], difference[one_sided])


def _stacked(rows: list[_Row]) -> GradedDiscs:
    counts = [len(row.positions) for row in rows]
    return GradedDiscs(
        slices=np.concatenate([row.slices for row in rows]),
        slice_disc=np.repeat(np.arange(len(rows)), counts),
        slice_position=np.concatenate([row.positions for row in rows]),
        zones=np.stack([row.zones for row in rows]),
        features=np.stack([row.features for row in rows]),
        labels=np.array([row.labels for row in rows], np.int64),
        patient=np.array([row.patient for row in rows], np.int64),
        label_number=np.array([row.label_number for row in rows], np.int64),
        is_stack=np.array(counts) > 1,
    )


def class_weights(labels: NDArray[np.int64], classes: Iterable[int], most: float) -> FloatArray:
    """Inverse class frequency N / (K n_c), at most ``most``; a class that does not occur weighs nothing."""
    wanted = list(classes)
    counts = np.array([(labels == value).sum() for value in wanted], np.float64)
    weights = np.where(counts > 0, counts.sum() / (len(wanted) * np.maximum(counts, 1)), 0.0)
    return np.minimum(weights, most)
