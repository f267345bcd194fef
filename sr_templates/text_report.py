"""The report in words: as plain text, and as a Basic Text SR for viewers that show text only (TID 2000)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from highdicom import sr
from pydicom.sr.coding import Code

from inference.grades import Basis
from inference.report import Declined, DiscGrading, ModelIdentity, RejectedSeries, Report
from sr_templates import codes, disc_words, source_study, standing, text_document
from sr_templates.header_values import quoted, without_controls
from sr_templates.measurement_report import disc_source
from sr_templates.phrases import Phrases, phrases
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.source_study import SourceStudy
from sr_templates.view import has_marrow_change

_CONTAINS = sr.RelationshipTypeValues.CONTAINS
_OF_ONE_PIECE = re.compile(r"(?<=\d) (?=(?:mm|ms|%|degrees|Grad)(?!\w))|(?<=[Gg]rade) (?=\d)|(?<=Grad) (?=\d)")
"""The spaces within "9.9 mm" and "grade 4"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One heading of the report with its paragraphs."""

    heading: str
    code: Code
    paragraph_code: Code
    paragraphs: tuple[str, ...]
    discs: tuple[DiscGrading, ...] = ()
    """The disc that each paragraph tells of, where the section goes disc by disc."""


def plain_text(report: Report, language: str = "en") -> str:
    """The report for a terminal or a text file, wrapped at 100 columns."""
    return _as_text(sections(report, phrases(language)))


def plain_text_declined(declined: Declined, language: str = "en") -> str:
    """Why a study was not graded, for a terminal or a text file."""
    return _as_text(sections_declined(declined, phrases(language)))


def sections(report: Report, words: Phrases, standing_line: str = "") -> tuple[Section, ...]:
    """What is said of a graded study, in reading order; ``standing_line`` tells which of its results this is."""
    return (
        _section("title", _without_blanks(words.study["use"], standing_line, _graded_series(report, words)), words),
        Section(
            heading=words.headings["impression"],
            code=_named(codes.IMPRESSIONS, "impression", words),
            paragraph_code=codes.IMPRESSION,
            paragraphs=disc_words.impression(report.discs, words),
        ),
        _section("doubt", _doubts(report, words) or (words.study["no_doubt"],), words),
        Section(
            heading=words.headings["findings"],
            code=_named(codes.FINDINGS, "findings", words),
            paragraph_code=codes.FINDING,
            paragraphs=(*(disc_words.disc_sentences(disc, words) for disc in report.discs), *_of_spine(report, words)),
            discs=report.discs,
        ),
        _section("reading", _reading_notes(report.discs, words), words),
        _section("not_used", _rejected(report.rejected, words), words),
        _section("made_by", (_made_by(report.model, words),), words),
    )


def sections_declined(declined: Declined, words: Phrases, standing_line: str = "") -> tuple[Section, ...]:
    """What is said of a study that was not graded."""
    reason = words.study["declined"].format(reason=words.sentence(declined.reason))
    return (
        _section("title", _without_blanks(words.study["use"], standing_line, reason), words),
        _section("not_used", _rejected(declined.rejected, words), words),
        _section("made_by", (_made_by(declined.model, words),), words),
    )


def _without_blanks(*paragraphs: str) -> tuple[str, ...]:
    return tuple(filter(None, paragraphs))


def _section(key: str, paragraphs: tuple[str, ...], words: Phrases) -> Section:
    return Section(
        heading=words.headings[key],
        code=_named(codes.HEADING[key], key, words),
        paragraph_code=codes.COMMENT,
        paragraphs=paragraphs,
    )


def _named(code: Code, key: str, words: Phrases) -> Code:
    """A heading's concept; of our own ones with its meaning in the report's language.

    The standard's stay in English, Findings and Impressions: validators take another meaning for another code.
    """
    if code.scheme_designator != codes.SCHEME or words.language["code"].startswith("en"):
        return code
    return Code(code.value, code.scheme_designator, words.headings[key])


def _graded_series(report: Report, words: Phrases) -> str:
    count = report.volume.voxels.shape[0]
    name = report.volume.series_description.strip()
    name = quoted(name) if name else words.study["unnamed_series"]
    return words.study["graded_one" if count == 1 else "graded"].format(series=name, slices=count)


def _doubts(report: Report, words: Phrases) -> tuple[str, ...]:
    return tuple(map(words.sentence, dict.fromkeys((*report.quality, *report.spine.doubts))))


def _of_spine(report: Report, words: Phrases) -> tuple[str, ...]:
    return tuple(
        f"{_upper(disc_words.measurement(name, value, words))}." for name, value in report.measurements.items()
    )


def _reading_notes(discs: Sequence[DiscGrading], words: Phrases) -> tuple[str, ...]:
    criteria = {
        words.study["criterion_of_part" if grade.probabilities else "criterion"].format(
            finding=_upper(words.finding(finding)), criterion=words.sentence(grade.criterion)
        )
        for disc in discs
        for finding, grade in disc.grades.items()
        if grade.basis is Basis.MEASURED and grade.criterion
    }
    criteria |= {
        words.study["modic_criterion"].format(criterion=words.sentence(kind.criterion))
        for disc in discs
        for kind in disc.modic_types.values()
    }
    notes = [words.study["percentages"], *sorted(criteria)]
    if any("slip_mm" in disc.measurements for disc in discs):
        notes.append(words.study["slip_sign"])
    if any(has_marrow_change(disc) for disc in discs):
        notes.append(words.study["marrow_side"])
    return tuple(notes)


def _upper(words: str) -> str:
    return words[0].upper() + words[1:]


def _rejected(rejected: Sequence[RejectedSeries], words: Phrases) -> tuple[str, ...]:
    lines = tuple(
        words.study["rejected"].format(reason=words.sentence(series.reason).rstrip("."), uid=series.series_instance_uid)
        for series in rejected
    )
    return lines or (words.study["none_rejected"],)


def _made_by(model: ModelIdentity, words: Phrases) -> str:
    return words.study["made_by"].format(name=model.name, version=model.version, sha256=model.sha256)


def _as_text(parts: Sequence[Section]) -> str:
    blocks = []
    for part in parts:
        wrapped = [line for paragraph in part.paragraphs for line in _lines(paragraph, indent="  ")]
        blocks.append("\n".join((part.heading.upper(), *wrapped)))
    return "\n\n".join(blocks) + "\n"


def _lines(paragraph: str, indent: str) -> list[str]:
    """Lines of at most 100 columns, all but the first indented; no number is parted from its unit."""
    joined = _OF_ONE_PIECE.sub("\N{NO-BREAK SPACE}", without_controls(paragraph))
    lines = textwrap.wrap(joined, width=100, subsequent_indent=indent) or [""]
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def text_report(report: Report, source: SourceStudy, run: Run, language: str = "en") -> Rendered:
    """The words of ``plain_text`` as a Basic Text SR; each disc's paragraph refers to its mid-slice."""
    words = phrases(language)
    parts = list(sections(report, words, standing.report_line(source, run, words)))
    parts[-1:-1] = _header_notes(source, words)
    used = [disc_source(report, disc, source) for disc in report.discs]
    frames = {disc.level: report.volume.sources[disc.slice_index].frame for disc in report.discs}

    def references(disc: DiscGrading) -> sr.ImageContentItem:
        instance = disc_source(report, disc, source)
        return text_document.source_image(instance, frames[disc.level] if instance.is_multiframe else None)

    root = text_document.empty_root(report.model, source, run, words)
    for part in parts:
        container = _container(part, source)
        for item, disc in zip(container.ContentSequence, part.discs, strict=False):
            item.ContentSequence = sr.ContentSequence([references(disc)])
        root.ContentSequence.append(container)
    dataset = text_document.finished(root, OutputKind.TEXT_REPORT, report.model, source, run)
    if used:
        dataset.CurrentRequestedProcedureEvidenceSequence = source_study.referenced_evidence(
            used, report.study_instance_uid
        )
    return Rendered(kind=OutputKind.TEXT_REPORT, title="Text report", dataset=dataset)


def _header_notes(source: SourceStudy, words: Phrases) -> list[Section]:
    """Which source attributes the results do not have as the source has them: by name, for values tell of a patient."""
    notes = [
        words.study[key].format(names=", ".join(keywords))
        for key, keywords in (("malformed", source.dropped), ("mended", source.mended))
        if keywords
    ]
    return [_section("header", tuple(notes), words)] if notes else []


def declined_report(declined: Declined, source: SourceStudy, run: Run, language: str = "en") -> Rendered:
    """A Basic Text SR that says that the study was not graded, and why."""
    words = phrases(language)
    root = text_document.empty_root(declined.model, source, run, words)
    parts = list(sections_declined(declined, words, standing.declined_line(source, run, words)))
    parts[-1:-1] = _header_notes(source, words)
    for part in parts:
        root.ContentSequence.append(_container(part, source))
    alone = replace(run, predecessors=(), number=1)  # it replaces nothing
    dataset = text_document.finished(root, OutputKind.DECLINED_REPORT, declined.model, source, alone)
    return Rendered(kind=OutputKind.DECLINED_REPORT, title="Not graded", dataset=dataset)


def _container(part: Section, source: SourceStudy) -> sr.ContainerContentItem:
    name = Code(
        part.code.value, part.code.scheme_designator, source_study.writable(part.code.meaning, source.attributes)
    )
    container = sr.ContainerContentItem(name, is_content_continuous=False, relationship_type=_CONTAINS)
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
