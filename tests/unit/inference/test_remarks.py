"""What the reader is told, and that a withheld level is in none of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inference import remarks
from inference.anatomy import DiscLevel, Vertebra
from inference.grades import Doubt, Finding, Grade
from inference.measurements import LeftOut
from inference.report import DiscGrading, Report
from tests.report_factories import LEVELS, binary, graded_study, pfirrmann

REPORT = graded_study().report


def discs(*confidences: float) -> tuple[DiscGrading, ...]:
    return tuple(replace(disc, level_confidence=c) for disc, c in zip(REPORT.discs, confidences, strict=False))


def test_levels_that_are_sure_enough_are_told() -> None:
    given = discs(0.5, 0.9)
    assert remarks.with_levels_withheld(given, 0.5) == given
    assert [disc.name for disc in given] == [LEVELS[0].value, LEVELS[1].value]


def test_levels_that_are_not_are_numbered_from_below() -> None:
    told = remarks.with_levels_withheld(discs(0.3, 0.3, 0.3), 0.5)
    assert [disc.name for disc in told] == ["disc 3", "disc 2", "disc 1"]


def test_above_a_gap_only_the_upper_levels_lose_their_names() -> None:
    told = remarks.with_levels_withheld(discs(0.4, 0.4, 0.9, 0.9), 0.5)
    assert [disc.name for disc in told] == ["disc 4", "disc 3", LEVELS[2].value, LEVELS[3].value]


@pytest.mark.parametrize(("below", "count"), [(0.0, 0), (1.0, 6)])
def test_the_ends_of_the_setting(below: float, count: int) -> None:
    told = remarks.with_levels_withheld(REPORT.discs, below)
    assert sum(disc.withheld_place is not None for disc in told) == count


def test_doubtful_levels_are_named_and_withheld_ones_are_not() -> None:
    (doubtful,) = remarks.of_levels(discs(0.4, 0.9))
    assert LEVELS[0].value in doubtful
    assert LEVELS[1].value not in doubtful
    (withheld,) = remarks.of_levels(remarks.with_levels_withheld(discs(0.4, 0.4), 0.5))
    assert "Level names are withheld" in withheld
    assert not any(level.value in withheld for level in DiscLevel)
    assert remarks.of_levels(discs(0.9, 0.9)) == ()


def test_what_is_missing_is_told_by_the_name_that_the_reader_knows() -> None:
    bare = [replace(disc, grades={}) for disc in discs(0.3, 0.9)]
    sentences = remarks.of_missing_grades(remarks.with_levels_withheld(bare, 0.5))
    assert sentences[0] == f"Pfirrmann grade was not assessed at disc 2, {LEVELS[1].value}."
    assert len(sentences) == 8


def test_values_that_were_left_out_are_told_without_their_numbers() -> None:
    values = [
        LeftOut(level=LEVELS[0], name="slip_mm", value=90.0),
        LeftOut(level=LEVELS[0], name="slip_percent", value=250.0),
        LeftOut(level=None, name="lumbar_lordosis_deg", value=170.0),
    ]
    assert remarks.of_left_out(values, REPORT.discs) == (
        f"Left out at {LEVELS[0].value}, being outside what patients have: slip.",
        "Left out at the whole spine, being outside what patients have: lumbar lordosis.",
    )


def test_bodies_about_a_withheld_disc_lose_their_names_too() -> None:
    withheld = with_withheld(REPORT, 1.0).withheld
    assert withheld[DiscLevel.L5_S1] == "disc 1"
    assert withheld[Vertebra.S1] == "body below disc 1"
    assert withheld[Vertebra.L5] == "body above disc 1"
    assert withheld[Vertebra.L4] == "body above disc 2"


def test_a_body_beside_a_disc_that_is_named_keeps_its_name() -> None:
    report = replace(REPORT, discs=remarks.with_levels_withheld(discs(0.4, 0.4, 0.9, 0.9), 0.5))
    named = report.discs[2].level
    assert named.upper_vertebra not in report.withheld
    assert report.discs[1].level.upper_vertebra in report.withheld


def with_withheld(report: Report, below: float) -> Report:
    return replace(report, discs=remarks.with_levels_withheld(report.discs, below))


def test_findings_of_the_factory_are_complete() -> None:
    assert Finding.PFIRRMANN in REPORT.discs[0].grades


def graded(finding: Finding, grade: Grade, **measurements: float) -> DiscGrading:
    return replace(REPORT.discs[4], grades={finding: grade}, measurements=measurements)


@pytest.mark.parametrize(
    ("value", "sure", "slip_mm", "told"),
    [
        (0, 0.95, 6.0, "without spondylolisthesis, but the upper vertebra lies 6.0 mm in front of the lower."),
        (0, 0.63, -7.9, "without spondylolisthesis, but the upper vertebra lies 7.9 mm behind the lower."),
        (0, 0.95, 4.0, ""),
        (0, 0.95, -4.0, ""),
        (1, 0.9, 0.4, "as spondylolisthesis, but a slip of only 0.4 mm"),
        (1, 0.7, 0.4, ""),
        (1, 0.9, 3.0, ""),
        (1, 0.9, -3.0, ""),
        (1, 0.9, -7.0, ""),
    ],
)
def test_a_slip_that_contradicts_its_grade(value: int, sure: float, slip_mm: float, told: str) -> None:
    disc = graded(Finding.SPONDYLOLISTHESIS, binary(value, sure), slip_mm=slip_mm)
    said = " ".join(remarks.of_contradictions([disc]))
    assert told in said
    assert bool(said) is bool(told)
    assert not told or said.startswith(disc.level.value)


@pytest.mark.parametrize(("value", "ratio", "told"), [(2, 0.1, "dark"), (2, 0.2, ""), (5, 0.6, "bright"), (4, 0.3, "")])
def test_a_signal_that_contradicts_the_pfirrmann_grade(value: int, ratio: float, told: str) -> None:
    disc = graded(Finding.PFIRRMANN, pfirrmann(value), disc_to_csf_signal_ratio=ratio)
    said = " ".join(remarks.of_contradictions([disc]))
    assert told in said
    assert bool(said) is bool(told)


def test_a_contradiction_at_a_withheld_level_names_its_place() -> None:
    disc = replace(graded(Finding.PFIRRMANN, pfirrmann(5), disc_to_csf_signal_ratio=0.9), withheld_place=2)
    assert remarks.of_contradictions([disc])[0].startswith("disc 2: ")


@pytest.mark.parametrize(("ratio", "told"), [(0.4, False), (1.1, False), (1.7, True)])
def test_fluid_that_is_darker_than_bone(ratio: float, told: bool) -> None:
    disc = replace(REPORT.discs[0], measurements={"upper_vertebra_to_csf_signal_ratio": ratio})
    assert bool(remarks.of_contrast([disc])) is told


def test_nothing_is_said_of_the_contrast_without_a_canal() -> None:
    assert remarks.of_contrast([replace(REPORT.discs[0], measurements={})]) == ()


def test_grades_that_image_and_measurements_disagree_about_are_told_by_finding() -> None:
    bulging = replace(REPORT.discs[0].grades[Finding.DISC_BULGING], doubt=Doubt.AT_ODDS)
    given = [replace(disc, grades={**disc.grades, Finding.DISC_BULGING: bulging}) for disc in REPORT.discs[:2]]
    assert remarks.of_grades_at_odds(given) == (
        f"Disc bulging is uncertain at {LEVELS[0].value}, {LEVELS[1].value}: image and measurements disagree.",
    )
    assert remarks.of_grades_at_odds(REPORT.discs) == ()
