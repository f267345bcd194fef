"""Figures over the rows of ``localisation_scores``, each with a 95 % bootstrap interval by patient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from inference.marks import Tissue
from inference.training import localisation_scores as scores
from inference.training import spider
from inference.training.localisation_scores import BoxScore, ImageScore, Seen, StackScore, Unseen

DRAWS = 1000
WEIGHTINGS = ("t2", "t1", "t2_SPACE")
SCALES = (0.5, 0.7, 1.4, 2.0)
"""Headers that are wrong by so much; a factor within 0.3-1.3 mm of an unknown pixel size taken for 0.6 mm."""


class OfPatient(Protocol):
    """A row that belongs to a patient."""

    @property
    def patient(self) -> int: ...


_Row = TypeVar("_Row", bound=OfPatient)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A number with its 95 % interval, and what it was taken over."""

    value: float
    low: float
    high: float
    over: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalisationScores:
    """One evaluation: the rows, and the figures that a page shows."""

    images: tuple[ImageScore, ...]
    stacks: tuple[StackScore, ...]
    cuts: Mapping[str, tuple[ImageScore, ...]]
    """T2 images with boxes, as if they ended higher up, by ``localisation_scores.CUTS``."""
    scaled: Mapping[float, tuple[ImageScore, ...]]
    """T2 images with boxes under a header that is wrong by this factor."""
    figures: Mapping[str, Mapping[str, Figure]]
    """Name of the figure -> weighting -> value."""
    dice: Mapping[Tissue, Figure]
    trained_on: tuple[StackScore, ...] = ()
    """Stacks that their network has seen in training: no measure of what it does with new ones."""

    @property
    def dice_where_trained(self) -> Mapping[Tissue, Figure]:
        return _dice(self.trained_on)


def evaluate(
    root: Path,
    unseen: Unseen,
    patients: Iterable[int] | None = None,
    *,
    seen: Seen | None = None,
    experiments: bool = True,
) -> LocalisationScores:
    """Score every image and stack of the patients that ``unseen`` has a network for.

    Args:
        root: the SPIDER folder.
        unseen: patient -> network that has not seen him (``localisation_scores.unseen``).
        seen: patient -> network that was trained on him; only his stack is scored, and apart.
        patients: only these; None: all.
        experiments: also the images cut off and under wrong headers, which takes about as long as all the rest.
    """
    chosen = set(unseen) if patients is None else set(patients) & set(unseen)
    images = [image for image in spider.midsagittal_images(root) if image.patient in chosen]
    boxes = scores.boxes_of(root, images)
    rows: list[ImageScore] = []
    cuts: dict[str, list[ImageScore]] = {where: [] for where in scores.CUTS}
    scaled: dict[float, list[ImageScore]] = {factor: [] for factor in SCALES}
    for image in tqdm(images, desc="images", mininterval=10):
        volume, localiser = spider.read_midsagittal(root, image), unseen[image.patient]
        known = boxes.get(image.name)
        rows.append(scores.score_image(volume, image, known, localiser))
        if known is None or image.weighting != "t2" or not experiments:
            continue
        for where, cut in cuts.items():
            cut.append(scores.score_cut(where, volume, image, known, localiser))
        for factor, of_factor in scaled.items():
            wrong = scores.rescaled(volume, factor)
            of_factor.append(scores.score_image(wrong, image, known * factor, localiser))
    stacks = _stacks(root, {patient: unseen[patient] for patient in chosen})
    return LocalisationScores(
        images=tuple(rows),
        stacks=stacks,
        cuts={where: tuple(each) for where, each in cuts.items()},
        scaled={factor: tuple(each) for factor, each in scaled.items()},
        figures=figures_of(rows),
        dice=_dice(stacks),
        trained_on=_stacks(root, seen or {}),
    )


def _stacks(root: Path, networks: Unseen | Seen) -> tuple[StackScore, ...]:
    patients = [patient for patient in spider.stack_patients(root) if patient in networks]
    return tuple(scores.score_stack(root, each, networks[each]) for each in tqdm(patients, desc="stacks"))


def _dice(stacks: Sequence[StackScore]) -> Mapping[Tissue, Figure]:
    return {tissue: dice_of(stacks, tissue) for tissue in (Tissue.DISC, Tissue.VERTEBRA, Tissue.CANAL)}


def figures_of(images: Sequence[ImageScore]) -> Mapping[str, Mapping[str, Figure]]:
    """Every figure of the table, by weighting; one is left out where there is nothing to take it over."""
    table: dict[str, dict[str, Figure]] = {name: {} for name in _FIGURES}
    for weighting in WEIGHTINGS:
        of_weighting = [image for image in images if image.weighting == weighting]
        for name, (has, over, statistic) in _FIGURES.items():
            rows = [image for image in of_weighting if has(image)]
            if rows:
                table[name][weighting] = interval(rows, statistic, over)
    return table


def dice_of(stacks: Sequence[StackScore], tissue: Tissue) -> Figure:
    """Mean over the stacks."""
    return interval(stacks, lambda rows: float(np.mean([row.dice[tissue] for row in rows])), len)


def interval(
    rows: Sequence[_Row], statistic: Callable[[Sequence[_Row]], float], over: Callable[[Sequence[_Row]], int]
) -> Figure:
    """The statistic with its 95 % bootstrap interval: patients are drawn, each with all his rows. Same draws always."""
    by_patient: dict[int, list[_Row]] = {}
    for row in rows:
        by_patient.setdefault(row.patient, []).append(row)
    groups = list(by_patient.values())
    chance = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        chosen = chance.integers(len(groups), size=len(groups))
        drawn.append(statistic([row for index in chosen for row in groups[index]]))
    low, high = np.nanpercentile(drawn, (2.5, 97.5)) if groups else (np.nan, np.nan)
    return Figure(value=statistic(rows), low=float(low), high=float(high), over=over(rows))


def _boxes(rows: Sequence[ImageScore]) -> list[BoxScore]:
    return [row.against_boxes for row in rows if row.against_boxes is not None]


def _sum(name: str) -> Callable[[Sequence[ImageScore]], int]:
    return lambda rows: sum(getattr(each, name) for each in _boxes(rows))


def _share(
    above: Callable[[Sequence[ImageScore]], float], below: Callable[[Sequence[ImageScore]], float]
) -> _Statistic:
    def share(rows: Sequence[ImageScore]) -> float:
        total = below(rows)
        return above(rows) / total if total else float("nan")

    return share


def _percentile(q: float) -> _Statistic:
    def percentile(rows: Sequence[ImageScore]) -> float:
        errors = [error for each in _boxes(rows) for error in each.center_errors_mm]
        return float(np.percentile(errors, q)) if errors else float("nan")

    return percentile


def _count(holds: Callable[[ImageScore], bool]) -> Callable[[Sequence[ImageScore]], int]:
    return lambda rows: sum(holds(row) for row in rows)


def wrong(row: ImageScore) -> bool:
    """Whether a disc of the image bears a wrong name."""
    return row.against_boxes is not None and row.against_boxes.named_right < row.against_boxes.named


def _boxed(row: ImageScore) -> bool:
    return row.against_boxes is not None


def _counted(row: ImageScore) -> bool:
    return row.expected is not None


_Statistic = Callable[[Sequence[ImageScore]], float]
_found, _all_boxes = _sum("found"), _sum("boxes")
_FIGURES: Mapping[str, tuple[Callable[[ImageScore], bool], Callable[[Sequence[ImageScore]], int], _Statistic]] = {
    "disc recall": (_boxed, _all_boxes, _share(_found, _all_boxes)),
    "disc recall, discs not cut by the edge": (
        _boxed,
        _all_boxes,
        _share(_found, lambda rows: _found(rows) + _sum("missed_inside")(rows)),
    ),
    "precision": (_boxed, _all_boxes, _share(_found, lambda rows: _found(rows) + _sum("extra")(rows))),
    "precision, discs above the highest box counted as false": (
        _boxed,
        _all_boxes,
        _share(_found, lambda rows: _found(rows) + _sum("extra")(rows) + _sum("extra_above")(rows)),
    ),
    "centre error, median mm": (_boxed, _all_boxes, _percentile(50)),
    "centre error, 95th percentile mm": (_boxed, _all_boxes, _percentile(95)),
    "images with every level right": (
        _boxed,
        len,
        _share(_count(lambda row: row.against_boxes is not None and row.against_boxes.levels_right), len),
    ),
    "images with a wrong level": (_boxed, len, _share(_count(wrong), len)),
    "confidently wrong": (_boxed, len, _share(_count(lambda row: wrong(row) and not row.flagged), len)),
    "flagged, of all images": (lambda row: True, len, _share(_count(lambda row: row.flagged), len)),
    "count of discs exact": (_counted, len, _share(_count(lambda row: row.counted == row.expected), len)),
    "count of discs within one": (
        _counted,
        len,
        _share(_count(lambda row: abs(row.counted - (row.expected or 0)) <= 1), len),
    ),
}
