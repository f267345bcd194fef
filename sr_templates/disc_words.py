"""What is said of discs in words: the paragraph about each, and the impression of all."""

from __future__ import annotations

from collections.abc import Sequence

from inference.grades import Basis, Finding, Grade, is_abnormal
from inference.report import DiscGrading
from sr_templates import codes
from sr_templates.phrases import Phrases
from sr_templates.view import is_level_doubtful

MOST_IMPORTANT = (Finding.CENTRAL_CANAL_STENOSIS, Finding.DISC_HERNIATION, Finding.SPONDYLOLISTHESIS)
SEVERE_PFIRRMANN = 4
"""What a reader looks for first; then severe degeneration, then the rest."""


def disc_sentences(disc: DiscGrading, words: Phrases) -> str:
    """All that is said of one disc, as a paragraph: its grade, what there is, what there is not, what is not known."""
    grades = {finding: grade for finding, grade in disc.grades.items() if finding is not Finding.PFIRRMANN}
    modic = disc.modic_types
    present = [_finding(f, g, words, modic.get(f)) for f, g in grades.items() if is_abnormal(f, g)]
    absent = [_finding(f, g, words) for f, g in grades.items() if not is_abnormal(f, g)]
    unknown = [words.finding(finding) for finding in Finding if finding not in disc.grades]
    measured = [measurement(name, value, words) for name, value in disc.measurements.items()]
    parts = [
        _pfirrmann(disc, words),
        words.disc["present"].format(findings=words.listed(present, "and")) if present else "",
        words.disc["absent"].format(findings=words.listed(absent, "or")) if absent else "",
        words.disc["not_assessed"].format(findings=", ".join(unknown)) if unknown else "",
        words.disc["measured"].format(measurements=", ".join(measured)) if measured else "",
        words.disc["slices_used"].format(slices=", ".join(str(i + 1) for i in disc.slices_used))
        if disc.slices_used
        else "",
        words.disc["level_certainty"].format(percent=words.percent(disc.level_confidence)),
    ]
    return f"{_level(disc, words)}: " + " ".join(part for part in parts if part)


def _pfirrmann(disc: DiscGrading, words: Phrases) -> str:
    grade = disc.grades.get(Finding.PFIRRMANN)
    if grade is None:
        return ""
    sentence = "degenerated" if is_abnormal(Finding.PFIRRMANN, grade) else "not_degenerated"
    return words.disc[sentence].format(grade=grade.value, sure=_sureness(grade, words))


def _finding(finding: Finding, grade: Grade, words: Phrases, modic: Grade | None = None) -> str:
    return f"{words.graded(finding, grade.value)}{_sureness(grade, words, modic)}"


def _level(disc: DiscGrading, words: Phrases) -> str:
    if disc.withheld_place is not None:
        return words.disc["level_withheld"].format(place=disc.withheld_place)
    return words.disc["level_uncertain"].format(level=disc.name) if is_level_doubtful(disc) else disc.name


def _sureness(grade: Grade, words: Phrases, modic: Grade | None = None) -> str:
    """What stands behind a grading: its probability, what of it was measured, and whether it is uncertain."""
    chance = grade.probabilities.get(grade.value)
    told = [] if chance is None else [words.percent(chance)]
    if grade.basis is Basis.MEASURED and chance is None:
        told.append(words.disc["by_measurement"])
    elif grade.basis is Basis.MEASURED and grade.value > 1:  # none has no step
        told.append(words.disc["step_measured"])
    if modic is not None:
        told.append(words.disc["modic_type"].format(type=f"{modic.value}{'?' if modic.doubt else ''}"))
    if grade.doubt is not None:
        told.append(words.disc["uncertain"])
    return words.disc["sure"].format(percent=", ".join(told)) if told else ""


def measurement(name: str, value: float, words: Phrases) -> str:
    quantity = codes.quantity(name)
    units = {"mm": " mm", "%": words.numbers["percent"], "deg": words.numbers["degrees"]}
    unit = units.get(quantity.unit.value, "")
    title = words.measurements.get(name, quantity.title[0].lower() + quantity.title[1:])
    return f"{title} {words.number(value, quantity.decimals)}{unit}"


def impression(discs: Sequence[DiscGrading], words: Phrases) -> tuple[str, ...]:
    """A line for each disc with something abnormal: the discs, and the findings of each, by importance."""
    lines: list[tuple[int, str]] = []
    for disc in discs:
        abnormal = {
            _rank(finding, grade): _in_impression(finding, grade, words)
            for finding, grade in disc.grades.items()
            if is_abnormal(finding, grade)
        }
        if abnormal:
            findings = ", ".join(abnormal[rank] for rank in sorted(abnormal))
            line = words.disc["impression"].format(level=_level(disc, words), findings=findings)
            lines.append((min(abnormal), line))
    return tuple(line for _, line in sorted(lines, key=lambda item: item[0])) or (words.study["none_abnormal"],)


def _in_impression(finding: Finding, grade: Grade, words: Phrases) -> str:
    is_pfirrmann = finding is Finding.PFIRRMANN
    name = words.disc["pfirrmann"].format(grade=grade.value) if is_pfirrmann else words.graded(finding, grade.value)
    return name if grade.doubt is None else words.disc["uncertain_finding"].format(finding=name)


def _rank(finding: Finding, grade: Grade) -> int:
    """Place in an order by importance, 0 first."""
    if finding is Finding.PFIRRMANN and grade.value >= SEVERE_PFIRRMANN:
        return len(MOST_IMPORTANT) + 5 - grade.value
    if finding in MOST_IMPORTANT:
        return MOST_IMPORTANT.index(finding)
    return 10 + (99 if finding is Finding.PFIRRMANN else tuple(Finding).index(finding))
