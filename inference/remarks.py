"""Sentences for the reader about a graded study: which levels to doubt, what is missing, what does not fit together.

A level that is withheld appears in none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inference.anatomy import DiscLevel
from inference.grades import SPINENET_EIGHT, TITLES
from inference.measurements import LeftOut
from inference.report import DiscGrading

DOUBTFUL_LEVEL = 0.5
"""Below this confidence a level is named only with a warning: a wrong level that looks right is the worst result."""


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
