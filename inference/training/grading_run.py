"""A whole training of the grader: cuts the discs, holds out each patient once, trains on all, writes the weights.

    spinenode train grading --data ../shared/data/spider --out runs/grading

Seeded; a run that was stopped goes on where it was: cut discs and finished folds are kept in its folder, beside the
recipe, a log of each training, and what was said of every disc out of fold (``spinenode evaluate grading`` reads it).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from inference import detection, labelling
from inference.anatomy import Spine
from inference.descriptors import FEATURES
from inference.networks.grader import DiscGrader
from inference.networks.odds import LEARNED
from inference.training import calibration, grading, recipe, regression, spider
from inference.training.calibration import OutOfFold
from inference.training.disc_augmentation import plain_batch
from inference.training.grading import SLICE_WEIGHTS, Session
from inference.training.gradings import TARGETS, GradedDiscs, load_or_cut
from inference.training.recipe import Recipe
from inference.volume import FloatArray, SagittalVolume
from inference.weights import load_localiser

VERSION = "0.2.0"
DISCS, SAID, WEIGHTS = "discs.npz", "out_of_fold.npz", "grader.safetensors"


def run(data: Path, out: Path, chosen: Recipe, device: str) -> Path:
    """Everything; gives the path of the weights. Raises ``recipe.RecipeError`` where ``out`` holds another run."""
    out.mkdir(parents=True, exist_ok=True)
    recipe.keep(chosen, out)
    discs = cut_discs(data, out)
    said = cross_validate(discs, data, out, chosen, device)
    said.save(out / SAID)
    grader = trained(
        discs, np.arange(len(discs)), chosen, Session(seed=chosen.seed, log=out / "all.csv", device=device)
    )
    sharpness = calibration.fit(said, discs.labels)
    for target, value in zip(TARGETS, sharpness, strict=True):
        for finding in calibration.findings_of(target):
            grader.sharpness[LEARNED.index(finding)] = float(value)
    save_weights(grader, out / WEIGHTS)
    return out / WEIGHTS


def cut_discs(data: Path, out: Path) -> GradedDiscs:
    """The data set's discs, cut where the shipped localiser finds them; kept in the run's folder."""
    localiser = load_localiser("cpu")

    def localise(volume: SagittalVolume) -> Spine:
        return labelling.name(detection.find(volume, localiser))

    return load_or_cut(data, out / DISCS, localise)


def fold_of(discs: GradedDiscs, data: Path, chosen: Recipe) -> NDArray[np.int64]:
    """(n,) the fold in which each disc's patient is held out; those with stacks are dealt out evenly."""
    dealt = spider.folds(spider.patients(data), chosen.folds, chosen.seed, apart=spider.stack_patients(data))
    number = {patient: k for k, held_out in enumerate(dealt) for patient in held_out}
    return np.array([number[patient] for patient in discs.patient.tolist()], np.int64)


def cross_validate(discs: GradedDiscs, data: Path, out: Path, chosen: Recipe, device: str) -> OutOfFold:
    """What graders say of patients they have not seen; finished folds are read from ``out``."""
    fold = fold_of(discs, data, chosen)
    size = len(discs), len(LEARNED)
    scores, measured, cuts, measured_cuts = (
        np.zeros(size),
        np.zeros(size),
        np.zeros((size[0], 4)),
        np.zeros((size[0], 4)),
    )
    for k in range(chosen.folds):
        test = fold == k
        session = Session(seed=chosen.seed + k, log=out / f"fold{k}.csv", device=device)
        grader = trained(discs, discs.rows(~test), chosen, session)
        scores[test], measured[test] = scores_for(grader, discs, discs.rows(test))
        cuts[test], measured_cuts[test] = grader.cuts().detach().numpy(), grader.regression.cuts().detach().numpy()
    return OutOfFold(scores=scores, cuts=cuts, regression_scores=measured, regression_cuts=measured_cuts, fold=fold)


def trained(discs: GradedDiscs, rows: NDArray[np.int64], chosen: Recipe, session: Session) -> DiscGrader:
    """The grader kept beside the session's log, or a new one: network and regression trained on the given discs."""
    kept = session.log.with_suffix(".safetensors")
    if not kept.exists():
        grader = grading.train(discs, rows, chosen, session)
        grader.regression = regression.fit(discs, rows, grading.weighted(discs, rows, chosen, smoothing=0.0).loss)
        save_weights(grader, kept)
    grader = DiscGrader(features=FEATURES, slice_weights=SLICE_WEIGHTS)
    grader.load_state_dict(load_file(kept))
    return grader.eval()


@torch.inference_mode()
def scores_for(grader: DiscGrader, discs: GradedDiscs, rows: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """(len(rows), len(LEARNED)) scores of network and regression, without augmentation."""
    parts = [grader(*plain_batch(discs, rows[start : start + 64])) for start in range(0, len(rows), 64)]
    measured = grader.regression(torch.from_numpy(discs.features[rows]))
    return torch.cat(parts).double().numpy(), measured.double().numpy()


def save_weights(grader: DiscGrader, path: Path) -> None:
    """The file that ``inference.weights`` loads: parameters, and what builds the network, in the metadata."""
    config = {"features": FEATURES, "slice_weights": SLICE_WEIGHTS}
    metadata = {"config": json.dumps(config), "name": "spinenode-grader", "version": VERSION}
    temporary = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in grader.state_dict().items()}, temporary, metadata=metadata)
    temporary.replace(path)
