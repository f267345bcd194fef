"""How good the measured grades are where SPIDER has a label to tell: tables into ``grading.md``.

    spinenode evaluate measured --data ../shared/data/spider --out docs

Localises every T2 image and stack with the shipped localiser (which has seen these patients), and measures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inference import canal, detection, labelling, measurements, modic, narrowing
from inference.anatomy import DiscLevel, Spine
from inference.grades import Basis, Grade
from inference.measurements import Measured
from inference.training import marked_page, spider
from inference.training.grading_scores import auc
from inference.volume import SagittalVolume, Unsuitable
from inference.weights import load_localiser

START, END = "<!-- measured: written by `spinenode evaluate measured` -->", "<!-- end of measured -->"
LABEL_OF_LEVEL = {level: label for label, level in enumerate(reversed(tuple(DiscLevel)), start=1)}
BANDS = (("below 10 %", -np.inf, 10.0), ("10-30 %", 10.0, 30.0), ("30-60 %", 30.0, 60.0), ("above 60 %", 60.0, np.inf))
CHANGED = {side: Grade(value=1, probabilities={}, basis=Basis.LEARNED) for side in modic.SIDES}
"""Every disc is looked at as if a marrow change were there: its label says whether one is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One disc of one image."""

    patient: int
    level: DiscLevel
    is_stack: bool
    measured: Measured
    labels: Mapping[str, int]
    modic_types: frozenset[int] | None
    """Types of its two sides; None where there is no T1 on the same grid."""


def write(data: Path, out: Path, heading: str) -> str:
    """The tables, also into ``out``/grading.md between their marks."""
    rows = measure_all(data)
    text = "\n\n".join(
        [heading, narrowing_table(rows), usual_table(rows), repeatability(rows), canal_table(rows), modic_table(rows)]
    )
    marked_page.write(out / marked_page.PAGE, (START, END), text)
    return text


def measure_all(data: Path) -> list[Row]:
    """Every disc that SPIDER has a row for, of every image whose count of discs is SPIDER's within one."""
    localiser = load_localiser("cpu")
    images = {image.name: image for image in spider.midsagittal_images(data)}
    labels, counts = spider.gradings(data), spider.disc_counts(data)
    stacks = [(f"{patient}_t2_SPACE", True) for patient in spider.stack_patients(data)]
    singles = [(name, False) for name, image in images.items() if image.weighting == "t2"]
    rows: list[Row] = []
    for name, is_stack in tqdm([*singles, *stacks], desc="measure"):
        patient = spider.patient_of(name)
        volume = spider.read_stack(data, patient) if is_stack else spider.read_midsagittal(data, images[name])
        try:
            spine = labelling.name(detection.find(volume, localiser))
        except Unsuitable:
            continue
        if abs(len(spine.discs) - counts.get(name, len(spine.discs))) > 1:
            continue
        t1 = images.get(f"{patient}_t1")
        types = _types(volume, spine, None if is_stack or t1 is None else spider.read_midsagittal(data, t1))
        measured = measurements.measure(volume, spine).discs
        for disc, values, of_disc in zip(spine.discs, measured, types, strict=True):
            said = labels.get((patient, LABEL_OF_LEVEL[disc.level]))
            if said is not None:
                row = Row(
                    patient=patient,
                    level=disc.level,
                    is_stack=is_stack,
                    measured=values,
                    labels=said,
                    modic_types=of_disc,
                )
                rows.append(row)
    return rows


def _types(volume: SagittalVolume, spine: Spine, t1: SagittalVolume | None) -> list[frozenset[int] | None]:
    same = (
        t1 is not None
        and t1.voxels.shape == volume.voxels.shape
        and np.allclose(t1.voxel_to_patient, volume.voxel_to_patient, atol=1e-3)
    )
    if t1 is None or not same:
        return [None] * len(spine.discs)
    found = modic.types(volume, t1, spine, [CHANGED] * len(spine.discs))
    return [frozenset(grade.value for grade in of_disc.values()) for of_disc in found]


def usual_of(rows: Sequence[Row]) -> dict[DiscLevel, float]:
    """Median height index at each level of the discs that are labelled not narrowed, Pfirrmann 1 or 2; the level below
    where fewer than 10 are."""
    usual: dict[DiscLevel, float] = {}
    for level in reversed(tuple(DiscLevel)):
        indices = [
            row.measured["disc_height_index"]
            for row in rows
            if row.level is level
            and "disc_height_index" in row.measured
            and row.labels.get("Disc narrowing") == 0
            and row.labels.get("Pfirrman grade", 9) <= 2
        ]
        below = next(reversed(usual.values()), float("nan"))
        usual[level] = float(np.median(indices)) if len(indices) >= 10 else below
    return usual


def losses(rows: Sequence[Row], usual: Mapping[DiscLevel, float]) -> NDArray[np.float64]:
    """(len(rows),) %, spine by spine; NaN where no height was measured."""
    found = np.full(len(rows), np.nan)
    spines: dict[tuple[int, bool], list[int]] = {}
    for i, row in enumerate(rows):
        spines.setdefault((row.patient, row.is_stack), []).append(i)
    for members in spines.values():
        indices = [rows[i].measured.get("disc_height_index", np.nan) for i in members]
        found[members] = narrowing.losses_percent([rows[i].level for i in members], indices, usual)
    return found


def narrowing_table(rows: Sequence[Row]) -> str:
    """The measured loss against the label: AUC with what is usual from the other half of the patients, and by bands."""
    label = np.array([row.labels.get("Disc narrowing", -1) for row in rows])
    half, stack = np.array([row.patient % 2 for row in rows]), np.array([row.is_stack for row in rows])
    lost = np.full(len(rows), np.nan)
    for test in (0, 1):
        usual = usual_of([row for row, h in zip(rows, half, strict=True) if h != test])
        lost[half == test] = losses(rows, usual)[half == test]
    lines = [
        "**Narrowing: the measured loss of height against the label** (what is usual at a level is taken from the "
        "other half of the patients)",
        "",
        "| images | discs (narrowed) | AUC of the loss | " + " | ".join(name for name, _, _ in BANDS) + " |",
        "|---|---|---|" + "---|" * len(BANDS),
    ]
    for name, chosen in (("mid-sagittal", ~stack), ("stacks", stack)):
        known = chosen & (label >= 0) & np.isfinite(lost)
        cells = []
        for _, low, high in BANDS:
            band = known & (lost >= low) & (lost < high)
            cells.append(f"{label[band].mean():.0%} of {band.sum()}" if band.any() else "-")
        score = auc(label[known], lost[known])
        lines.append(f"| {name} | {known.sum()} ({label[known].sum()}) | {score:.3f} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "The bands hold the share that is labelled narrowed, and the number of discs."])


def usual_table(rows: Sequence[Row]) -> str:
    """What ``inference.narrowing`` has as usual, measured again."""
    told = ", ".join(f"{level.value} {value:.3f}" for level, value in reversed(usual_of(rows).items()))
    return f"Usual disc height index (median; not narrowed, Pfirrmann 1 or 2): {told}."


def repeatability(rows: Sequence[Row]) -> str:
    """Of the loss of one disc, between a patient's mid-sagittal image and stack."""
    lost = losses(rows, narrowing.USUAL_HEIGHT_INDEX)
    by_disc = {(r.patient, r.level): v for r, v in zip(rows, lost, strict=True) if not r.is_stack}
    pairs = np.array(
        [v - by_disc.get((r.patient, r.level), np.nan) for r, v in zip(rows, lost, strict=True) if r.is_stack]
    )
    pairs = pairs[np.isfinite(pairs)]
    return (
        f"Of one measured loss the standard deviation is {pairs.std() / np.sqrt(2):.1f} % (median absolute deviation "
        f"{np.median(np.abs(pairs - np.median(pairs))) * 1.4826 / np.sqrt(2):.1f} %): {len(pairs)} discs "
        "that were measured on a mid-sagittal image and on a stack."
    )


def canal_table(rows: Sequence[Row]) -> str:
    """Counts on the stacks, by level; no label is there."""
    lines = [
        "**Central canal on the stacks** (no label is there to validate with: counts only)",
        "",
        "| level | discs | median diameter, mm | median effacement | below 9 mm | effaced, 9-12 mm | uncertain |",
        "|---|---|---|---|---|---|---|",
    ]
    for level in (level for level in DiscLevel if level not in canal.CORD):
        chosen = [
            r.measured for r in rows if r.is_stack and r.level is level and "csf_effacement_percent" in r.measured
        ]
        if not chosen:
            continue
        ap = np.array([measured.get("canal_ap_mm", np.nan) for measured in chosen])
        effaced = np.array([measured["csf_effacement_percent"] for measured in chosen])
        said = [grade for measured in chosen if (grade := canal.stenosis(measured)) is not None]
        narrow = int((ap < canal.STENOSIS_MM).sum())
        lines.append(
            f"| {level.value} | {len(chosen)} | {np.nanmedian(ap):.1f} | {np.median(effaced):.0f} % | {narrow} "
            f"| {sum(grade.value for grade in said) - narrow} | {sum(grade.doubt is not None for grade in said)} |"
        )
    return "\n".join(lines)


def modic_table(rows: Sequence[Row]) -> str:
    """The label against the types that T1 and T2 show on either side, counted."""
    known = [row for row in rows if row.modic_types is not None and "Modic" in row.labels]
    counts = Counter((row.labels["Modic"], tuple(sorted(row.modic_types or ()))) for row in known)
    kinds = sorted({kind for _, kind in counts}, key=lambda kind: (len(kind), kind))
    lines = [
        f"**Modic types** ({len(known)} discs with T1 on the grid of T2; counts only: types 1 and 3 are rare)",
        "",
        "| label | " + " | ".join(" and ".join(map(str, kind)) or "none clear" for kind in kinds) + " |",
        "|---|" + "---|" * len(kinds),
    ]
    lines += [f"| {label} | " + " | ".join(str(counts[label, kind]) for kind in kinds) + " |" for label in (0, 1, 2, 3)]
    return "\n".join(lines)
