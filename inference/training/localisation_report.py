"""How a training of the localiser went: its curves, and the held-out slices on which the network does worst."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from inference.marks import Tissue
from inference.training.augmentation import Label, LabelledSlice, plain_view
from inference.training.localisation import Training

WORST = 8
TISSUES = ((Tissue.DISC, Label.DISC), (Tissue.VERTEBRA, Label.VERTEBRA), (Tissue.CANAL, Label.CANAL))


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutSlice:
    """The middle slice of a held-out series, as it is labelled and as it is marked."""

    pixels: NDArray[np.float32]
    """(rows, columns)"""
    labelled: NDArray[np.bool_]
    """(3, rows, columns) disc, vertebra, canal."""
    marked: NDArray[np.bool_]
    dice: tuple[float, ...]
    """Of disc, vertebra, canal; NaN where there is none of it."""


def write(training: Training, unseen: Sequence[LabelledSlice], localiser: nn.Module) -> str:
    """Write ``training.md`` and ``training.png`` beside the weights; gives the words of the page."""
    slices = sorted((judged(each, localiser) for each in unseen), key=lambda each: float(np.nanmin(each.dice)))
    folder = training.out.parent
    _drawn(curves(training), slices[:WORST]).savefig(folder / "training.png", dpi=80)
    lines = [
        "# Training of the localiser",
        f"{training.data.name} ({training.layout.value}), seed {training.seed}, "
        f"{sum(stage.steps for stage in training.stages)} steps, {len(training.held_out)} patients held out.",
    ]
    for place, (tissue, _) in enumerate(TISSUES):
        said = np.array([each.dice[place] for each in slices])
        if np.isfinite(said).any():
            lines.append(
                f"Dice of {tissue.name.lower()} on {len(said)} held-out middle slices: "
                f"{np.nanmean(said):.3f} in the mean, {np.nanmin(said):.3f} on the worst."
            )
    lines.append("![The curves, and the worst held-out slices](training.png)")
    text = "\n\n".join(lines) + "\n"
    (folder / "training.md").write_text(text, encoding="utf-8")
    return text


def curves(training: Training) -> NDArray[np.float64]:
    """(n, 3) step counted over all stages, loss of the views, loss of the held-out slices (NaN without any)."""
    rows: list[list[float]] = []
    before = 0
    for stage in training.stages:
        path = training.out.with_suffix("") / f"{stage.name}.csv"
        if path.exists():
            with path.open(newline="") as table:
                rows += [[before + float(row[0]), *(float(value) for value in row[1:3])] for row in csv.reader(table)]
        before += stage.steps
    return np.array(rows, np.float64).reshape(-1, 3)


def judged(each: LabelledSlice, localiser: nn.Module) -> HeldOutSlice:
    """The series' middle slice against its labels."""
    middle = len(each.pixels) // 2
    view = plain_view(each.pixels[middle], each.labels[middle])
    with torch.inference_mode():
        logits = localiser.eval()(view.pixels[None, None].float())[0]
    rows, columns = each.labels.shape[1:]
    marked = (logits[: len(TISSUES), :rows, :columns] > 0).numpy()
    labelled = np.stack([each.labels[middle] == label for _, label in TISSUES])
    both, total = (marked & labelled).sum((1, 2)), marked.sum((1, 2)) + labelled.sum((1, 2))
    dice = tuple(float(2 * b / t) if t else float("nan") for b, t in zip(both, total, strict=True))
    return HeldOutSlice(pixels=each.pixels[middle], labelled=labelled, marked=marked, dice=dice)


def _drawn(curve: NDArray[np.float64], worst: Sequence[HeldOutSlice]) -> Figure:
    figure = Figure(figsize=(15, 7), layout="constrained")
    grid = figure.add_gridspec(2, 1 + (WORST + 1) // 2, width_ratios=[2, *[1] * ((WORST + 1) // 2)])
    axis = figure.add_subplot(grid[:, 0])
    axis.plot(curve[:, 0], curve[:, 1], label="views")
    axis.plot(curve[:, 0], curve[:, 2], label="held-out slices")
    axis.set(xlabel="step", ylabel="loss", title="Loss")
    axis.legend()
    for place, each in enumerate(worst):
        tile = figure.add_subplot(grid[place % 2, 1 + place // 2])
        tile.imshow(each.pixels, cmap="gray", vmin=0, vmax=1.2)
        for labelled, marked in zip(each.labelled, each.marked, strict=True):
            if labelled.any():
                tile.contour(labelled, [0.5], colors="tab:cyan", linewidths=0.7)
            if marked.any():
                tile.contour(marked, [0.5], colors="tab:orange", linewidths=0.7)
        tile.set_title("Dice " + ", ".join(f"{value:.2f}" for value in each.dice), fontsize=9)
        tile.axis("off")
    figure.suptitle("Worst held-out slices: labelled cyan, marked orange (Dice of disc, vertebra, canal)")
    return figure
