"""DiscVolume -> Grades, all discs of a study in one batch. Knows nothing of levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from inference.grades import CLASSES, Basis, Finding, Grade, Grades
from inference.networks.grader import LEARNED, DiscGrader
from inference.volume import DiscVolume


def grade(disc_volumes: Sequence[DiscVolume], grader: DiscGrader) -> tuple[Grades, ...]:
    """Grades of each disc, in order: for every finding the median of its classes' probabilities.

    For two classes that is the more probable one. For Pfirrmann it is the class in which the disc's severity score
    lies; out of fold it agreed better with the radiologist than the most probable class did. Probabilities hold for a
    disc drawn where all classes are equally frequent, as the network was trained: they say how the image speaks, not
    how frequent the finding is. Runs on the device of the network; after running out of memory with half as many discs
    at a time.
    """
    if not disc_volumes:
        return ()
    scores = scores_of(disc_volumes, grader)
    probabilities = {f: p.detach().double().cpu().numpy() for f, p in grader.probabilities(scores).items()}
    return tuple(
        {finding: _grade(finding, probabilities[finding][i]) for finding in LEARNED} for i in range(len(scores))
    )


@torch.inference_mode()
def scores_of(disc_volumes: Sequence[DiscVolume], grader: DiscGrader) -> Tensor:
    """(n, len(LEARNED)) scores of the network, float32, before they are softened into probabilities."""
    size = len(disc_volumes)
    while True:
        try:
            return torch.cat([_scores(disc_volumes[i : i + size], grader) for i in range(0, len(disc_volumes), size)])
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = (size + 1) // 2


def _scores(disc_volumes: Sequence[DiscVolume], grader: DiscGrader) -> Tensor:
    device = grader.feature_mean.device
    images = torch.from_numpy(np.stack([disc.voxels for disc in disc_volumes])).to(device)
    present = torch.from_numpy(np.stack([disc.slice_present for disc in disc_volumes])).to(device)
    features = torch.from_numpy(np.stack([disc.features for disc in disc_volumes])).to(device)
    # On a processor the whole batch takes a twentieth of a second: there the exact arithmetic is worth more.
    with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        scores: Tensor = grader(images, present, features)
    return scores.float()


def _grade(finding: Finding, probabilities: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Grade:
    classes = CLASSES[finding]
    shares = probabilities / probabilities.sum()
    return Grade(
        value=classes[int(np.searchsorted(shares.cumsum(), 0.5))],
        probabilities={value: float(share) for value, share in zip(classes, shares, strict=True)},
        basis=Basis.LEARNED,
    )
