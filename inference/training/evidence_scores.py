"""How well evidence maps say where, judged by masks of disc, bone and canal.

* Pointing game (Zhang 2016, section 4.1): is the map's largest cell inside the expected region?
* Energy: which share of the map lies inside it?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference import detection, discs, grading, labelling
from inference.grades import Finding, Grades, is_abnormal
from inference.networks.odds import LEARNED
from inference.report import Method
from inference.training import evidence_regions, spider
from inference.training.evidence_regions import REGIONS
from inference.volume import DiscVolume, FloatArray, VoxelArray
from inference.weights import Models

BASELINE = "centre Gaussian"
UNIFORM = "uniform"
DRAWS = 1000
SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """One stack's discs, cut where the localiser found them, with what was said of them and where they really are."""

    patient: int
    disc_volumes: tuple[DiscVolume, ...]
    grades: tuple[Grades, ...]
    regions: tuple[Mapping[str, FloatArray], ...]
    """Per disc: region's name -> (9, 28, 56) share of each cell."""
    missed: int
    """Discs found whose middle is no disc by the mask; they are not among the others."""


def read(root: Path, patient: int, models: Models) -> Stack:
    """Localise, cut and grade one stack as the pipeline does."""
    volume, mask = spider.read_stack(root, patient), spider.read_stack_mask(root, patient)
    spine = labelling.name(detection.find(volume, models.localiser))
    found = discs.cut(volume, spine)
    kept = []
    for disc, said in zip(found, grading.grade(found, models.grader), strict=True):
        sampled = evidence_regions.mask_in_patch(mask, volume, disc)
        regions = evidence_regions.expected(sampled, evidence_regions.mm_per_px(disc))
        if regions:
            kept.append((disc, said, {name: evidence_regions.in_cells(region) for name, region in regions.items()}))
    disc_volumes, grades, regions_in_cells = tuple(zip(*kept, strict=True)) or ((), (), ())
    return Stack(
        patient=patient,
        disc_volumes=disc_volumes,
        grades=grades,
        regions=regions_in_cells,
        missed=len(found) - len(kept),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One map's scores."""

    map: str
    """A method's value, or the name of a baseline."""
    finding: Finding
    patient: int
    abnormal: bool
    pointing: float
    energy: float


def locate(stack: Stack, maps: Mapping[Method, VoxelArray], slice_weights: FloatArray) -> Iterator[Row]:
    """Pointing game and energy of every disc and judged grading, for the methods and the baselines.

    ``maps``: from ``evidence.in_cells``; ``slice_weights`` (9,): how much the network looks at each slice, which the
    baselines are told as well.
    """
    plain = {BASELINE: centre_gaussian(), UNIFORM: np.ones((28, 56))}
    for k, (disc, said, regions) in enumerate(zip(stack.disc_volumes, stack.grades, stack.regions, strict=True)):
        weights = (slice_weights * disc.slice_present)[:, None, None]
        for finding, name in REGIONS.items():
            candidates: dict[str, NDArray[np.floating]] = {
                method.value: of_method[LEARNED.index(finding), k] for method, of_method in maps.items()
            }
            candidates |= {each: weights * plane for each, plane in plain.items()}
            for each, cells in candidates.items():
                yield Row(
                    map=each,
                    finding=finding,
                    patient=stack.patient,
                    abnormal=is_abnormal(finding, said[finding]),
                    pointing=points_into(cells, regions[name]),
                    energy=energy_in(cells, regions[name]),
                )


def centre_gaussian() -> FloatArray:
    """(28, 56): what to beat without looking at the image; a quarter of each side is its sigma (as Judd 2012's)."""
    rows, columns = (np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 4)) ** 2) for n in (28, 56))
    return np.asarray(np.outer(rows, columns), np.float64)


def points_into(cells: NDArray[np.floating], region: FloatArray) -> float:
    """1 where at least half of the largest cell lies in the region, else 0; equal cells share the answer."""
    return float((region[cells == cells.max()] >= 0.5).mean())


def energy_in(cells: NDArray[np.floating], region: FloatArray) -> float:
    """The share of the map's sum that lies in the region; 0 for an empty map."""
    total = float(cells.sum())
    return float((cells * region).sum()) / total if total > 0 else 0.0


def by_patient(values: Sequence[float], patients: Sequence[int]) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by bootstrap over patients: maps of one patient are not independent."""
    numbers, owner = np.asarray(values, np.float64), np.asarray(patients)
    owners = np.unique(owner)
    sums = np.array([numbers[owner == each].sum() for each in owners])
    counts = np.array([(owner == each).sum() for each in owners])
    drawn = np.random.default_rng(SEED).integers(len(owners), size=(DRAWS, len(owners)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(numbers.mean()), float(low), float(high)
