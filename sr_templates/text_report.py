"""The report in words: as plain text, and as a Basic Text SR for viewers that show text only (TID 2000)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import BasicTextSRStorage

from inference.grades import TITLES, Basis, Finding, Grade, is_abnormal
from inference.report import Declined, DiscGrading, ModelIdentity, RejectedSeries, Report
from sr_templates import codes, provenance, source_study
from sr_templates.measurement_report import add_document_attributes, device_observer, disc_source
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.source_study import SourceInstance, SourceStudy
from sr_templates.view import is_level_doubtful

SERIES_DESCRIPTION = {
    OutputKind.TEXT_REPORT: "Lumbar disc grading text - RESEARCH USE ONLY",
    OutputKind.DECLINED_REPORT: "Lumbar disc grading: NOT GRADED - RESEARCH USE ONLY",
}
NOT_VERIFIED = "Made by a program; not verified by a person."

_CONTAINS = sr.RelationshipTypeValues.CONTAINS


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One heading of the report with its paragraphs."""

    heading: str
    code: Code
    paragraph_code: Code
    paragraphs: tuple[str, ...]
    discs: tuple[DiscGrading, ...] = ()
    """The disc that each paragraph tells of, where the section goes disc by disc."""


def plain_text(report: Report) -> str:
    """The report for a terminal or a text file, wrapped at 100 columns."""
    return _as_text(sections(report))


def plain_text_declined(declined: Declined) -> str:
    """Why a study was not graded, for a terminal or a text file."""
    return _as_text(sections_declined(declined))


def sections(report: Report) -> tuple[Section, ...]:
    """What is said of a graded study, in reading order."""
    return (
        _section("Lumbar disc grading", (f"{provenance.RESEARCH_USE_ONLY}. {NOT_VERIFIED}", _graded_series(report))),
        Section(
            heading="Impression",
            code=codes.IMPRESSIONS,
            paragraph_code=codes.IMPRESSION,
            paragraphs=_impression(report.discs),
        ),
        _section("Reasons to doubt", tuple(dict.fromkeys((*report.quality, *report.spine.doubts))) or ("None noted.",)),
        Section(
            heading="Findings",
            code=codes.FINDINGS,
            paragraph_code=codes.FINDING,
            paragraphs=tuple(disc_sentences(disc) for disc in report.discs),
            discs=report.discs,
        ),
        _section("How to read this", _reading_notes(report.discs)),
        _section("Series not used", _rejected(report.rejected)),
        _section("Made by", (_made_by(report.model),)),
    )


def sections_declined(declined: Declined) -> tuple[Section, ...]:
    """What is said of a study that was not graded."""
    return (
        _section(
            "Lumbar disc grading",
            (f"{provenance.RESEARCH_USE_ONLY}. {NOT_VERIFIED}", f"Not graded: {declined.reason}"),
        ),
        _section("Series not used", _rejected(declined.rejected)),
        _section("Made by", (_made_by(declined.model),)),
    )


def disc_sentences(disc: DiscGrading) -> str:
    """Everything that is said of one disc, a line each: its grade, what is abnormal, what is not, what is not known."""
    pfirrmann = disc.grades.get(Finding.PFIRRMANN)
    parts = [] if pfirrmann is None else [_pfirrmann_words(pfirrmann)]
    others = {finding: grade for finding, grade in disc.grades.items() if finding is not Finding.PFIRRMANN}
    for heading, is_wanted in (("Abnormal", True), ("Absent", False)):
        named = [f"{_lower(TITLES[f])}{_sureness(g)}" for f, g in others.items() if is_abnormal(f, g) is is_wanted]
        if named:
            parts.append(f"{heading}: {', '.join(named)}.")
    absent = [_lower(TITLES[finding]) for finding in Finding if finding not in disc.grades]
    if absent:
        parts.append(f"Not assessed: {', '.join(absent)}.")
    if disc.measurements:
        parts.append(f"Measured: {', '.join(_measurement_words(*entry) for entry in disc.measurements.items())}.")
    parts.append(f"Certainty of the level: {_percent(disc.level_confidence)}.")
    return f"{_level(disc)}: " + "\n".join(parts)


def _level(disc: DiscGrading) -> str:
    return f"{disc.level.value} (level uncertain)" if is_level_doubtful(disc) else disc.level.value


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _pfirrmann_words(grade: Grade) -> str:
    mark = ", abnormal" if is_abnormal(Finding.PFIRRMANN, grade) else ""
    return f"{TITLES[Finding.PFIRRMANN]} {grade.value}{_sureness(grade)}{mark}."


def _sureness(grade: Grade) -> str:
    """What stands behind a grading: its probability, or that it was measured."""
    if grade.basis is Basis.MEASURED:
        return " (measured)"
    chance = grade.probabilities.get(grade.value)
    return "" if chance is None else f" ({_percent(chance)})"


def _section(heading: str, paragraphs: tuple[str, ...]) -> Section:
    return Section(heading=heading, code=codes.HEADING[heading], paragraph_code=codes.COMMENT, paragraphs=paragraphs)


def _graded_series(report: Report) -> str:
    count = report.volume.voxels.shape[0]
    name = report.volume.series_description or "without a description"
    return f"Graded: series {name} ({count} sagittal {'slice' if count == 1 else 'slices'})."


def _measurement_words(name: str, value: float) -> str:
    quantity = codes.quantity(name)
    unit = {"mm": " mm", "%": "%"}.get(quantity.unit.value, "")
    return f"{_lower(quantity.title)} {value:.{quantity.decimals}f}{unit}"


def _impression(discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    lines = []
    for disc in discs:
        abnormal = [
            f"{TITLES[finding]} {grade.value}" if finding is Finding.PFIRRMANN else _lower(TITLES[finding])
            for finding, grade in disc.grades.items()
            if is_abnormal(finding, grade)
        ]
        if abnormal:
            lines.append(f"{_level(disc)}: {', '.join(abnormal)}.")
    return tuple(lines) or ("No abnormal grading at the discs that were assessed.",)


def _reading_notes(discs: Sequence[DiscGrading]) -> tuple[str, ...]:
    criteria = {
        f"{TITLES[finding]} is measured, not learned: {grade.criterion}."
        for disc in discs
        for finding, grade in disc.grades.items()
        if grade.basis is Basis.MEASURED and grade.criterion
    }
    return (
        "Percentages are the network's probability of the stated grading. Abnormal: Pfirrmann grade 3 or more, or a "
        "finding that is present.",
        *sorted(criteria),
    )


def _rejected(rejected: Sequence[RejectedSeries]) -> tuple[str, ...]:
    lines = tuple(f"{series.reason.rstrip('.')} (series {series.series_instance_uid})." for series in rejected)
    return lines or ("None.",)


def _made_by(model: ModelIdentity) -> str:
    return f"{model.name} {model.version}, weights sha256 {model.sha256}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _as_text(parts: Sequence[Section]) -> str:
    blocks = []
    for part in parts:
        wrapped = [line for paragraph in part.paragraphs for line in _lines(paragraph, indent="  ")]
        blocks.append("\n".join((part.heading.upper(), *wrapped)))
    return "\n\n".join(blocks) + "\n"


def _lines(paragraph: str, indent: str) -> list[str]:
    """Lines of at most 100 columns; all but a paragraph's first are indented."""
    first, *others = paragraph.split("\n")
    lines = textwrap.wrap(first, width=100, subsequent_indent=indent)
    for sentence in others:
        lines += textwrap.wrap(sentence, width=100, initial_indent=indent, subsequent_indent=2 * indent)
    return lines


def text_report(report: Report, source: SourceStudy, run: Run) -> Rendered:
    """The words of ``plain_text`` as a Basic Text SR; each disc's paragraph refers to its mid-slice."""
    parts = list(sections(report))
    if source.dropped:
        note = f"Malformed source header values that were not copied: {', '.join(source.dropped)}."
        parts.insert(-1, _section("Source header", (note,)))
    used = [disc_source(report, disc, source) for disc in report.discs]
    frames = {disc.level: report.volume.sources[disc.slice_index].frame for disc in report.discs}

    def references(disc: DiscGrading) -> sr.ImageContentItem:
        instance = disc_source(report, disc, source)
        return _image(instance, frames[disc.level] if instance.is_multiframe else None)

    root = _root(report.model, source, run)
    for part in parts:
        container = _container(part, source)
        for item, disc in zip(container.ContentSequence, part.discs, strict=False):
            item.ContentSequence = sr.ContentSequence([references(disc)])
        root.ContentSequence.append(container)
    dataset = _dataset(root, OutputKind.TEXT_REPORT, report.model, source, run)
    if used:
        dataset.CurrentRequestedProcedureEvidenceSequence = source_study.referenced_evidence(
            used, report.study_instance_uid
        )
    return Rendered(kind=OutputKind.TEXT_REPORT, title="Text report", dataset=dataset)


def declined_report(declined: Declined, source: SourceStudy, run: Run) -> Rendered:
    """A Basic Text SR that says that the study was not graded, and why."""
    root = _root(declined.model, source, run)
    for part in sections_declined(declined):
        root.ContentSequence.append(_container(part, source))
    dataset = _dataset(root, OutputKind.DECLINED_REPORT, declined.model, source, run)
    return Rendered(kind=OutputKind.DECLINED_REPORT, title="Not graded", dataset=dataset)


def _root(model: ModelIdentity, source: SourceStudy, run: Run) -> sr.ContainerContentItem:
    """TID 2000 with language (TID 1204) and observer (TID 1002)."""
    root = sr.ContainerContentItem(codes.DIAGNOSTIC_REPORT, is_content_continuous=False, template_id="2000")
    root.ContentSequence = sr.ContentSequence(
        [
            *sr.LanguageOfContentItemAndDescendants(codes.ENGLISH),
            *sr.ObserverContext(
                observer_type=codes.DEVICE, observer_identifying_attributes=device_observer(model, source, run)
            ),
        ]
    )
    return root


def _container(part: Section, source: SourceStudy) -> sr.ContainerContentItem:
    container = sr.ContainerContentItem(part.code, is_content_continuous=False, relationship_type=_CONTAINS)
    container.ContentSequence = sr.ContentSequence(
        [
            # lines are broken here because viewers (OHIF 3) show findings without breaking them
            sr.TextContentItem(
                part.paragraph_code,
                source_study.writable("\r\n".join(_lines(paragraph, indent="")), source.attributes),
                relationship_type=_CONTAINS,
            )
            for paragraph in part.paragraphs
        ]
    )
    return container


def _image(instance: SourceInstance, frame: int | None) -> sr.ImageContentItem:
    return sr.ImageContentItem(
        codes.SOURCE,
        instance.sop_class_uid,
        instance.sop_instance_uid,
        referenced_frame_numbers=None if frame is None else [frame],
        relationship_type=sr.RelationshipTypeValues.INFERRED_FROM,
    )


def _dataset(
    root: sr.ContainerContentItem, kind: OutputKind, model: ModelIdentity, source: SourceStudy, run: Run
) -> Dataset:
    dataset = provenance.envelope(
        kind=kind,
        index=1,
        sop_class_uid=BasicTextSRStorage,
        description=SERIES_DESCRIPTION[kind],
        source=source,
        model=model,
        run=run,
    )
    for element in root:
        dataset.add(element)
    add_document_attributes(dataset, run, missing="")
    return dataset
