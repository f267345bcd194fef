"""A whole training of the grader: cuts the discs, holds out each patient once, trains on all, writes the weights.

    spinenode train grading --data ../shared/data/spider --out runs/grading

Seeded; a run that was stopped goes on where it was: cut discs, finished folds and the checkpoint of the one in hand are
kept in its folder, beside the recipe, a log of each training, what was said of every disc out of fold (``spinenode
evaluate grading`` reads it) and ``run.json``, which says what made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from inference import detection, labelling
from inference.anatomy import Spine
from inference.grades import Finding
from inference.networks.family import GradingNetwork
from inference.networks.perceptrons import Perceptrons
from inference.networks.regression import FeatureRegression
from inference.training import (
    calibration,
    disc_cutting,
    grading,
    grading_sources,
    localisation_scores,
    perceptrons,
    recipe,
    regression,
    run_folder,
    t1_discs,
    unlabelled,
)
from inference.training.calibration import OutOfFold
from inference.training.disc_cutting import Localise
from inference.training.graded_series import DataSetError, GradedData
from inference.training.grading import Session
from inference.training.gradings import TARGETS, GradedDiscs, findings_of, findings_taught, load
from inference.training.recipe import Recipe, RecipeError
from inference.training.unlabelled import UnlabelledDiscs
from inference.training.views import VIEWS, Views
from inference.volume import FloatArray, SagittalVolume, VoxelArray
from inference.weights import MANIFEST, load_localiser, read_grader, read_manifest

VERSION = "0.4.0"
DISCS, SAID, WEIGHTS = "discs.npz", "out_of_fold.npz", "grader.safetensors"
ALL_DISCS, T1 = "all_discs.npz", "t1.npz"
BATCH = 64
"""Discs that are scored at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Everything that a training of all folds needs to know."""

    discs: GradedDiscs
    fold: NDArray[np.int64]
    """(n,) the fold in which each disc's patient is held out."""
    recipe: Recipe
    devices: tuple[str, ...]
    """The first one trains; further ones share its batches."""
    out: Path
    unlabelled: UnlabelledDiscs | None = None
    """What ``recipe.pretrain`` looks at."""

    def session(self, name: str, seed: int) -> Session:
        return Session(seed=seed, log=self.out / f"{name}.csv", device=self.devices[0], beside=self.devices[1:])


def run(data: GradedData, out: Path, chosen: Recipe, devices: Sequence[str], localisers: Path | None = None) -> Path:
    """Everything; gives the path of the weights.

    Arguments:
        localisers: folder of a cross-validation of the localiser (``localisation.cross_validate``): each patient's
            discs are then found by a network that has not seen him, as those of the clinic are. None: by the shipped.

    Raises ``recipe.RecipeError`` where ``out`` holds another run or the recipe asks for T1, ``DataSetError`` where
    nothing can be learned.
    """
    if chosen.sees_t1:
        raise RecipeError("t1: grading hands its network no T1 image yet; only the ablation trains such networks")
    out.mkdir(parents=True, exist_ok=True)
    recipe.keep(chosen, out)
    discs = cut_discs(data, out, localisers)
    whole = Run(
        discs=discs,
        fold=fold_of(discs, data, chosen),
        recipe=chosen,
        devices=tuple(devices),
        out=out,
        unlabelled=all_discs(data, out, localisers) if chosen.pretrain else None,
    )
    run_folder.write(out, discs, devices)
    said = cross_validate(whole)
    said.save(out / SAID)
    grader = trained(whole, np.arange(len(discs)), whole.session("all", chosen.seed))
    sharpness = calibration.fit(said, discs.labels)
    for target, value in zip(TARGETS, sharpness, strict=True):
        for finding in findings_of(target):
            if finding in grader.findings:
                grader.sharpness[grader.findings.index(finding)] = float(value)
    save_weights(grader, out / WEIGHTS)
    run_folder.write(out, discs, devices)
    return out / WEIGHTS


def cut_discs(data: GradedData, out: Path, localisers: Path | None = None) -> GradedDiscs:
    """The data set's discs, cut where the localiser finds them, kept in the run's folder; ``localisers`` as of ``run``.

    Raises:
        DataSetError: the folder holds trainings on discs that were cut from other files or by another localiser; or a
            patient is in no fold of ``localisers``.
    """
    localise, digest = _localiser(data, localisers)
    if any(out.glob("*.safetensors")) and disc_cutting.stamped(out / DISCS) != disc_cutting.stamp_of(data, digest):
        raise DataSetError(
            f"{out} holds trainings on other discs (the data set, the localiser or the version was changed since): "
            "choose another folder, or remove it"
        )
    return disc_cutting.load_or_cut(data, out / DISCS, localise, digest)


def all_discs(data: GradedData, out: Path, localisers: Path | None = None) -> UnlabelledDiscs:
    """Every disc that is found in the data set, labelled or not; kept in the run's folder, arguments as ``cut_discs``.

    Raises DataSetError where no disc is found.
    """
    return unlabelled.load_or_cut(data, out / ALL_DISCS, *_localiser(data, localisers))


def with_t1(discs: GradedDiscs, data: GradedData, out: Path, localisers: Path | None = None) -> GradedDiscs:
    """The discs that ``cut_discs`` gave, with their T1 images; kept in the run's folder.

    Raises DataSetError where the data set has none.
    """
    return t1_discs.with_t1(discs, data, out / T1, *_localiser(data, localisers))


def _localiser(data: GradedData, localisers: Path | None) -> tuple[Localise, str]:
    return _shipped() if localisers is None else _by_those_who_have_not_seen(data, localisers)


def _shipped() -> tuple[Localise, str]:
    localiser = load_localiser("cpu")

    def localise(volume: SagittalVolume, patient: int) -> Spine:
        return labelling.name(detection.find(volume, localiser))

    return localise, read_manifest(MANIFEST)["localiser"]["sha256"]


def _by_those_who_have_not_seen(data: GradedData, localisers: Path) -> tuple[Localise, str]:
    unseen = localisation_scores.unseen(localisers)
    without = sorted(set(data.patients) - set(unseen))
    if without:
        raise DataSetError(
            f"{localisers} has no finished fold without patient {without[0]} ({len(without)} such patients): train its "
            "folds to the end"
        )

    def localise(volume: SagittalVolume, patient: int) -> Spine:
        return labelling.name(detection.find(volume, unseen[patient]))

    files = sorted(localisers.glob("fold*.safetensors"))
    return localise, " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def fold_of(discs: GradedDiscs, data: GradedData, chosen: Recipe) -> NDArray[np.int64]:
    """(n,) the fold in which each disc's patient is held out."""
    number = grading_sources.folds(data, chosen.folds, chosen.seed)
    return np.array([number[patient] for patient in discs.patient.tolist()], np.int64)


def cross_validate(whole: Run, views: Views = VIEWS["plain"]) -> OutOfFold:
    """What graders say of patients they have not seen; finished folds are read from the run's folder."""
    discs, said = whole.discs, calibration.silent(whole.fold, findings_taught(whole.discs.labels))
    for k in np.unique(whole.fold).tolist():
        test = whole.fold == k
        grader = trained(whole, discs.rows(~test), whole.session(f"fold{k}", whole.recipe.seed + k))
        of_fold = said_by(grader, discs, discs.rows(test), views)
        for name, values in of_fold.items():
            getattr(said, name)[test] = values
    return said


def seen_again(folder: Path, name: str) -> str:
    """The folds of a finished run look at their discs again, by the ``VIEWS`` of that name; gives the file's name."""
    kept, discs = calibration.load(folder / SAID), load(folder / DISCS)
    scores, cuts = kept.scores.copy(), kept.cuts.copy()
    for k in np.unique(kept.fold).tolist():
        test = kept.fold == k
        said = said_by(read_grader(folder / f"fold{k}.safetensors"), discs, discs.rows(test), VIEWS[name])
        scores[test], cuts[test] = said["scores"], said["cuts"]
    file = f"out_of_fold_{name}.npz"
    replace(kept, scores=scores, cuts=cuts).save(folder / file)
    return file


def trained(whole: Run, rows: NDArray[np.int64], session: Session) -> GradingNetwork:
    """The grader kept beside the session's log, or a new one: all that it is made of trained on the given discs."""
    kept = session.log.with_suffix(".safetensors")
    if not kept.exists():
        grader = grading.train(whole.discs, rows, whole.recipe, session, whole.unlabelled)
        grader.regression, grader.perceptrons = on_numbers(whole, rows, session.seed)
        save_weights(grader, kept)
    forget_checkpoints(session)
    return read_grader(kept)


def on_numbers(whole: Run, rows: NDArray[np.int64], seed: int) -> tuple[FeatureRegression, Perceptrons]:
    """Both that judge the measured numbers, trained on the given discs."""
    fitted = regression.fit(whole.discs, rows, grading.weighted(whole.discs, rows, whole.recipe, smoothing=0.0).loss)
    return fitted, perceptrons.fit(whole.discs, rows, whole.recipe, fitted, seed)


def forget_checkpoints(session: Session) -> None:
    """Once the weights of a training are kept its checkpoints are of no use."""
    for checkpoint in (session.checkpoint, *session.log.parent.glob(f"{session.log.stem}_*.checkpoint")):
        checkpoint.unlink(missing_ok=True)


@torch.inference_mode()
def said_by(
    grader: GradingNetwork, discs: GradedDiscs, rows: NDArray[np.int64], views: Views
) -> Mapping[str, FloatArray]:
    """The fields of ``OutOfFold`` for the given discs: severities, and what ``cuts`` have to be for their log-odds."""
    severities, cuts = [], []
    for start in range(0, len(rows), BATCH):
        seen = [grader.look(*view) for view in views.of(discs, rows[start : start + BATCH])]
        scores = torch.stack([look.scores.float() for look in seen]).mean(0)
        severity = grader.severity(scores)
        severities.append(severity.double().numpy())
        cuts.append(_cuts(grader, scores, severity))
    of_numbers = said_of_numbers(grader.regression, grader.perceptrons, discs.features[rows])
    return {"scores": np.concatenate(severities), "cuts": np.concatenate(cuts), **of_numbers}


@torch.inference_mode()
def said_of_numbers(fitted: FeatureRegression, beside: Perceptrons, features: VoxelArray) -> Mapping[str, FloatArray]:
    """The fields of ``OutOfFold`` that (n, features) numbers alone give."""
    numbers = torch.from_numpy(features)
    return {
        "regression_scores": fitted(numbers).double().numpy(),
        "regression_cuts": fitted.cuts().double().numpy(),
        "perceptron_scores": beside(fitted.known(numbers)[:, : fitted.own]).double().numpy(),
        "perceptron_cuts": beside.cuts().double().numpy(),
    }


def _cuts(grader: GradingNetwork, scores: torch.Tensor, severity: torch.Tensor) -> FloatArray:
    """(n, 4) where Pfirrmann's severity would have to be cut for the log-odds that were said; 0 if it is not taught."""
    beyond = grader.log_odds(scores)
    if Finding.PFIRRMANN not in beyond:
        return np.zeros((len(scores), 4))
    own = severity[:, grader.findings.index(Finding.PFIRRMANN), None]
    return np.asarray((own - beyond[Finding.PFIRRMANN]).double().numpy(), np.float64)


def save_weights(grader: GradingNetwork, path: Path) -> None:
    """The file that ``inference.weights`` loads: parameters, and what builds the network, in the metadata."""
    metadata = {
        "variant": grader.variant,
        "config": json.dumps(grader.config),
        "name": "spinenode-grader",
        "version": VERSION,
    }
    temporary = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in grader.state_dict().items()}, temporary, metadata=metadata)
    temporary.replace(path)
