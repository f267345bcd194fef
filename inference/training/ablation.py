"""Each variant of the grading network on the same folds with the same seeds, image alone: a table of ``grading.md``.

    python -m inference.training.ablation --data ../shared/data/spider --out runs/ablation --docs docs

Resumable: every fold of every variant is kept in the run's folder. ``--epochs`` and ``--folds`` set the budget.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import torch

from inference.training import calibration, grading, grading_run, grading_sources, marked_page, run_folder
from inference.training import grading_tables as tables
from inference.training.calibration import OutOfFold
from inference.training.grading_run import Run
from inference.training.grading_sources import Layout
from inference.training.grading_tables import Evaluated
from inference.training.gradings import TARGETS, GradedDiscs, findings_taught, targets_of
from inference.training.recipe import Recipe, keep
from inference.training.views import VIEWS
from inference.weights import read_grader

START, END = "<!-- ablation: written by `python -m inference.training.ablation` -->", "<!-- end of ablation -->"

_EIGHTH = {"width": 0.125}
RECIPES: Mapping[str, Recipe] = {
    "by regions (one of the shipped three)": Recipe(),
    "by regions, a marrow branch for each side": Recipe(network={"marrow": "separate"}),
    "by regions, softmax": Recipe(network={"scale": "softmax"}),
    "by regions, CORN": Recipe(network={"scale": "conditional"}),
    "by regions, without the second task": Recipe(teacher=0.0),
    "by regions, EMA 0.99": Recipe(ema=0.99),
    "by regions, three seeds (shipped)": Recipe(seeds=3),
    "by regions, a third of the target its own opinion": Recipe(own_opinion=0.33),
    "by regions, generalised cross entropy": Recipe(forgiving=0.5),
    "by regions, Pfirrmann also asked of the next grades": Recipe(neighbours=0.2),
    "by regions, without smoothing of labels": Recipe(label_smoothing=0.0),
    "by regions, pre-trained on painted discs": Recipe(pretrain="masked"),
    "by regions, pre-trained on two views": Recipe(pretrain="views", pretrain_epochs=8),
    "by regions, T1 beside T2": Recipe(network={"t1": True}),
    "slices as channels": Recipe(variant="slices_as_channels", network=_EIGHTH, slices=9, turned=0.5),
    "slices pooled, maximum": Recipe(variant="slices_pooled", network=_EIGHTH, slices=9, turned=0.5),
    "slices pooled, mean": Recipe(
        variant="slices_pooled", network={**_EIGHTH, "pooling": "mean"}, slices=9, turned=0.5
    ),
    "slices pooled, attention": Recipe(
        variant="slices_pooled", network={**_EIGHTH, "pooling": "attention"}, slices=9, turned=0.5
    ),
    "slices pooled, attention, branches after block 3": Recipe(
        variant="slices_pooled", network={**_EIGHTH, "pooling": "attention", "branch_after": 3}, slices=9, turned=0.5
    ),
    "volumetric": Recipe(variant="volumetric", network=_EIGHTH, slices=9, turned=0.5),
}
"""SpineNet's own networks with an eighth of its widths, else they do not fit a processor."""


def compare(whole: Run, chosen: Mapping[str, Recipe], folds: Sequence[int], with_t1: GradedDiscs | None = None) -> str:
    """The table: each variant on the discs held out in ``folds``. ``whole.recipe`` sets epochs, folds and seed.

    ``with_t1``: the discs with their T1 images, for the variants that see them.
    """
    rows = np.isin(whole.fold, folds) & ~whole.discs.is_stack
    measured = _measured(whole, folds)
    titles = ["Pfirrmann (QWK)" if t == tables.PFIRRMANN else tables.title(t) for t in targets_of(whole.discs.labels)]
    lines = tables.header(["network alone", *titles, "mean", "mean with the numbers", "parameters", "minutes per fold"])
    for name, each in chosen.items():
        own = whole.recipe
        asked = replace(each, epochs=own.epochs, folds=own.folds, seed=own.seed)
        folder = whole.out / re.sub(r"\W+", "_", name)
        folder.mkdir(parents=True, exist_ok=True)
        keep(asked, folder)
        discs = with_t1 if asked.sees_t1 and with_t1 is not None else whole.discs
        said, told = _seen(replace(whole, discs=discs, recipe=asked, out=folder), folds, measured)
        found = _evaluated(whole, said)
        scores = [tables.headline(found, found.network, target, rows) for target in found.targets]
        both = [tables.headline(found, found.together, target, rows) for target in found.targets]
        means = (f"{np.nanmean(each):.3f}" for each in (scores, both))
        lines.append(tables.line([name, *(f"{score:.3f}" for score in scores), *means, *told]))
    return "\n".join(lines)


def _evaluated(whole: Run, said: OutOfFold) -> Evaluated:
    """Without calibration: order and medians are what is compared."""
    together = calibration.joined(said, calibration.all_alike(np.ones(len(TARGETS))))
    alone = {opinion: calibration.alone(said, opinion) for opinion in calibration.OPINIONS}
    return Evaluated(discs=whole.discs, together=together, calibrated=together, **alone)


def _seen(whole: Run, folds: Sequence[int], measured: OutOfFold) -> tuple[OutOfFold, tuple[str, str]]:
    """What a variant's networks say of the discs held out in ``folds``, with what the numbers say beside it; and the
    network's size, and how long a fold took."""
    scores, cuts = np.zeros_like(measured.scores), np.zeros_like(measured.cuts)
    minutes, parameters = [], 0
    for k in folds:
        test, began = whole.fold == k, time.monotonic()
        session = whole.session(f"fold{k}", whole.recipe.seed + k)
        weights, clock = session.log.with_suffix(".safetensors"), session.log.with_suffix(".minutes")
        if not weights.exists():
            grader = grading.train(whole.discs, whole.discs.rows(~test), whole.recipe, session, whole.unlabelled)
            clock.write_text(f"{(time.monotonic() - began) / 60:.2f}\n")
            grading_run.save_weights(grader, weights)
        grading_run.forget_checkpoints(session)
        network = read_grader(weights)
        said = grading_run.said_by(network, whole.discs, whole.discs.rows(test), VIEWS["plain"])
        scores[test], cuts[test] = said["scores"], said["cuts"]
        minutes.append(float(clock.read_text()))
        learned = network.named_parameters()
        parameters = sum(each.numel() for name, each in learned if not name.startswith(("regression.", "perceptrons.")))
    told = f"{parameters / 1e6:.2f} M", f"{np.mean(minutes):.1f}"
    return replace(measured, scores=scores, cuts=cuts), told


def _measured(whole: Run, folds: Sequence[int]) -> OutOfFold:
    """What the numbers say of the discs held out in ``folds``: the same beside every variant."""
    said = calibration.silent(whole.fold, findings_taught(whole.discs.labels))
    for k in folds:
        test = whole.fold == k
        rows = whole.discs.rows(~test)
        opinions = grading_run.on_numbers(whole, rows, whole.recipe.seed + k)
        for name, values in grading_run.said_of_numbers(*opinions, whole.discs.features[test]).items():
            getattr(said, name)[test] = values
    return said


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--layout", type=click.Choice(list(Layout)), default=Layout.SHARED, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The run's folder.")
@click.option(
    "--localisers",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a cross-validation of the localiser: discs are found by networks that had not seen the patient.",
)
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Folder of grading.md to write into.")
@click.option("--variant", "variants", multiple=True, type=click.Choice(list(RECIPES)), help="Only these.")
@click.option("--epochs", default=Recipe().epochs, show_default=True)
@click.option("--fold", "folds", multiple=True, type=click.IntRange(min=0), help="Only these of the five.")
@click.option("--device", "devices", multiple=True, default=("cpu",), show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(  # noqa: PLR0913, PLR0917 - what the command may be told
    data: Path,
    layout: Layout,
    out: Path,
    localisers: Path | None,
    docs: Path | None,
    variants: Sequence[str],
    epochs: int,
    folds: Sequence[int],
    devices: Sequence[str],
    threads: int,
) -> None:
    """Train what is not trained yet, and write the table."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    asked, source = Recipe(epochs=epochs), grading_sources.read(data, Layout(layout))
    discs = grading_run.cut_discs(source, out, localisers)
    fold = grading_run.fold_of(discs, source, asked)
    recipes = {name: RECIPES[name] for name in variants or RECIPES}
    pretrains = any(each.pretrain for each in recipes.values())
    whole = Run(
        discs=discs,
        fold=fold,
        recipe=asked,
        devices=tuple(devices),
        out=out,
        unlabelled=grading_run.all_discs(source, out, localisers) if pretrains else None,
    )
    sees_t1 = any(each.sees_t1 for each in recipes.values())
    with_t1 = grading_run.with_t1(discs, source, out, localisers) if sees_t1 else None
    run_folder.write(out, discs, devices)
    chosen = sorted(folds) or list(range(asked.folds))
    table = compare(whole, recipes, chosen, with_t1)
    found_by = "" if localisers is None else f" --localisers {localisers}"
    words = found_by + "".join(f" --fold {k}" for k in folds) + "".join(f" --variant '{name}'" for name in variants)
    heading = (
        f"{datetime.now(UTC):%Y-%m-%d}, `python -m inference.training.ablation --data {data} --out {out} --epochs "
        f"{epochs}{words}`: mid-sagittal slices of the patients held out in fold {', '.join(map(str, chosen))} of "
        f"{asked.folds}; AUC, for Pfirrmann QWK; the same folds and seeds for all."
    )
    print(table)
    if docs is not None:
        marked_page.write(docs / marked_page.PAGE, (START, END), f"{heading}\n\n{table}")


if __name__ == "__main__":
    main()
