"""Three phantom studies, painted once: what the layouts of labelled archives are written from."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydicom.dataset import Dataset

from inference import phantom
from inference.phantom import DiscTruth

SEEDS = range(3)


@dataclass(frozen=True, kw_only=True, slots=True)
class GradedStudy:
    """A phantom's sagittal T2 and T1 images, and what was built into its discs."""

    t2: tuple[Dataset, ...]
    t1: tuple[Dataset, ...]
    truth: tuple[DiscTruth, ...]


@pytest.fixture(scope="session")
def studies() -> tuple[GradedStudy, ...]:
    found = []
    for seed in SEEDS:
        images = phantom.lumbar_study(seed=seed)
        t2, t1 = (tuple(image for image in images if image.SeriesNumber == number) for number in (2, 3))
        found.append(GradedStudy(t2=t2, t1=t1, truth=phantom.truth(seed=seed).discs))
    return tuple(found)
