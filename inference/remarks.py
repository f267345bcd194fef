"""Sentences for the reader about a graded study: which levels to doubt, what is missing, what does not fit together.

A level that is withheld appears in none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from inference.anatomy import DiscLevel
from inference.grades import SPINENET_EIGHT, TITLES, Doubt, Finding, is_abnormal
from inference.measurements import LeftOut
from inference.report import DiscGrading

DOUBTFUL_LEVEL = 0.5
"""Below this confidence a level is named only with a warning: a wrong level that looks right is the worst result."""

BONE_AS_BRIGHT_AS_FLUID = 1.2
"""Median of bone's signal over the fluid's: at most 1.1 on SPIDER's 172 T2 images, more on four in five T1."""
SURE_GRADE = 0.8
CLEAR_SLIP_MM, NO_SLIP_MM = 5.0, 1.0
"""On SPIDER's T2 images fewer than 1 % of the discs without a labelled slip measure more than 5 mm, forward or
backward; SPIDER's label is one yes or no and names no direction."""
DARK_DISC, BRIGHT_DISC = 0.14, 0.5
"""Disc's signal over the fluid's: about 1 % of the discs labelled Pfirrmann 2 are darker, and of 4 are brighter."""


def with_levels_withheld(discs: Sequence[DiscGrading], below: float) -> tuple[DiscGrading, ...]:
    """The discs, head to foot; those whose level confidence is below ``below`` (0-1) numbered from below."""
    count = len(discs)
    return tuple(
        replace(disc, withheld_place=count - index) if disc.level_confidence < below else disc
        for index, disc in enumerate(discs)
    )


def of_levels(discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    """Which levels are withheld, and which are told but doubtful."""
    withheld = [disc for disc in discs if disc.withheld_place is not None]
    doubtful = [disc for disc in discs if disc.withheld_place is None and disc.level_confidence < DOUBTFUL_LEVEL]
    sentences = []
    if withheld:
        which = "Level names are" if len(withheld) == len(discs) else f"{len(withheld)} level names are"
        sentences.append(
            f"{which} withheld, since they would be guesses: discs without a name are numbered from below, "
            "disc 1 being the lowest one graded. Count the levels."
        )
    if doubtful:
        sentences.append(f"Level names are uncertain ({_names(doubtful)}): count the levels before using these grades.")
    return tuple(sentences)


def of_missing_grades(discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    """One sentence for each of the eight gradings that some disc lacks."""
    sentences = []
    for finding in SPINENET_EIGHT:
        missing = [disc for disc in discs if finding not in disc.grades]
        if missing:
            sentences.append(f"{TITLES[finding]} was not assessed at {_names(missing)}.")
    return tuple(sentences)


def of_grades_at_odds(discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    """One sentence for each finding about which image and measurements say different things somewhere."""
    sentences = []
    for finding, title in TITLES.items():
        doubted = [d for d in discs if finding in d.grades and d.grades[finding].doubt is Doubt.AT_ODDS]
        if doubted:
            sentences.append(f"{title} is uncertain at {_names(doubted)}: image and measurements disagree.")
    return tuple(sentences)


def of_uncertain_grades(discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    """How many grades are told as uncertain; each of them is marked where it stands."""
    count = sum(grade.doubt is not None for disc in discs for grade in disc.grades.values())
    if not count:
        return ()
    return (f"{count} of {sum(len(disc.grades) for disc in discs)} gradings are uncertain: each is marked.",)


def marrow_changes(disc: DiscGrading) -> tuple[Finding, ...]:
    """The sides on which the disc has a marrow change."""
    sides = Finding.UPPER_MARROW_CHANGE, Finding.LOWER_MARROW_CHANGE
    return tuple(side for side in sides if side in disc.grades and is_abnormal(side, disc.grades[side]))


def of_unclear_modic_types(discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    """Where a marrow change is seen that T1 and T2 show as none of Modic's types."""
    unclear = [disc for disc in discs if set(marrow_changes(disc)) - set(disc.modic_types)]
    return (f"The Modic type of a marrow change is not clear at {_names(unclear)}.",) if unclear else ()


def of_left_out(left_out: Sequence[LeftOut], discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    """What was measured and is not shown, one sentence for each place."""
    names = {disc.level: disc.name for disc in discs}
    by_place: dict[DiscLevel | None, list[str]] = {}
    for value in left_out:
        by_place.setdefault(value.level, []).append(in_words(value.name))
    return tuple(
        f"Left out at {'the whole spine' if level is None else names[level]}, "
        f"being outside what patients have: {', '.join(dict.fromkeys(values))}."
        for level, values in by_place.items()
    )


def in_words(name: str) -> str:
    """A measurement's name without its unit, e.g. "disc height anterior"."""
    for unit in ("_mm", "_deg", "_percent"):
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def _names(discs: Sequence[DiscGrading]) -> str:
    return ", ".join(disc.name for disc in discs)


def of_contrast(discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    """Whether the spinal fluid is as bright beside bone as a T2-weighted image shows it, whatever the header says."""
    ratios = [
        value
        for disc in discs
        for name, value in disc.measurements.items()
        if name.endswith("_vertebra_to_csf_signal_ratio")
    ]
    if not ratios or median(ratios) <= BONE_AS_BRIGHT_AS_FLUID:
        return ()
    return ("Spinal fluid is darker than bone: the images do not look T2-weighted, and the grades may be wrong.",)


def of_contradictions(discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    """Grades that a measurement on the same disc strongly speaks against."""
    return tuple(sentence for disc in discs for sentence in (*_against_slip(disc), *_against_signal(disc)))


def _against_slip(disc: DiscGrading) -> tuple[str, ...]:
    grade, slip_mm = disc.grades.get(Finding.SPONDYLOLISTHESIS), disc.measurements.get("slip_mm")
    if grade is None or slip_mm is None:
        return ()
    if grade.value == 0 and slip_mm > CLEAR_SLIP_MM:
        return (
            f"{disc.name}: graded without spondylolisthesis, but the upper vertebra lies {slip_mm:.1f} mm "
            "in front of the lower.",
        )
    if grade.value == 0 and slip_mm < -CLEAR_SLIP_MM:
        return (
            f"{disc.name}: graded without spondylolisthesis, but the upper vertebra lies {-slip_mm:.1f} mm "
            "behind the lower.",
        )
    is_sure = grade.probabilities.get(grade.value, 1.0) >= SURE_GRADE
    if grade.value == 1 and is_sure and abs(slip_mm) < NO_SLIP_MM:
        return (f"{disc.name}: graded as spondylolisthesis, but a slip of only {slip_mm:.1f} mm was measured.",)
    return ()


def _against_signal(disc: DiscGrading) -> tuple[str, ...]:
    grade, ratio = disc.grades.get(Finding.PFIRRMANN), disc.measurements.get("disc_to_csf_signal_ratio")
    if grade is None or ratio is None:
        return ()
    if grade.value <= 2 and ratio < DARK_DISC:
        return (
            f"{disc.name}: Pfirrmann grade {grade.value}, but the disc is dark ({ratio:.2f} of the fluid's signal).",
        )
    if grade.value >= 4 and ratio > BRIGHT_DISC:
        return (
            f"{disc.name}: Pfirrmann grade {grade.value}, but the disc is bright ({ratio:.2f} of the fluid's signal).",
        )
    return ()
