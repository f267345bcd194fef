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

STEPPED: Mapping[Finding, tuple[int, ...]] = {Finding.PFIRRMANN: (1, 2, 3, 4, 5), Finding.DISC_NARROWING: (1, 2, 3, 4)}
"""Findings with more than yes and no. Narrowing: none, mild, moderate, severe, as SpineNet counts."""

CLASSES: Mapping[Finding, tuple[int, ...]] = {finding: STEPPED.get(finding, (0, 1)) for finding in Finding}
"""The values that a grade may take, mildest first."""

TAUGHT: Mapping[Finding, tuple[int, ...]] = {**CLASSES, Finding.DISC_NARROWING: (1, 2)}
"""The values that labels teach. Of narrowing they say yes or no: 2 stands for all its steps until they are measured."""

FIRST_ABNORMAL: Mapping[Finding, int] = {
    finding: {Finding.PFIRRMANN: 3, Finding.DISC_NARROWING: 2}.get(finding, 1) for finding in Finding
}
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
    """By a published criterion applied to a measurement; no label was there to learn from, or (narrowing) none beyond
    yes and no: then ``criterion`` says which part was learned."""


class Doubt(StrEnum):
    """Why a grade is uncertain. Readers are told "uncertain" in either case."""

    UNSURE = "unsure"
    """What was said has a low probability, or the two numbers of a measured grade speak against each other."""
    AT_ODDS = "at_odds"
    """The network, which sees the image, and the measured numbers say different things, both firmly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """One grading of one disc."""

    value: int
    probabilities: Mapping[int, float]
    """Class -> probability, summing to 1. Empty where nothing of the grade was learned."""
    basis: Basis
    criterion: str = ""
    """For a measured grade: the criterion and its source, in one line."""
    doubt: Doubt | None = None
    """Why this grade is uncertain; None where it is not."""


Grades = Mapping[Finding, Grade]


def is_abnormal(finding: Finding, grade: Grade) -> bool:
    """Whether this grade is one that a reader should look at."""
    return grade.value >= FIRST_ABNORMAL[finding]
