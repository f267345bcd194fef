"""Compares the evidence methods on the stacks with masks, and writes the comparison down as a table and a figure."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from inference.grades import TITLES
from inference.report import Method
from inference.training import evidence_sanity, marked_page
from inference.training.evidence_regions import REGIONS
from inference.training.evidence_run import Scores
from inference.training.evidence_sanity import FRACTIONS, CurveRow, RandomisedRow
from inference.training.evidence_scores import BASELINE, Row, by_patient
from inference.volume import FloatArray

MOST_ALIKE = 0.5
"""A map that ranks its cells more like this after all weights are random shows something else than what was learned."""
START, END = "<!-- figures: written by `spinenode evaluate evidence` -->", "<!-- end of figures -->"


def best(scores: Scores) -> Method | None:
    """The method that earns to be the default.

    Of those that place, delete and insert better than the centre Gaussian does, and that change when all weights are
    random, the one with the highest mean of pointing game and energy over the judged gradings; None where none does.
    """
    deletion, insertion = _gain_means(scores.curves)
    last = scores.randomised[-1].layer
    qualified = [
        method
        for method in Method
        if _overall(scores.located, method.value) > _overall(scores.located, BASELINE)
        and deletion[method.value] > deletion[BASELINE]
        and insertion[method.value] > insertion[BASELINE]
        and np.nanmean([r.rank_correlation for r in scores.randomised if (r.map, r.layer) == (method.value, last)])
        < MOST_ALIKE
    ]
    return max(qualified, key=lambda method: _overall(scores.located, method.value), default=None)


def _overall(rows: Sequence[Row], name: str) -> float:
    of_findings = [[(r.pointing + r.energy) / 2 for r in rows if r.map == name and r.finding is f] for f in REGIONS]
    return float(np.mean([np.mean(values) for values in of_findings]))


def _gain_means(rows: Sequence[CurveRow]) -> tuple[Mapping[str, float], Mapping[str, float]]:
    gains: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        gains.setdefault(row.map, []).append(evidence_sanity.gains(row))
    means = {name: np.mean(values, axis=0) for name, values in gains.items()}
    return {k: float(v[0]) for k, v in means.items()}, {k: float(v[1]) for k, v in means.items()}


def write(scores: Scores, out: Path, heading: str) -> str:
    """Write ``evidence.png``, and the tables into ``evidence.md`` between its marks. Gives the tables."""
    out.mkdir(parents=True, exist_ok=True)
    drawing = io.BytesIO()
    figure(scores).savefig(drawing, dpi=70)
    Image.open(drawing).convert("RGB").quantize(96).save(out / "evidence.png", optimize=True)
    text = "\n\n".join([heading, *tables(scores)])
    marked_page.write(out / "evidence.md", (START, END), f"{text}\n\n![Mean maps, places, curves](evidence.png)")
    return text


def tables(scores: Scores) -> list[str]:
    """Markdown: what was looked at, pointing game, energy, sanity, and which method is the best."""
    total, missed = sum(scores.discs), sum(scores.missed)
    chosen = best(scores)
    return [
        f"{len(scores.discs)} stacks, {total} discs; {missed} more were found where the mask has no disc.",
        "**Pointing game**: the map's largest cell lies in the expected region (95 % interval by patient).",
        _places(scores.located, lambda row: row.pointing),
        "**Energy**: share of the map inside the expected region.",
        _places(scores.located, lambda row: row.energy),
        "**The same over abnormal grades only**, whose maps are shown (pointing game / energy, number of maps).",
        _abnormal(scores.located),
        "**Mean of pointing game and of energy, by halves of the stacks**: the methods' details were decided on the "
        "first half (every other stack, from the first on), but the second was seen meanwhile: it is not blind.",
        _halves(scores.located),
        f"**Deletion, insertion, randomisation** ({len({row.patient for row in scores.randomised})} stacks): score of "
        "the class said below random order as cells are deleted, above it as they are shown (mean over 2-40 % of the "
        "cells), and beyond what the centre Gaussian does on the same disc and grading; rank correlation "
        "with the map itself once the weights are random, down to the layer named.",
        _sanity(scores),
        f"Best by these tables: **{_words(chosen.value)}**." if chosen else "No method qualifies by these tables.",
    ]


def _places(rows: Sequence[Row], value: Callable[[Row], float]) -> str:
    lines = _head(["map", *(f"{TITLES[finding]} ({region})" for finding, region in REGIONS.items()), "mean"])
    for name in dict.fromkeys(row.map for row in rows):
        of_findings = [[row for row in rows if row.map == name and row.finding is finding] for finding in REGIONS]
        cells = [_interval([value(row) for row in each], [row.patient for row in each]) for each in of_findings]
        mean = np.mean([np.mean([value(row) for row in each]) for each in of_findings])
        lines.append(_line([_words(name), *cells, f"{mean:.2f}"]))
    return "\n".join(lines)


def _abnormal(rows: Sequence[Row]) -> str:
    lines = _head(["map", *(TITLES[finding] for finding in REGIONS)])
    for name in dict.fromkeys(row.map for row in rows):
        cells = []
        for finding in REGIONS:
            each = [row for row in rows if row.map == name and row.finding is finding and row.abnormal]
            pair = np.mean([(row.pointing, row.energy) for row in each], axis=0) if each else (np.nan, np.nan)
            cells.append(f"{pair[0]:.2f} / {pair[1]:.2f} ({len(each)})" if each else "-")
        lines.append(_line([_words(name), *cells]))
    return "\n".join(lines)


def _halves(rows: Sequence[Row]) -> str:
    patients = sorted({row.patient for row in rows})
    lines = _head(["map", "pointing, first half", "second half", "energy, first half", "second half"])
    for name in dict.fromkeys(row.map for row in rows):
        cells = []
        for value in ("pointing", "energy"):
            for half in (patients[0::2], patients[1::2]):
                of_map = [row for row in rows if row.map == name and row.patient in half]
                of_findings = [[getattr(row, value) for row in of_map if row.finding is finding] for finding in REGIONS]
                cells.append(f"{np.mean([np.mean(each) for each in of_findings]):.2f}" if of_map else "-")
        lines.append(_line([_words(name), *cells]))
    return "\n".join(lines)


def _sanity(scores: Scores) -> str:
    layers = list(dict.fromkeys(row.layer for row in scores.randomised))
    lines = _head(["map", "deletion", "beyond the centre", "insertion", "beyond the centre", *layers])
    of_baseline = [evidence_sanity.gains(row) for row in scores.curves if row.map == BASELINE]
    for name in dict.fromkeys(row.map for row in scores.curves):
        of_map = [row for row in scores.curves if row.map == name]
        patients = [row.patient for row in of_map]
        cells = []
        for i in (0, 1):
            gains = [evidence_sanity.gains(row)[i] for row in of_map]
            beyond = [gain - baseline[i] for gain, baseline in zip(gains, of_baseline, strict=True)]
            cells += [_interval(gains, patients), "-" if name == BASELINE else _interval(beyond, patients)]
        for layer in layers:
            values = [row.rank_correlation for row in scores.randomised if (row.map, row.layer) == (name, layer)]
            cells.append(f"{np.nanmean(values):.2f}" if values else "-")
        lines.append(_line([_words(name), *cells]))
    return "\n".join(lines)


def _interval(values: Sequence[float], patients: Sequence[int]) -> str:
    mean, low, high = by_patient(values, patients)
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _head(titles: Sequence[str]) -> list[str]:
    return [_line(titles), "|---" * len(titles) + "|"]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _words(name: str) -> str:
    return name.replace("_", " ")


def figure(scores: Scores) -> Figure:
    """Mean maps beside the mean regions, then the curves. No patient's image is in it."""
    drawing = Figure(figsize=(13, 15), layout="constrained")
    grid = drawing.add_gridspec(2, 1, height_ratios=(len(REGIONS), 3.2))
    above = drawing.add_subfigure(grid[0])
    below = drawing.add_subfigure(grid[1])
    axes = above.subplots(len(REGIONS), len(Method) + 1, squeeze=False)
    for row, finding in zip(axes, REGIONS, strict=True):
        region = scores.mean_regions[finding]
        _map(row[0], region, region, f"{TITLES[finding]}: expected")
        for axis, method in zip(row[1:], Method, strict=True):
            _map(axis, scores.mean_maps[method, finding], region, _words(method.value))
    of_curves = below.subplots(1, 3)
    for axis, kind in zip(of_curves, ("deletion", "insertion"), strict=False):
        _curves(axis, scores.curves, kind)
    _randomised(of_curves[2], scores.randomised)
    below.legend(*of_curves[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return drawing


def _map(axis: Axes, values: FloatArray, region: FloatArray, title: str) -> None:
    axis.imshow(values, cmap="inferno")
    axis.contour(region, [region.max() / 2], colors="cyan", linewidths=1)
    axis.set_title(title, fontsize=7.5)
    axis.set_axis_off()


def _curves(axis: Axes, rows: Sequence[CurveRow], kind: str) -> None:
    percent = np.array(FRACTIONS) * 100
    for name in dict.fromkeys(row.map for row in rows):
        axis.plot(percent, np.mean([getattr(row, kind) for row in rows if row.map == name], axis=0), label=_words(name))
    random_order = np.mean([getattr(row, f"{kind}_random") for row in rows], axis=0)
    axis.plot(percent, random_order, "k--", label="random order")
    axis.set_title(kind, fontsize=10)
    axis.set(xlabel="cells, %", ylabel="score of the class said")


def _randomised(axis: Axes, rows: Sequence[RandomisedRow]) -> None:
    layers = list(dict.fromkeys(row.layer for row in rows))
    for name in dict.fromkeys(row.map for row in rows):
        means = [
            np.nanmean([r.rank_correlation for r in rows if (r.map, r.layer) == (name, layer)]) for layer in layers
        ]
        axis.plot(range(len(layers)), means, marker="o", label=_words(name))
    axis.set_xticks(range(len(layers)), layers, rotation=30, ha="right", fontsize=7)
    axis.set_title("weights random, from the last layer down", fontsize=10)
    axis.set_ylabel("rank correlation with the map itself")
