"""The content items of a measurement report: numbers, and coded answers with what backs them (TID 300, TID 4006)."""

from __future__ import annotations

from collections.abc import Iterable

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.coding import Code

from inference.grades import Basis, Finding, Grade
from inference.report import DiscGrading
from sr_templates import codes, source_study
from sr_templates.source_study import SourceStudy

_CONTAINS = sr.RelationshipTypeValues.CONTAINS
_HAS_PROPERTIES = sr.RelationshipTypeValues.HAS_PROPERTIES


def numbers(disc: DiscGrading) -> Iterable[sr.NumContentItem]:
    """The Pfirrmann grade, then the measurements at the head of the group, each with those it is made from."""
    pfirrmann = disc.grades.get(Finding.PFIRRMANN)
    if pfirrmann is not None:
        yield number(codes.FINDING_NAME[Finding.PFIRRMANN], pfirrmann.value, codes.ONE_TO_FIVE, _CONTAINS)
    for name in _listed(disc):
        quantity = codes.quantity(name)
        if quantity.property_of is None and quantity.source_of not in disc.measurements:
            item = _of_disc(disc, name, _CONTAINS)
            parts = [part for part in _listed(disc) if codes.quantity(part).source_of == name]
            attach(item, [_of_disc(disc, part, sr.RelationshipTypeValues.INFERRED_FROM) for part in parts])
            yield item


def _listed(disc: DiscGrading) -> list[str]:
    """Names of the disc's measurements in the order of ``codes.QUANTITIES``, then those it does not know."""
    known = [name for name in codes.QUANTITIES if name in disc.measurements]
    return [*known, *(name for name in disc.measurements if name not in codes.QUANTITIES)]


def _of_disc(disc: DiscGrading, name: str, relationship: sr.RelationshipTypeValues) -> sr.NumContentItem:
    return measurement(name, disc.measurements[name], relationship)


def measurement(name: str, value: float, relationship: sr.RelationshipTypeValues) -> sr.NumContentItem:
    """A measurement with its unit and the method that it was taken by (TID 300)."""
    quantity = codes.quantity(name)
    item = number(quantity.name, _rounded(value, quantity.decimals + 1), quantity.unit, relationship)
    if quantity.method is not None:
        attach(item, [_method(quantity.method)])
    return item


def _rounded(value: float, decimals: int) -> float:
    """OHIF 3 shows the number 0 as no number at all (``Vertebral slip: mm``), so what is next to 0 keeps a digit."""
    return round(float(value), decimals) or float(f"{value:.0e}")


def _method(method: Code) -> sr.CodeContentItem:
    return sr.CodeContentItem(
        codes.MEASUREMENT_METHOD, method, relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD
    )


def evaluation(finding: Finding, disc: DiscGrading, source: SourceStudy) -> sr.CodeContentItem:
    """The coded answer with what backs it: certainty, class probabilities, measurements, or the criterion."""
    grade = disc.grades.get(finding)
    answer = codes.NOT_ASSESSED if grade is None else codes.grade_value(finding, grade.value)
    item = sr.CodeContentItem(codes.FINDING_NAME[finding], answer, relationship_type=_CONTAINS)
    backing: list[sr.ContentItem] = [] if grade is None else _backing(finding, grade, source)
    if finding in disc.modic_types:
        backing.append(_modic(disc.modic_types[finding], source))
    backing.extend(
        _of_disc(disc, name, _HAS_PROPERTIES) for name in _listed(disc) if codes.quantity(name).property_of is finding
    )
    attach(item, backing)
    return item


def _backing(finding: Finding, grade: Grade, source: SourceStudy) -> list[sr.ContentItem]:
    items = _criterion(grade, source)
    items.extend(_reliability(grade))
    items.extend(_certainty(grade))
    if len(grade.probabilities) > 2:
        for value, chance in sorted(grade.probabilities.items()):
            name = codes.class_probability(finding, value)
            items.append(number(name, round(float(chance), 4), codes.ZERO_TO_ONE))
    return items


def _criterion(grade: Grade, source: SourceStudy) -> list[sr.ContentItem]:
    if grade.basis is not Basis.MEASURED:
        return []
    items: list[sr.ContentItem] = [_method(codes.PUBLISHED_CRITERION)]
    if grade.criterion:
        criterion = source_study.writable(grade.criterion, source.attributes)
        items.append(text(codes.COMMENT, criterion, _HAS_PROPERTIES))
    return items


def _reliability(grade: Grade) -> list[sr.ContentItem]:
    if grade.doubt is None:
        return []
    return [sr.CodeContentItem(codes.RELIABILITY, codes.DOUBT[grade.doubt], relationship_type=_HAS_PROPERTIES)]


def _modic(kind: Grade, source: SourceStudy) -> sr.CodeContentItem:
    item = sr.CodeContentItem(codes.MODIC_TYPE, codes.modic_type(kind.value), relationship_type=_HAS_PROPERTIES)
    attach(item, [*_criterion(kind, source), *_reliability(kind)])
    return item


def slices_used(disc: DiscGrading, count: int) -> Iterable[sr.TextContentItem]:
    """Which of the ``count`` slices of the graded series the learned gradings go by; nothing where nobody told."""
    if disc.slices_used:
        numbers_told = ", ".join(str(index + 1) for index in disc.slices_used)
        yield text(codes.SLICES_USED, f"{numbers_told} of {count}, in order of position", _CONTAINS)


def _certainty(grade: Grade) -> list[sr.NumContentItem]:
    if grade.value not in grade.probabilities:
        return []
    return [number(codes.CERTAINTY, percent(grade.probabilities[grade.value]), codes.PERCENT)]


def percent(share: float) -> float:
    """A share (0-1) in percent, with one decimal."""
    return round(100.0 * float(share), 1)


def number(
    name: Code, value: float, unit: Code, relationship: sr.RelationshipTypeValues = _HAS_PROPERTIES
) -> sr.NumContentItem:
    """A NUM item."""
    return sr.NumContentItem(name, value, unit, relationship_type=relationship)


def text(name: Code, value: str, relationship: sr.RelationshipTypeValues) -> sr.TextContentItem:
    """A TEXT item."""
    return sr.TextContentItem(name, value, relationship_type=relationship)


def attach(item: Dataset, children: Iterable[sr.ContentItem]) -> None:
    """Hang ``children`` beneath a content item; an empty Content Sequence would not be valid."""
    items = [*item.get("ContentSequence", []), *children]
    if items:
        item.ContentSequence = sr.ContentSequence(items)
