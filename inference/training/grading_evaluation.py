"""What finished weights say of a data set that they were not trained on, beside its labels: ``evaluation.md``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from inference.grades import Finding
from inference.networks import odds
from inference.networks.family import GradingNetwork
from inference.networks.odds import MARROW, LogOdds
from inference.training import grading_page, grading_run, grading_tables
from inference.training.disc_augmentation import plain_batch
from inference.training.graded_series import DataSetError, GradedData
from inference.training.grading_tables import Evaluated, Shares
from inference.training.gradings import MARROW_TARGET, TARGETS, GradedDiscs, findings_of, targets_of
from inference.weights import FOLDER, MANIFEST, WeightsError, checked_file, read_grader, read_manifest

AT_ONCE = 64
PAGE = "evaluation.md"


def write(data: GradedData, folder: Path, weights: Path | None, heading: str) -> str:
    """Cut the discs into ``folder``, grade them, and write the tables and the pictures of the worst cases there.

    Arguments:
        weights: a grader's file; None for the one that is shipped.

    Raises:
        DataSetError: nothing of what is labelled is something that the grader speaks of.
        WeightsError: the file cannot be used.
    """
    grader = _grader(weights or checked_file(FOLDER, "grader", read_manifest(MANIFEST)))
    folder.mkdir(parents=True, exist_ok=True)
    found = evaluated(grading_run.cut_discs(data, folder), grader)
    if not found.targets:
        known = ", ".join(finding.value for finding in grader.findings)
        raise DataSetError(f"the data set has no label of what this grader speaks of: {known}")
    silent = [grading_tables.title(target) for target in targets_of(found.discs.labels) if target not in found.targets]
    paragraphs = grading_page.overview(found, heading)
    if silent:
        paragraphs.append(f"Labelled, and not graded by these weights: {', '.join(silent)}.")
    paragraphs.append("`left_out.csv` names what is labelled and was not evaluated, and why.")
    text = "\n\n".join(paragraphs)
    (folder / PAGE).write_text(f"# Evaluation\n\n{text}\n", encoding="utf-8")
    grading_page.write_worst(found, folder / "worst")
    return text


def _grader(path: Path) -> GradingNetwork:
    try:
        return read_grader(path)
    except (OSError, SafetensorError) as unreadable:
        raise WeightsError(f"{path} cannot be read as weights of a grader: {unreadable}") from unreadable


def evaluated(discs: GradedDiscs, grader: GradingNetwork) -> Evaluated:
    """Every disc as the node would grade it: all opinions joined and calibrated as the weights' file says."""
    parts = [_said(discs, grader, start) for start in range(0, len(discs), AT_ONCE)]
    together, network, regression, perceptrons = (
        {target: np.concatenate([part[i][target] for part in parts]) for target in parts[0][i]} for i in range(4)
    )
    return Evaluated(
        discs=discs,
        together=together,
        calibrated=together,
        network=network,
        regression=regression,
        perceptrons=perceptrons,
    )


@torch.inference_mode()
def _said(discs: GradedDiscs, grader: GradingNetwork, start: int) -> tuple[Shares, Shares, Shares, Shares]:
    rows = np.arange(start, min(start + AT_ONCE, len(discs)))
    look = grader.look(*plain_batch(discs, rows))
    opinions = grader.opinions(look.scores.float(), torch.from_numpy(discs.features[rows]))
    together = odds.averaged(opinions, grader.sharpness, look.sides.float())
    network, regression, perceptrons = (_shares(each, _either_side) for each in opinions.all)
    return _shares(together, _likelier_side), network, regression, perceptrons


def _shares(beyond: LogOdds, changed_of: Callable[[LogOdds], Tensor]) -> Shares:
    """Per target (n, classes); ``changed_of`` gives the probability of marrow change."""
    probabilities = odds.probabilities(beyond)
    shares: dict[str, Tensor] = {}
    for target in TARGETS:
        if not all(finding in beyond for finding in findings_of(target)):
            continue
        if target == MARROW_TARGET:
            changed = changed_of(beyond)
            shares[target] = torch.stack([1 - changed, changed], 1)
        else:
            shares[target] = probabilities[Finding(target)]
    return {target: each.double().numpy() for target, each in shares.items()}


def _likelier_side(beyond: LogOdds) -> Tensor:
    """What ``odds.averaged`` gave: its likelier side has the probability of either."""
    return torch.sigmoid(torch.cat([beyond[side] for side in MARROW], 1).amax(1))


def _either_side(beyond: LogOdds) -> Tensor:
    return torch.sigmoid(odds.either(torch.cat([beyond[side] for side in MARROW], 1)))
