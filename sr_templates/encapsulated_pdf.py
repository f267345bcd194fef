"""The summary page as an Encapsulated PDF (PS3.3 A.45.1), for archives that show documents and no captures."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from inference.report import Report
from sr_templates import codes, provenance, source_study, standing
from sr_templates.header_values import in_one_line
from sr_templates.measurement_report import disc_source
from sr_templates.phrases import Phrases, phrases
from sr_templates.printed_page import RecordingDraw, as_pdf, can_print, printable
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.source_study import SourceStudy
from sr_templates.summary_page import blank_page, compose_summary

SERIES_DESCRIPTION = "Lumbar disc grading PDF"
LONGEST_LINE = 70
"""Characters of a name or identifier: a line of the widest ones is as wide as the page."""


def encapsulated_pdf(report: Report, source: SourceStudy, run: Run, language: str = "en") -> Rendered:
    """One page, headed by patient and study: unlike a picture it is printed and passed on without its object."""
    words = phrases(language)
    envelope = provenance.envelope(
        kind=OutputKind.ENCAPSULATED_PDF,
        index=1,
        sop_class_uid=EncapsulatedPDFStorage,
        description=SERIES_DESCRIPTION,
        source=source,
        model=report.model,
        run=run,
    )
    envelope.Modality, envelope.ConversionType = "DOC", "WSD"
    envelope.AcquisitionDateTime = ""
    envelope.BurnedInAnnotation = "YES"  # the page's header (PS3.3 C.24.2)
    envelope.RecognizableVisualFeatures = "NO"
    envelope.SourceInstanceSequence = _source_instances(report, source)
    envelope.DocumentTitle = source_study.writable(words.pages["summary"], source.attributes)
    envelope.ConceptNameCodeSequence = [provenance.code_item(codes.SUMMARY_DOCUMENT)]
    envelope.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document = pdf_of(report, source, run, words)
    envelope.EncapsulatedDocumentLength = len(document)
    envelope.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return Rendered(kind=OutputKind.ENCAPSULATED_PDF, title="Summary as PDF", dataset=envelope)


def pdf_of(report: Report, source: SourceStudy, run: Run, words: Phrases) -> bytes:
    """The summary page as a PDF, headed by whose it is; the same arguments give the same bytes."""
    page = blank_page()
    draw = RecordingDraw(page)
    compose_summary(page, draw, report, words, standing.page_line(source, run, words))
    return as_pdf(
        np.asarray(page),
        draw.written,
        header=header_lines(source.attributes, words),
        title=f"{words.pages['summary']}. {words.pages['use']}.",
        created_at=run.created_at,
    )


def header_lines(attributes: Dataset, words: Phrases) -> tuple[str, str, str]:
    """Patient and study, so that a printed page belongs to somebody: what the source does not state is said too."""
    return (
        patient_name(str(attributes.get("PatientName") or ""), words) or words.pages["patient_unnamed"],
        words.pages["patient"].format(
            identifier=_stated(attributes, "PatientID", words), born=_day(attributes, "PatientBirthDate", words)
        ),
        words.pages["study"].format(
            day=_day(attributes, "StudyDate", words), number=_stated(attributes, "AccessionNumber", words)
        ),
    )


def patient_name(value: str, words: Phrases) -> str:
    """A PN (PS3.5 6.2.1.2) as readers write it: "Family, Given Middle" of each group that the font has letters for.

    There is no font for Chinese, Japanese and Korean in any wheel: such a group is left out where another one says the
    name too, else its letters become "?", and that is said.
    """
    groups = [name for group in value.split("=") if (name := _in_reading_order(group))]
    shown = [name for name in groups if can_print(name)]
    if shown or not groups:
        return in_one_line(" = ".join(shown))[:LONGEST_LINE]
    return words.pages["unprintable"].format(name=printable(groups[0])[:LONGEST_LINE])


def _in_reading_order(group: str) -> str:
    family, _, others = in_one_line(group).partition("^")
    return ", ".join(filter(None, (family.strip(), " ".join(others.replace("^", " ").split()))))


def _stated(attributes: Dataset, keyword: str, words: Phrases) -> str:
    return in_one_line(str(attributes.get(keyword) or ""))[:LONGEST_LINE] or words.pages["not_stated"]


def _day(attributes: Dataset, keyword: str, words: Phrases) -> str:
    """A DA as ISO 8601 writes it."""
    day = _stated(attributes, keyword, words)
    return f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 and day.isdecimal() else day


def _source_instances(report: Report, source: SourceStudy) -> list[Dataset]:
    used = {instance.sop_instance_uid: instance for instance in (disc_source(report, d, source) for d in report.discs)}
    return [source_study.sop_reference(instance) for instance in used.values()]
