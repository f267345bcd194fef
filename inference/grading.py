"""DiscVolume -> Grades, all discs of a study in one batch. Knows nothing of levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.grades import TAUGHT, Basis, Doubt, Finding, Grade, Grades
from inference.networks import odds
from inference.networks.family import GradingNetwork
from inference.volume import DiscVolume

FAR_APART = 2
"""Pfirrmann grades by which network and measurements have to differ to be called at odds."""
FIRM = 0.7
"""A yes against a no is called at odds where both are at least this probable on their own."""
UNSURE: Mapping[Finding, float] = {finding: 0.45 if finding is Finding.PFIRRMANN else 0.6 for finding in Finding}
"""Below this probability of what was said a grade is uncertain. See the risk-coverage curves of ``docs/grading.md``."""

Shares = NDArray[np.float64]


def grade(
    disc_volumes: Sequence[DiscVolume], grader: GradingNetwork, unsure_below: Mapping[Finding, float] = UNSURE
) -> tuple[Grades, ...]:
    """Grades of each disc, in order: for every finding the median of its classes' probabilities.

    Three opinions count alike: the network's, which sees the image, and those of the regression and the perceptrons,
    which see the measured numbers. A grade says so in ``doubt`` where network and regression, which can be read, are at
    odds, or where its probability is low.

    For two classes the median is the more probable one. For Pfirrmann it is the class in which the disc's severity
    lies; out of fold it agreed better with the radiologist than the most probable class did. Probabilities hold for a
    disc drawn where all classes are equally frequent, as the network was trained: they say how the image speaks, not
    how frequent the finding is. Narrowing is 1 or 2 here, none or some, as its labels are (``inference.narrowing``
    tells how much). ``unsure_below``: the probability below which a grade is uncertain, per finding.

    Runs on the device of the network; after running out of memory with half as many discs at a time.
    """
    if not disc_volumes:
        return ()
    scores, sides = scores_of(disc_volumes, grader)
    features = torch.from_numpy(np.stack([disc.features for disc in disc_volumes])).to(scores.device)
    with torch.inference_mode():
        opinions = grader.opinions(scores, features)
        together = odds.averaged(opinions, grader.sharpness, sides)
    said, seen, measured = (
        _shares(odds.probabilities(each)) for each in (together, opinions.network, opinions.regression)
    )
    return tuple(
        {
            finding: _grade(finding, said[finding][i], seen[finding][i], measured[finding][i], unsure_below[finding])
            for finding in said
        }
        for i in range(len(scores))
    )


@torch.inference_mode()
def slices_looked_at(disc_volumes: Sequence[DiscVolume], grader: GradingNetwork) -> tuple[tuple[int, ...], ...]:
    """Per disc the places (0-8; 4 is the mid-slice) of the slices that the network goes by: what the series has."""
    if not disc_volumes:
        return ()
    present = torch.from_numpy(np.stack([disc.slice_present for disc in disc_volumes]))
    shares = grader.slice_shares(present.to(grader.sharpness.device)).cpu()
    return tuple(tuple(torch.nonzero(each > 0)[:, 0].tolist()) for each in shares)


@torch.inference_mode()
def scores_of(disc_volumes: Sequence[DiscVolume], grader: GradingNetwork) -> tuple[Tensor, Tensor]:
    """(n, findings) scores of the network alone, and (n, 2) of the marrow's sides; float32."""
    size = len(disc_volumes)
    while True:
        try:
            parts = [_scores(disc_volumes[i : i + size], grader) for i in range(0, len(disc_volumes), size)]
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = (size + 1) // 2
        else:
            scores, sides = zip(*parts, strict=True)
            return torch.cat(scores), torch.cat(sides)


def _scores(disc_volumes: Sequence[DiscVolume], grader: GradingNetwork) -> tuple[Tensor, Tensor]:
    device = grader.device
    images = torch.from_numpy(np.stack([disc.voxels for disc in disc_volumes])).to(device)
    present = torch.from_numpy(np.stack([disc.slice_present for disc in disc_volumes])).to(device)
    zones = torch.from_numpy(np.stack([disc.zones for disc in disc_volumes])).to(device)
    # On a processor the whole batch takes a twentieth of a second: there the exact arithmetic is worth more.
    with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        look = grader.look(images, present, zones)
    return look.scores.float(), look.sides.float()


def _shares(probabilities: Mapping[Finding, Tensor]) -> Mapping[Finding, Shares]:
    return {finding: each.double().cpu().numpy() for finding, each in probabilities.items()}


def _grade(finding: Finding, said: Shares, seen: Shares, measured: Shares, unsure_below: float) -> Grade:
    classes = TAUGHT[finding]
    shares = said / said.sum()
    index = median(shares)
    return Grade(
        value=classes[index],
        probabilities={value: float(share) for value, share in zip(classes, shares, strict=True)},
        basis=Basis.LEARNED,
        doubt=_doubt(float(shares[index]), seen, measured, unsure_below),
    )


def _doubt(probability: float, seen: Shares, measured: Shares, unsure_below: float) -> Doubt | None:
    ours, theirs = median(seen), median(measured)
    if len(seen) > 2:
        at_odds = abs(ours - theirs) >= FAR_APART
    else:
        at_odds = ours != theirs and min(seen[ours], measured[theirs]) > FIRM
    if at_odds:
        return Doubt.AT_ODDS
    return Doubt.UNSURE if probability < unsure_below else None


def median(shares: Shares) -> int:
    """Index of the class in which the median of the probabilities lies."""
    return min(int(np.searchsorted((shares / shares.sum()).cumsum(), 0.5)), len(shares) - 1)
