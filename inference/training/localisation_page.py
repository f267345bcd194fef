"""Writes an evaluation of the localiser down: tables into ``localisation.md``, a picture of every failure beside it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from PIL import Image

from inference import detection
from inference.anatomy import DiscLevel, Found, Spine
from inference.marks import Tissue
from inference.training import localisation_scores as scores
from inference.training import marked_page, spider
from inference.training.localisation_figures import WEIGHTINGS, Figure, LocalisationScores, wrong
from inference.training.localisation_scores import ImageScore, Unseen
from inference.volume import FloatArray, SagittalVolume


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the figures of one evaluation stand."""

    marks: tuple[str, str]
    pictures: str
    """File of the failures' pictures."""


SHIPPED = Place(
    marks=("<!-- figures: written by `spinenode evaluate localisation` -->", "<!-- end of figures -->"),
    pictures="localisation_failures_shipped.png",
)
FOLDS = Place(
    marks=("<!-- folds: written by `spinenode evaluate localisation --folds` -->", "<!-- end of folds -->"),
    pictures="localisation_failures.png",
)
TILES = 7
"""Pictures in a row."""
GOALS = {
    "disc recall": ">= .995",
    "precision": ">= .985",
    "centre error, median mm": "<= 1.2",
    "centre error, 95th percentile mm": "<= 3.0",
    "images with every level right": ">= .98",
    "confidently wrong": "<= .005",
    "flagged, of all images": "<= .10",
    "count of discs exact": ">= .92 (T2)",
}
DICE_GOALS = {Tissue.DISC: ">= .90", Tissue.VERTEBRA: ">= .93", Tissue.CANAL: ">= .92"}


def write(found: LocalisationScores, root: Path, unseen: Unseen, page: tuple[Path, Place], heading: str) -> str:
    """Write the pictures, and the tables into ``localisation.md`` of a folder at their place. Gives the tables."""
    out, place = page
    out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join([heading, *tables(found)])
    failed = failures(found.images)
    pictures = f"\n\n![Every failure]({place.pictures})" if failed else ""
    if failed:
        drawing = io.BytesIO()
        drawn(failed, root, unseen).savefig(drawing, dpi=75)
        Image.open(drawing).convert("L").quantize(48).save(out / place.pictures, optimize=True)
    marked_page.write(out / "localisation.md", place.marks, text + pictures)
    return text


def tables(found: LocalisationScores) -> list[str]:
    """Markdown: the figures, Dice, images cut off, wrong headers, and the list of failures."""
    return [
        _figures(found),
        _dice(found.dice, f"{len(found.stacks)} stacks"),
        *_where_trained(found),
        "T2 images with boxes, as if they ended higher up:",
        _experiments("the image ends", dict(found.cuts)),
        "T2 images with boxes, under a header whose pixel size is wrong:",
        _experiments("pixels said to be", {f"{factor:g} x as large": rows for factor, rows in found.scaled.items()}),
        "Every failure:",
        _listed(failures(found.images)),
    ]


def failures(images: Sequence[ImageScore]) -> tuple[ImageScore, ...]:
    """Images with a disc missed or too many, a wrong level, or on T2 another count of discs than SPIDER's."""
    return tuple(row for row in images if reason(row))


def reason(row: ImageScore) -> str:
    """What went wrong on an image, in words; empty where nothing did."""
    reasons = []
    boxes = row.against_boxes
    if boxes is not None:
        if boxes.found < boxes.boxes:
            inside = boxes.missed_inside
            reasons.append(f"{boxes.boxes - boxes.found} missed{'' if inside else ' at the edge'}")
        if boxes.extra:
            reasons.append(f"{boxes.extra} too many")
        if wrong(row):
            reasons.append(f"{boxes.named - boxes.named_right} named wrong")
    if row.weighting == "t2" and row.expected is not None and row.counted != row.expected:
        reasons.append(f"{row.counted} discs, SPIDER {row.expected}")
    return "; ".join(reasons)


def _figures(found: LocalisationScores) -> str:
    lines = ["| | T2 | T1 | T2-SPACE | goal |", "|---|---|---|---|---|"]
    for name, by_weighting in found.figures.items():
        digits = 1 if "mm" in name else 3
        cells = [_cell(by_weighting.get(weighting), digits) for weighting in WEIGHTINGS]
        lines.append(f"| {name} | {' | '.join(cells)} | {GOALS.get(name, '')} |")
    counts = ["images"]
    for weighting in WEIGHTINGS:
        of_weighting = [row for row in found.images if row.weighting == weighting]
        boxed = [row.against_boxes for row in of_weighting if row.against_boxes is not None]
        counts.append(f"{len(of_weighting)}; {len(boxed)} with {sum(each.boxes for each in boxed)} boxes")
    lines.insert(2, f"| {' | '.join(counts)} | |")
    return "\n".join(lines)


def _dice(dice: Mapping[Tissue, Figure], stacks: str) -> str:
    lines = [f"| Dice, {stacks} on their own grid | | goal |", "|---|---|---|"]
    lines += [f"| {t.name.lower()} | {_cell(figure, 3)} | {DICE_GOALS[t]} |" for t, figure in dice.items()]
    return "\n".join(lines)


def _where_trained(found: LocalisationScores) -> list[str]:
    if not found.trained_on:
        return []
    words = "What the masks and so small a network allow: the same on the stacks that it was trained on."
    return [words, _dice(found.dice_where_trained, f"{len(found.trained_on)} stacks that it was trained on,")]


def _experiments(title: str, of: dict[str, tuple[ImageScore, ...]]) -> str:
    lines = [
        f"| {title} | images | discs found | every level right | a wrong level | of them with 0.9 or more | with 0.5 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in of.items():
        if not rows:
            continue
        boxed = [row.against_boxes for row in rows if row.against_boxes is not None]
        share = sum(each.found for each in boxed) / max(sum(each.found + each.missed_inside for each in boxed), 1)
        bad = [row for row in rows if wrong(row)]
        right = sum(each.levels_right for each in boxed)
        sure, half = (sum(row.confidence >= least for row in bad) for least in (scores.SURE, 0.5))
        lines.append(f"| {name} | {len(rows)} | {share:.3f} | {right} | {len(bad)} | {sure} | {half} |")
    return "\n".join(lines)


def _listed(failed: Sequence[ImageScore]) -> str:
    lines = ["| image | what | confidence |", "|---|---|---|"]
    lines += [f"| {row.name} | {reason(row)} | {row.confidence:.2f} |" for row in failed]
    return "\n".join(lines)


def _cell(figure: Figure | None, digits: int) -> str:
    if figure is None or math.isnan(figure.value):
        return ""
    value, low, high = (f"{each:.{digits}f}".removeprefix("0") for each in (figure.value, figure.low, figure.high))
    return f"{value} ({low}-{high})"


def drawn(failed: Sequence[ImageScore], root: Path, unseen: Unseen) -> Canvas:
    """One tile per image: discs as found with their names, boxes dashed."""
    images = {image.name: image for image in spider.midsagittal_images(root)}
    boxes = scores.boxes_of(root, images.values())
    rows = math.ceil(len(failed) / TILES)
    canvas = Canvas(figsize=(TILES * 2.2, rows * 2.7))
    axes = np.atleast_1d(canvas.subplots(rows, TILES)).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, row in zip(axes, failed, strict=False):
        volume = spider.read_midsagittal(root, images[row.name])
        found = detection.find(volume, unseen[row.patient])
        _tile(axis, volume, found, scores.name_or_nothing(found), boxes.get(row.name))
        axis.set_title(f"{row.name} ({row.confidence:.2f})\n{reason(row)}", fontsize=7)
    canvas.subplots_adjust(left=0, right=1, bottom=0, top=1 - 0.4 / (rows * 2.7), wspace=0.02, hspace=0.18)
    return canvas


def _tile(axis: Axes, volume: SagittalVolume, found: Found, spine: Spine, boxes_mm: FloatArray | None) -> None:
    height, width = (n * step for n, step in zip(volume.voxels.shape[1:], volume.spacing_mm[1:], strict=True))
    low, high = np.percentile(volume.voxels[0], (1, 99))
    axis.imshow(volume.voxels[0], cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0))
    names: dict[tuple[float, ...], DiscLevel] = {tuple(disc.center_lps_mm): disc.level for disc in spine.discs}
    for disc in found.discs:
        outline = (volume.to_voxel(disc.outline_lps_mm)[:, 1:] + 0.5) * volume.spacing_mm[1:]
        axis.plot(outline[:, 1], outline[:, 0], color="white", linewidth=0.8)
        level = names.get(tuple(disc.center_lps_mm))
        axis.text(
            outline[:, 1].max() + 25, outline[:, 0].mean(), level.value if level else "-", color="white", fontsize=6
        )
    for x0, y0, x1, y1 in boxes_mm if boxes_mm is not None else ():
        axis.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], "--", color="0.8", linewidth=0.5)
