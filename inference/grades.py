"""Findings of a disc and their grades. Knows nothing of levels, images or networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Finding(StrEnum):
    """SpineNet's eight gradings (Jamaludin 2017), and the further ones that SPIDER's labels teach."""

    PFIRRMANN = "pfirrmann"
    DISC_NARROWING = "disc_narrowing"
    UPPER_ENDPLATE_DEFECT = "upper_endplate_defect"
    LOWER_ENDPLATE_DEFECT = "lower_endplate_defect"
    UPPER_MARROW_CHANGE = "upper_marrow_change"
    LOWER_MARROW_CHANGE = "lower_marrow_change"
    SPONDYLOLISTHESIS = "spondylolisthesis"
    CENTRAL_CANAL_STENOSIS = "central_canal_stenosis"
    DISC_HERNIATION = "disc_herniation"
    DISC_BULGING = "disc_bulging"


SPINENET_EIGHT: tuple[Finding, ...] = tuple(Finding)[:8]

CLASSES: Mapping[Finding, tuple[int, ...]] = {
    finding: (1, 2, 3, 4, 5) if finding is Finding.PFIRRMANN else (0, 1) for finding in Finding
}
"""The values that a grade may take, mildest first. Narrowing is yes/no, as SPIDER labels it."""

FIRST_ABNORMAL: Mapping[Finding, int] = {finding: 3 if finding is Finding.PFIRRMANN else 1 for finding in Finding}
"""From this value on a grade is shown as abnormal. Pfirrmann 3 is where disc structure becomes inhomogeneous."""

TITLES: Mapping[Finding, str] = {
    Finding.PFIRRMANN: "Pfirrmann grade",
    Finding.DISC_NARROWING: "Disc narrowing",
    Finding.UPPER_ENDPLATE_DEFECT: "Upper endplate defect",
    Finding.LOWER_ENDPLATE_DEFECT: "Lower endplate defect",
    Finding.UPPER_MARROW_CHANGE: "Upper marrow change",
    Finding.LOWER_MARROW_CHANGE: "Lower marrow change",
    Finding.SPONDYLOLISTHESIS: "Spondylolisthesis",
    Finding.CENTRAL_CANAL_STENOSIS: "Central canal stenosis",
    Finding.DISC_HERNIATION: "Disc herniation",
    Finding.DISC_BULGING: "Disc bulging",
}


class Basis(StrEnum):
    """How a grade came about."""

    LEARNED = "learned"
    """By a network trained on a radiologist's labels."""
    MEASURED = "measured"
    """By a published criterion applied to a measurement; no label was there to learn from."""


class Doubt(StrEnum):
    """Why a learned grade is uncertain."""

    UNSURE = "unsure"
    """What was said has a low probability."""
    AT_ODDS = "at_odds"
    """The network, which sees the image, and the measured numbers say different things, both firmly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """One grading of one disc."""

    value: int
    probabilities: Mapping[int, float]
    """Class -> probability, summing to 1. Empty where the grade is measured."""
    basis: Basis
    criterion: str = ""
    """For a measured grade: the criterion and its source, in one line."""
    doubt: Doubt | None = None
    """Why this grade is uncertain; None where it is not."""


Grades = Mapping[Finding, Grade]


def is_abnormal(finding: Finding, grade: Grade) -> bool:
    """Whether this grade is one that a reader should look at."""
    return grade.value >= FIRST_ABNORMAL[finding]
