"""Writes the evaluation of a run down: tables and a figure into ``grading.md``, the worst cases as pictures."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from inference.training import calibration, grading_run
from inference.training import grading_tables as tables
from inference.training.grading_tables import PFIRRMANN, Evaluated, Mask
from inference.training.gradings import LEFT, TARGETS, TOP, GradedDiscs, load

START, END = "<!-- figures: written by `spinenode evaluate grading` -->", "<!-- end of figures -->"
WORST = 8
"""Pictures of so many discs, the most wrongly graded first, for each grading."""


def write(data: Path, run: Path, out: Path, heading: str) -> str:
    """Tables and ``grading.png`` into ``out``, pictures of the worst cases into ``run``. Gives the tables."""
    discs = load(run / grading_run.DISCS)
    found = tables.evaluated(discs, calibration.load(run / grading_run.SAID))
    single, stacks = ~discs.is_stack, discs.is_stack
    text = "\n\n".join(
        [
            heading,
            f"**T2, one mid-sagittal slice** ({len(np.unique(discs.patient[single]))} patients)",
            tables.main_table(found, single),
            f"**T2-SPACE stacks, three slices 4 mm apart** ({len(np.unique(discs.patient[stacks]))} patients)",
            tables.main_table(found, stacks),
            "**Each opinion alone, and both** (mid-sagittal slices; AUC, for Pfirrmann QWK)",
            tables.opinions_table(found, single),
            "**Groups** (mid-sagittal slices; of groups of 30 discs or more)",
            tables.groups_table(found, single, _groups(data, discs)),
            "**Expected calibration error**, classes weighed as equally frequent, before and after the sharpness that "
            "was fitted on the other folds (mid-sagittal slices)",
            tables.calibration_table(found, single),
            "**Doubt** (mid-sagittal slices)",
            tables.doubt_table(found, single),
        ]
    )
    out.mkdir(parents=True, exist_ok=True)
    drawing = io.BytesIO()
    figure(found, single).savefig(drawing, dpi=70)
    Image.open(drawing).convert("RGB").quantize(255).save(out / "grading.png", optimize=True)
    page = out / "grading.md"
    old = page.read_text(encoding="utf-8") if page.exists() else f"# Grading\n\n{START}{END}\n"
    before, _, rest = old.partition(START)
    block = f"{START}\n\n{text}\n\n![Confusion, reliability, risk and coverage](grading.png)\n\n{END}"
    page.write_text(before + block + rest.partition(END)[2], encoding="utf-8")
    _worst(found, run / "worst")
    return text


def _groups(data: Path, discs: GradedDiscs) -> dict[str, NDArray[np.str_]]:
    """Sex, scanner and field strength of each disc's series, from ``series.csv``; "unknown" where it is silent."""
    with (data / "series.csv").open(newline="") as table:
        rows = {row["series"]: row for row in csv.DictReader(table)}
    names = [
        f"{patient}_t2{'_SPACE' if stack else ''}" for patient, stack in zip(discs.patient, discs.is_stack, strict=True)
    ]

    def column(key: str) -> NDArray[np.str_]:
        return np.array([rows.get(name, {}).get(key, "").strip() or "unknown" for name in names])

    field = np.array([f"{value} T" for value in column("MagneticFieldStrength")])
    return {"sex": column("sex"), "scanner": column("ManufacturerModelName"), "field": field}


def figure(found: Evaluated, rows: Mask) -> Figure:
    """Pfirrmann's confusion, reliability of all gradings, and risk against coverage. No patient's image is in it."""
    drawing = Figure(figsize=(15, 5), layout="constrained")
    confusion, reliability, risk = drawing.subplots(1, 3)
    _confusion(confusion, found, rows)
    for target in TARGETS:
        chosen = rows & found.known(target)
        truth, shares = found.truth(target, chosen), found.calibrated[target][chosen]
        said = tables.median(shares)
        confidence = shares[np.arange(len(said)), said]
        _reliability(reliability, tables.title(target), said == truth, confidence, truth)
        order = np.argsort(-confidence, kind="stable")
        wrong = (said != truth)[order].cumsum() / np.arange(1, len(said) + 1)
        start = len(said) // 10
        risk.plot(np.arange(start, len(said)) / len(said), wrong[start:], label=tables.title(target))
    reliability.plot([0.3, 1], [0.3, 1], "k--", linewidth=1)
    reliability.set(title="reliability (classes equally frequent)", xlabel="probability said", ylabel="share right")
    risk.set(title="risk and coverage", xlabel="share of discs kept, surest first", ylabel="share wrong")
    risk.legend(fontsize=7)
    return drawing


def _confusion(axis: Axes, found: Evaluated, rows: Mask) -> None:
    chosen = rows & found.known(PFIRRMANN)
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (found.truth(PFIRRMANN, chosen), tables.median(found.both[PFIRRMANN][chosen])), 1)
    axis.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="cividis", vmin=0, vmax=1)
    for row, column in np.ndindex(5, 5):
        axis.text(column, row, str(counts[row, column]), ha="center", va="center", color="white", fontsize=9)
    axis.set(title="Pfirrmann", xlabel="said", ylabel="radiologist")
    axis.set_xticks(range(5), [str(grade) for grade in range(1, 6)])
    axis.set_yticks(range(5), [str(grade) for grade in range(1, 6)])


def _reliability(axis: Axes, name: str, right: Mask, confidence: NDArray[np.float64], truth: NDArray[np.int64]) -> None:
    weights = 1.0 / np.bincount(truth)[truth]
    edges = np.quantile(confidence, np.linspace(0, 1, 6))
    bins = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, 4)
    used = [b for b in range(5) if (bins == b).sum() >= 15]
    said = [np.average(confidence[bins == b], weights=weights[bins == b]) for b in used]
    is_right = [np.average(right[bins == b], weights=weights[bins == b]) for b in used]
    axis.plot(said, is_right, marker="o", markersize=3, label=name)


def _worst(found: Evaluated, folder: Path) -> None:
    """One picture for each grading: the mid-slices of the discs whose label was thought least likely."""
    folder.mkdir(exist_ok=True)
    discs = found.discs
    middle = {int(disc): k for k, disc in enumerate(discs.slice_disc) if discs.slice_position[k] == 4}
    for target in TARGETS:
        rows = np.flatnonzero(found.known(target))
        truth, shares = found.truth(target, found.known(target)), found.calibrated[target][rows]
        order = np.argsort(shares[np.arange(len(truth)), truth], kind="stable")[:WORST]
        drawing = Figure(figsize=(14, 5), layout="constrained")
        for axis, k in zip(drawing.subplots(2, WORST // 2).ravel(), order, strict=False):
            patch = discs.slices[middle[int(rows[k])]][TOP:-TOP, LEFT:-LEFT]
            axis.imshow(patch, cmap="gray", vmin=0, vmax=160)
            said, low = int(tables.median(shares[k : k + 1])[0]), tables.least(target)
            axis.set_title(
                f"patient {discs.patient[rows[k]]}, disc {discs.label_number[rows[k]]}: label {truth[k] + low}, said "
                f"{said + low} ({shares[k, said]:.2f})",
                fontsize=8,
            )
            axis.set_axis_off()
        drawing.suptitle(tables.title(target))
        drawing.savefig(folder / f"{target}.png", dpi=70)
