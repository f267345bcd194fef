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

from inference.training import calibration, grading_run, marked_page
from inference.training import grading_tables as tables
from inference.training.grading_tables import PFIRRMANN, Evaluated, Mask
from inference.training.gradings import LEFT, TOP, GradedDiscs, load

START, END = "<!-- figures: written by `spinenode evaluate grading` -->", "<!-- end of figures -->"
WORST = 8
"""Pictures of so many discs, the most wrongly graded first, for each grading."""
FEWEST_DRAWN = 30
"""Curves of fewer discs than this are not drawn."""


def write(data: Path, run: Path, out: Path, heading: str, said: str = grading_run.SAID) -> str:
    """Tables and ``grading.png`` into ``out``, pictures of the worst cases into ``run``. Gives the tables.

    ``said``: file of the run that holds what was said out of fold.
    """
    discs = load(run / grading_run.DISCS)
    found = tables.evaluated(discs, calibration.load(run / said))
    rows = most(discs)
    text = "\n\n".join(
        [
            *overview(found, heading),
            "**Expected calibration error**, classes weighed as equally frequent, before and after the sharpness that "
            f"was fitted on the other folds ({kind_of(discs, rows)})",
            tables.calibration_table(found, rows),
            f"**Groups** ({kind_of(discs, rows)}; of groups of {tables.FEWEST_GROUPED} discs or more)",
            tables.groups_table(found, rows, _groups(data, discs)),
        ]
    )
    out.mkdir(parents=True, exist_ok=True)
    drawing = io.BytesIO()
    figure(found, rows).savefig(drawing, dpi=70)
    Image.open(drawing).convert("RGB").quantize(255).save(out / "grading.png", optimize=True)
    pictured = f"{text}\n\n![Confusion, reliability, risk and coverage](grading.png)"
    marked_page.write(out / marked_page.PAGE, (START, END), pictured)
    write_worst(found, run / "worst")
    return text


def overview(found: Evaluated, heading: str) -> list[str]:
    """Heading, and tables that any evaluation has."""
    discs, rows = found.discs, most(found.discs)
    measure = ", for Pfirrmann QWK" if PFIRRMANN in found.targets else ""
    paragraphs = [heading]
    for chosen in (~discs.is_stack, discs.is_stack):
        if chosen.any():
            paragraphs.append(f"**{kind_of(discs, chosen)}** ({len(np.unique(discs.patient[chosen]))} patients)")
            paragraphs.append(tables.main_table(found, chosen))
    return [
        *paragraphs,
        f"**Each opinion alone, and all together** ({kind_of(discs, rows)}; AUC{measure})",
        tables.opinions_table(found, rows),
        f"**Doubt** ({kind_of(discs, rows)})",
        tables.doubt_table(found, rows),
    ]


def most(discs: GradedDiscs) -> Mask:
    """Lone slices where there are any, else stacks: what the further tables are of."""
    return ~discs.is_stack if (~discs.is_stack).any() else discs.is_stack


def kind_of(discs: GradedDiscs, rows: Mask) -> str:
    return "Stacks of slices" if discs.is_stack[rows].all() else "One mid-sagittal slice"


def _groups(data: Path, discs: GradedDiscs) -> dict[str, NDArray[np.str_]]:
    """Sex, scanner and field strength of each disc's series, from ``series.csv``; "unknown" where it is silent.

    Only SPIDER's mid-sagittal images and stacks have that table.
    """
    if not (data / "series.csv").exists():
        return {}
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
    if PFIRRMANN in found.targets:
        _confusion(confusion, found, rows)
    for target in found.targets:
        chosen = rows & found.known(target)
        truth, shares = found.truth(target, chosen), found.calibrated[target][chosen]
        if len(truth) < FEWEST_DRAWN:
            continue
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
    if risk.get_lines():
        risk.legend(fontsize=7)
    return drawing


def _confusion(axis: Axes, found: Evaluated, rows: Mask) -> None:
    chosen = rows & found.known(PFIRRMANN)
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (found.truth(PFIRRMANN, chosen), tables.median(found.together[PFIRRMANN][chosen])), 1)
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


def write_worst(found: Evaluated, folder: Path) -> None:
    """One picture for each grading: the mid-slices of the discs whose label was thought least likely."""
    folder.mkdir(exist_ok=True)
    discs = found.discs
    middle = {int(disc): k for k, disc in enumerate(discs.slice_disc) if discs.slice_position[k] == 4}
    for target in found.targets:
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
