"""Whether grades get better where a disc is judged beside the other discs of its spine: a table of ``grading.md``.

    python -m inference.training.context --run runs/grading --docs docs

Takes a finished ``spinenode train grading``, whose opinions are there of every disc whose patient they had not seen.
Each fold's discs are then said again by networks over the spine (``context_models``) that have not seen its patients
either. These learn from what was said out of fold, so that what they are given in learning is like what they are given
afterwards: of its own patients a grader is far too sure. The first opinions that they learn from do come from graders
that had seen the fold in hand; only its labels' trace in another patient's log-odds is left of it. The networks'
summaries are not given: those of two folds do not speak the same language.

Within the other folds each one tells in turn when to stop, and the models' log-odds are averaged, so nothing is chosen
on the patients that are reported. A model that learns nothing says the mean of the opinions.

Figures are means over the folds. Over all discs at once any model that learns how frequent a label is loses some AUC:
where the fold in hand has many, those to learn from have few (held out against each other, the two are anticorrelated).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from inference.descriptors import FEATURES
from inference.networks import odds
from inference.training import calibration, grading_scores, marked_page
from inference.training import grading_tables as tables
from inference.training.calibration import OutOfFold
from inference.training.context_models import KINDS, Context, Material, said_again, spines_of, taught
from inference.training.grading_run import DISCS, SAID
from inference.training.grading_tables import PFIRRMANN, Evaluated, Mask, Shares
from inference.training.gradings import TARGETS, GradedDiscs, load, targets_of
from inference.training.lesson import standardised
from inference.training.losses import weighted
from inference.training.recipe import Recipe

MARKS = "<!-- context: written by `python -m inference.training.context` -->", "<!-- end of context -->"
SURE = 6.0
"""Log-odds beyond this are given as this: a grader's surest are no surer."""
GIVEN = ("log-odds", "log-odds and numbers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One way to say the discs again."""

    kind: str
    given: str
    by_seed: tuple[Shares, ...]
    together: Shares
    """Of the seeds' mean log-odds."""


def compare(discs: GradedDiscs, said: OutOfFold, seeds: int) -> tuple[Evaluated, list[Said]]:
    """The opinions without context, and every kind of model with either input."""
    found = tables.evaluated(discs, said)
    ways = [(kind, given) for given in GIVEN for kind in KINDS]
    return found, [again(discs, said, kind, given, seeds) for kind, given in tqdm(ways, desc="context")]


def again(discs: GradedDiscs, said: OutOfFold, kind: str, given: str, seeds: int) -> Said:
    """What models of a kind say of all discs, each by models that had not seen its patient."""
    targets = tuple(target for target in said.targets if target in targets_of(discs.labels))
    spines = spines_of(2 * discs.patient + discs.is_stack, discs.label_number)
    opinions = {target: calibration.log_odds(said, target) for target in targets}
    means = {target: torch.from_numpy(np.mean(each, axis=0)).float() for target, each in opinions.items()}
    by_seed: list[dict[str, Tensor]] = [{t: torch.zeros_like(each) for t, each in means.items()} for _ in range(seeds)]
    fold_of_spine = said.fold[spines[:, 0]]
    folds = np.unique(said.fold).tolist()
    for k in folds:
        others = [fold for fold in folds if fold != k]
        for stop in others:
            rows = discs.rows((said.fold != k) & (said.fold != stop))
            task = weighted(discs, rows, Recipe(), Recipe().label_smoothing)
            seen = inputs(discs, opinions, rows, given)
            material = Material(seen=seen, means=means, labels=torch.from_numpy(discs.labels))
            for seed in range(seeds):
                torch.manual_seed(seed)
                model = Context(kind, seen.shape[1], targets)
                own = fold_of_spine != k
                learn = own & (fold_of_spine != stop)
                of_stop = own & ~learn
                model = taught(model, material, task, (spines[learn], spines[of_stop]), seed)
                with torch.inference_mode():
                    chosen, told = said_again(model, material, spines[~own])
                for target, each in told.items():
                    by_seed[seed][target][chosen] += each / len(others)
    together = {target: torch.stack([each[target] for each in by_seed]).mean(0) for target in targets}
    return Said(kind=kind, given=given, by_seed=tuple(_shares(each) for each in by_seed), together=_shares(together))


def inputs(
    discs: GradedDiscs,
    opinions: Mapping[str, tuple[NDArray[np.float64], ...]],
    rows: NDArray[np.int64],
    given: str,
) -> Tensor:
    """(n, inputs) what a model is given of each disc: each opinion's mean log-odds of every target, and, where asked
    for, the measured numbers as the discs ``rows`` scale them, 0 where unknown."""
    said = [np.clip(each.mean(1), -SURE, SURE) / (SURE / 2) for all_of_it in opinions.values() for each in all_of_it]
    scores = torch.from_numpy(np.stack(said, 1)).float()
    if given == GIVEN[0]:
        return scores
    numbers = standardised(discs, rows, range(len(FEATURES))).nan_to_num(0.0)
    return torch.cat([scores, numbers], 1)


def _shares(beyond: Mapping[str, Tensor]) -> Shares:
    return {target: odds.shares(each).double().numpy() for target, each in beyond.items()}


def table(found: Evaluated, ways: list[Said], folds: NDArray[np.int64], rows: Mask) -> str:
    """Figures of each way, and by how much they differ from the opinions', with intervals by patient."""
    titles = ["Pfirrmann (QWK)" if target == PFIRRMANN else tables.title(target) for target in found.targets]
    figures = tables.header(["said by", "given", *titles, "mean", "mean, each seed"])
    figures.append(tables.line(["the opinions", "", *_figures(found, found.together, folds, rows), ""]))
    differences = tables.header(["said by", "given", *titles, "mean"])
    for way in ways:
        each_seed = ", ".join(_figures(found, shares, folds, rows)[-1] for shares in way.by_seed)
        figures.append(tables.line([way.kind, way.given, *_figures(found, way.together, folds, rows), each_seed]))
        differences.append(tables.line([way.kind, way.given, *_differences(found, way.together, folds, rows)]))
    return "\n".join([*figures, "", "Less the opinions', with 95 % intervals by patient:", "", *differences])


def _figures(found: Evaluated, shares: Shares, folds: NDArray[np.int64], rows: Mask) -> list[str]:
    chosen = np.flatnonzero(rows)
    scores = [_score(found, shares, target, folds, chosen) for target in found.targets]
    return [f"{score:.3f}" for score in (*scores, float(np.nanmean(scores)))]


def _differences(found: Evaluated, shares: Shares, folds: NDArray[np.int64], rows: Mask) -> list[str]:
    each = [gain(found, shares, (target,), folds, rows) for target in found.targets]
    told = [*each, gain(found, shares, found.targets, folds, rows)]
    return [f"{value:+.3f} ({low:+.3f} to {high:+.3f})" for value, low, high in told]


def gain(
    found: Evaluated, shares: Shares, targets: tuple[str, ...], folds: NDArray[np.int64], rows: Mask
) -> tuple[float, float, float]:
    """By how much the mean figure of the targets is above the opinions', and its interval: discs are drawn patient
    by patient, and both are scored on the same ones."""

    def difference(_: grading_scores.Numbers, drawn: grading_scores.Numbers) -> float:
        each = [
            _score(found, shares, target, folds, drawn) - _score(found, found.together, target, folds, drawn)
            for target in targets
        ]
        return float(np.mean(each))

    chosen = np.flatnonzero(rows)
    low, high = grading_scores.interval(difference, chosen, chosen, found.discs.patient[chosen])
    return difference(chosen, chosen), low, high


def _score(
    found: Evaluated, shares: Shares, target: str, folds: NDArray[np.int64], drawn: grading_scores.Numbers
) -> float:
    """Mean over the folds in which it is defined."""
    known = drawn.astype(np.int64)
    known = known[found.known(target)[known]]
    truth = found.discs.labels[known, TARGETS.index(target)] - tables.least(target)
    parts = [folds[known] == k for k in np.unique(folds[known])]
    scores = np.array([tables.score_of(target, truth[part], shares[target][known[part]]) for part in parts])
    defined = scores[np.isfinite(scores)]
    return float(defined.mean()) if defined.size else float("nan")


@click.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Folder of grading.md to write into.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--threads", default=1, show_default=True)
def main(run: Path, docs: Path | None, seeds: int, threads: int) -> None:
    """Teach, compare, and write the table."""
    torch.set_num_threads(threads)
    discs = load(run / DISCS)
    said = calibration.load(run / SAID)
    found, ways = compare(discs, said, seeds)
    rows = ~discs.is_stack if (~discs.is_stack).any() else discs.is_stack
    text = table(found, ways, said.fold, rows)
    heading = (
        f"{datetime.now(UTC):%Y-%m-%d}, `python -m inference.training.context --run {run} --seeds {seeds}`: "
        f"{'stacks' if discs.is_stack[rows].all() else 'mid-sagittal slices'} of "
        f"{len(np.unique(discs.patient[rows]))} patients, out of fold; AUC, for Pfirrmann QWK, each the "
        "mean over the folds."
    )
    click.echo(text)
    if docs is not None:
        marked_page.write(docs / marked_page.PAGE, MARKS, f"{heading}\n\n{text}")


if __name__ == "__main__":
    main()
