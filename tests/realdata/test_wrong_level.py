"""A wrong name moves what is usual for the disc, and hardly its grades."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from inference import detection, discs, grading, labelling
from inference.descriptors import FEATURES, LEVEL
from inference.training import spider
from inference.volume import DiscVolume
from inference.weights import load_models

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

EVERY = 4
"""Of SPIDER's mid-sagittal T2 images one in so many."""
BRINK = 0.01
"""A Pfirrmann grade that changes was in doubt, or as near to it as this."""


def test_names_wrong_by_one_change_few_grades_and_none_that_is_sure(data_root: Path) -> None:
    models, root = load_models("cpu"), data_root / "spider"
    images = [image for image in spider.midsagittal_images(root) if image.weighting == "t2"][::EVERY]
    changed: Counter[str] = Counter()
    graded, furthest = 0, 0.0
    for image in images:
        volume = spider.read_midsagittal(root, image)
        cut = discs.cut(volume, labelling.name(detection.find(volume, models.localiser)))
        usual = grading.grade(cut, models.grader)
        for by in (1, -1):
            for own, other in zip(usual, grading.grade([named(disc, by) for disc in cut], models.grader), strict=True):
                graded += 1
                for finding, grade in own.items():
                    again = other[finding]
                    changed[finding.value] += grade.value != again.value
                    least = min(grade.probabilities[grade.value], again.probabilities[again.value])
                    unsure = grade.doubt or again.doubt or least < grading.UNSURE[finding] + BRINK
                    assert grade.value == again.value or unsure, f"{image.name}: {finding.value} {least:.4f}"
                    pairs = zip(grade.probabilities.values(), again.probabilities.values(), strict=True)
                    furthest = max(furthest, *(abs(one - two) for one, two in pairs))
    print(f"{graded} discs: " + ", ".join(f"{name} {count / graded:.1%}" for name, count in changed.items()))
    print(f"a probability moves by {furthest:.3f} at most")
    assert graded > 400
    assert changed, "a name that changes nothing was not heeded"
    assert max(changed.values()) < 0.05 * graded
    assert furthest < 0.1


def named(disc: DiscVolume, by: int) -> DiscVolume:
    """The disc as if it bore the name of the disc so many above it."""
    numbers = disc.features.copy()
    numbers[FEATURES.index(LEVEL)] = min(max(numbers[FEATURES.index(LEVEL)] + by, 1), 9)
    return replace(disc, features=numbers)
