"""Trains the disc grader on SPIDER, reports it by patient-wise cross-validation, and writes the shipped weights.

    python -m inference.training.grading --data ../shared/data/spider --out runs/grading

Seeded; a run that was stopped goes on where it was: cut discs and finished folds are kept under ``--out``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from inference import detection, labelling
from inference.anatomy import Spine
from inference.descriptors import FEATURES
from inference.grades import CLASSES, Finding
from inference.networks.grader import LEARNED, DiscGrader
from inference.training import grading_scores, spider
from inference.training.disc_augmentation import batch, plain_batch
from inference.training.gradings import (
    MARROW_TARGET,
    TARGETS,
    UNKNOWN,
    GradedDiscs,
    class_weights,
    endplate_sides,
    load_or_cut,
)
from inference.volume import FloatArray, SagittalVolume
from inference.weights import load_localiser

VERSION = "0.1.0"
SLICE_WEIGHTS = (0.0, 0.0, 0.0, 0.25, 0.5, 0.25, 0.0, 0.0, 0.0)
"""Most discs that teach are one mid-sagittal slice: what lies further out was not seen in training."""
EPOCHS = 24
BATCH = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 2e-2
LABEL_SMOOTHING = 0.05
HEAVIEST_CLASS = 8.0
"""Limit of the inverse-frequency weight: 33 slips in 1,200 discs would otherwise weigh 18-fold and be memorised."""
FOLDS = 5
SEED = 20


def new_grader(discs: GradedDiscs, rows: NDArray[np.int64]) -> DiscGrader:
    """An untrained grader whose features are centred and scaled by the given discs."""
    grader = DiscGrader(features=FEATURES, slice_weights=SLICE_WEIGHTS)
    features = discs.features[rows].astype(np.float64)
    center = np.nanmedian(features, axis=0)
    spread = np.nanpercentile(features, 84, axis=0) - np.nanpercentile(features, 16, axis=0)
    grader.feature_mean.copy_(torch.from_numpy(center))
    grader.feature_scale.copy_(torch.from_numpy(np.maximum(spread / 2, 1e-4)))
    return grader


def loss_of(grader: DiscGrader, scores: Tensor, labels: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Mean over the targets of the class-balanced log-loss; discs without the label are left out.

    Marrow: a disc is positive if either side is (noisy or), since SPIDER has one Modic label per disc.
    """
    probabilities = grader.probabilities(scores)
    losses = []
    for i, target in enumerate(TARGETS):
        known = labels[:, i] != UNKNOWN
        if not known.any():
            continue
        shares = _shares(probabilities, target)[known]
        truth = labels[known, i] - (1 if target == Finding.PFIRRMANN.value else 0)
        shares = (1 - LABEL_SMOOTHING) * shares + LABEL_SMOOTHING / shares.shape[1]
        weight = weights[target][truth]
        losses.append((functional.nll_loss(shares.clamp_min(1e-6).log(), truth, reduction="none") * weight).mean())
    return torch.stack(losses).mean()


def _shares(probabilities: Mapping[Finding, Tensor], target: str) -> Tensor:
    if target != MARROW_TARGET:
        return probabilities[Finding(target)]
    neither = probabilities[Finding.UPPER_MARROW_CHANGE][:, 0] * probabilities[Finding.LOWER_MARROW_CHANGE][:, 0]
    return torch.stack([neither, 1 - neither], 1)


def train(discs: GradedDiscs, rows: NDArray[np.int64], *, seed: int, title: str) -> DiscGrader:
    """A grader trained on the given discs."""
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    grader = new_grader(discs, rows)
    weights = {
        target: torch.from_numpy(class_weights(discs.labels[rows, i], _classes(target), HEAVIEST_CLASS)).float()
        for i, target in enumerate(TARGETS)
    }
    optimiser = torch.optim.AdamW(grader.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    grader.train()
    with tqdm(total=steps, desc=title) as progress:
        for _ in range(EPOCHS):
            order = chance.permutation(rows)
            for start in range(0, len(rows) // BATCH * BATCH, BATCH):
                images, present, features, labels = batch(discs, order[start : start + BATCH], chance)
                with torch.autocast("cpu", torch.bfloat16):
                    scores = grader(images, present, features)
                loss = loss_of(grader, scores.float(), labels, weights)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(grader.parameters(), 5.0)
                optimiser.step()
                schedule.step()
                progress.update()
                progress.set_postfix(loss=f"{loss.item():.3f}")
    return grader.eval()


def trained(discs: GradedDiscs, rows: NDArray[np.int64], kept: Path, *, seed: int) -> DiscGrader:
    """The grader kept in a file, or a new one, trained on the given discs and kept there."""
    if not kept.exists():
        save_weights(train(discs, rows, seed=seed, title=kept.stem), kept)
    grader = DiscGrader(features=FEATURES, slice_weights=SLICE_WEIGHTS)
    grader.load_state_dict(load_file(kept))
    return grader.eval()


@torch.inference_mode()
def scores_for(grader: DiscGrader, discs: GradedDiscs, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(len(rows), len(LEARNED)) scores without augmentation."""
    parts = [grader(*plain_batch(discs, rows[start : start + 64])) for start in range(0, len(rows), 64)]
    return torch.cat(parts).numpy()


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfFold:
    """What graders say of discs whose patients they have not seen."""

    scores: NDArray[np.float32]
    """(n, len(LEARNED))"""
    cuts: NDArray[np.float32]
    """(n, 4) Pfirrmann cuts of the grader that scored the disc."""


def cross_validate(discs: GradedDiscs, out: Path, root: Path) -> OutOfFold:
    """Patient-wise ``FOLDS``-fold cross-validation; finished folds are read from ``out``."""
    scores = np.zeros((len(discs), len(LEARNED)), np.float32)
    cuts = np.zeros((len(discs), 4), np.float32)
    dealt = spider.folds(spider.patients(root), FOLDS, SEED, apart=spider.stack_patients(root))
    for k, held_out in enumerate(dealt):
        test = np.isin(discs.patient, list(held_out))
        grader = trained(discs, discs.rows(~test), out / f"fold{k}.safetensors", seed=SEED + k)
        scores[test] = scores_for(grader, discs, discs.rows(test))
        cuts[test] = grader.cuts.detach().numpy()
    return OutOfFold(scores=scores, cuts=cuts)


def temperatures(discs: GradedDiscs, said: OutOfFold) -> FloatArray:
    """(len(LEARNED),) fitted on the out-of-fold scores; the two marrow findings share one, by their common label."""
    result = np.ones(len(LEARNED))
    for i, target in enumerate(TARGETS):
        known = discs.labels[:, i] != UNKNOWN
        truth = discs.labels[known, i] - min(_classes(target))
        weights = class_weights(discs.labels[known, i], _classes(target), HEAVIEST_CLASS)

        def at(t: float, target: str = target, known: NDArray[np.bool_] = known) -> FloatArray:
            return target_shares(said, target, t)[known]

        for finding in _findings(target):
            result[LEARNED.index(finding)] = grading_scores.fit_temperature(truth, at, weights.tolist())
    return result


def target_shares(said: OutOfFold, target: str, temperature: float) -> FloatArray:
    """(n, classes) probabilities of a target at a temperature."""
    columns = [said.scores[:, LEARNED.index(finding)] / temperature for finding in _findings(target)]
    if target == Finding.PFIRRMANN.value:
        above = expit(columns[0][:, None] - said.cuts / temperature)
        ends = np.ones((len(above), 1)), np.zeros((len(above), 1))
        return -np.diff(np.concatenate([ends[0], above, ends[1]], axis=1), axis=1)
    neither = np.prod([expit(-column) for column in columns], axis=0)
    return np.stack([neither, 1 - neither], axis=1)


def report(discs: GradedDiscs, said: OutOfFold, chosen: NDArray[np.bool_]) -> dict[str, dict[str, object]]:
    """Figures of each target over the chosen discs, with 95 % intervals by patient."""
    figures: dict[str, dict[str, object]] = {}
    for i, target in enumerate(TARGETS):
        known = chosen & (discs.labels[:, i] != UNKNOWN)
        truth, patient = discs.labels[known, i], discs.patient[known]
        shares = target_shares(said, target, 1.0)[known]
        value = (shares.cumsum(1) < 0.5).sum(1) + min(_classes(target))  # the median, as inference.grading says it
        figures[target] = {"discs": len(truth), "positives": int((truth > min(_classes(target))).sum())}
        measures: dict[str, tuple[grading_scores.Score, grading_scores.Numbers]] = {
            "balanced_accuracy": (grading_scores.balanced_accuracy, value)
        }
        if target == Finding.PFIRRMANN.value:
            measures["qwk"] = (grading_scores.quadratic_weighted_kappa, value)
            figures[target]["mean_absolute_error"] = round(float(np.abs(truth - value).mean()), 3)
            figures[target]["within_one"] = round(float((np.abs(truth - value) <= 1).mean()), 3)
        else:
            measures["auc"] = (grading_scores.auc, shares[:, 1])
        for name, (score, argument) in measures.items():
            low, high = grading_scores.interval(score, truth, argument, patient)
            figures[target][name] = [round(x, 3) for x in (score(truth, argument), low, high)]
    return figures


def save_weights(grader: DiscGrader, path: Path) -> None:
    """The file that ``inference.weights`` loads: parameters, and what builds the network, in the metadata."""
    config = {"features": FEATURES, "slice_weights": SLICE_WEIGHTS}
    metadata = {"config": json.dumps(config), "name": "spinenode-grader", "version": VERSION}
    temporary = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in grader.state_dict().items()}, temporary, metadata=metadata)
    temporary.replace(path)


@click.command()
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="SPIDER folder."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where the run is kept.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
def main(data: Path, out: Path, threads: int) -> None:
    """Cut the discs, cross-validate, train on all patients, write OUT/grader.safetensors and OUT/figures.json."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    localiser = load_localiser("cpu")

    def localise(volume: SagittalVolume) -> Spine:
        return labelling.name(detection.find(volume, localiser))

    discs = load_or_cut(data, out / "discs.npz", localise)
    said = cross_validate(discs, out, data)
    figures = {
        "t2_midsagittal": report(discs, said, ~discs.is_stack),
        "t2_space_stacks": report(discs, said, discs.is_stack),
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    one_sided, sides_auc = endplate_sides(discs)
    click.echo(f"discs with one end plate marked: {one_sided}, AUC of the rougher edge {sides_auc:.2f}")
    for name, table in figures.items():
        click.echo(name)
        for target, row in table.items():
            click.echo(f"  {target:24s} " + "  ".join(f"{key} {value}" for key, value in row.items()))
    grader = trained(discs, np.arange(len(discs)), out / "all.safetensors", seed=SEED)
    grader.temperature.copy_(torch.from_numpy(temperatures(discs, said)))
    save_weights(grader, out / "grader.safetensors")
    click.echo(f"weights: {out / 'grader.safetensors'}")


def _classes(target: str) -> tuple[int, ...]:
    return CLASSES[Finding.PFIRRMANN] if target == Finding.PFIRRMANN.value else (0, 1)


def _findings(target: str) -> tuple[Finding, ...]:
    """The findings that a target's label speaks of: both marrow findings for ``marrow_change``."""
    if target == MARROW_TARGET:
        return Finding.UPPER_MARROW_CHANGE, Finding.LOWER_MARROW_CHANGE
    return (Finding(target),)


if __name__ == "__main__":
    main()
