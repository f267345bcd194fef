"""The door of sr_templates: a Report in, DICOM objects (or words, or pictures) out. Pure: no clock, no disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO

from PIL import Image
from pydicom import Dataset

from inference.report import Declined, Report
from sr_templates import secondary_capture, source_study, text_report
from sr_templates.encapsulated_pdf import encapsulated_pdf
from sr_templates.key_objects import key_object_selection
from sr_templates.measurement_report import measurement_reports
from sr_templates.parametric_map import parametric_maps
from sr_templates.part10 import files
from sr_templates.phrases import phrases
from sr_templates.presentation_state import presentation_state
from sr_templates.provenance import OutputKind, Predecessor, Rendered, Run
from sr_templates.rejection_note import rejection_note
from sr_templates.segmentation import segmentation
from sr_templates.wanted import CaptureForm, SrClass, Wanted

__all__ = [
    "EVERYDAY",
    "CaptureForm",
    "OutputKind",
    "Predecessor",
    "Rendered",
    "Run",
    "SrClass",
    "Wanted",
    "captures_png",
    "files",
    "render",
    "render_declined",
    "render_rejection",
    "text",
    "text_declined",
]

EVERYDAY = Wanted()


def render(report: Report, source: Sequence[Dataset], run: Run, wanted: Wanted = EVERYDAY) -> tuple[Rendered, ...]:
    """The wanted objects of one graded study: measurement report, text report, captures in viewing order, others.

    Args:
        report: what grading the study gave.
        source: headers of the study's instances, at least those that ``report.volume.sources`` names; pixel data
            is not read and nothing is changed. The first one gives the patient and study attributes.
        run: of which study generation, when and where the report was made.
        wanted: kinds of objects, and the forms of each; by default those that every archive and viewer can take.

    The same arguments give byte-identical objects. Raises ValueError where ``source`` lacks the report's images, or
    the report has no disc: such a study is declined, not graded.
    """
    if not report.discs:
        raise ValueError("a report without discs cannot be rendered: decline the study")
    graded = {slice_source.sop_instance_uid for slice_source in report.volume.sources}
    study = source_study.read_source(source, report.study_instance_uid, graded)
    makers: Mapping[OutputKind, Callable[[], Sequence[Rendered]]] = {
        OutputKind.MEASUREMENT_REPORT: lambda: measurement_reports(report, study, run, wanted.sr_classes),
        OutputKind.TEXT_REPORT: lambda: [text_report.text_report(report, study, run, wanted.language)],
        OutputKind.SECONDARY_CAPTURE: lambda: secondary_capture.captures(report, study, run, wanted),
        OutputKind.SEGMENTATION: lambda: [segmentation(report, study, run)],
        OutputKind.PARAMETRIC_MAP: lambda: parametric_maps(report, study, run),
        OutputKind.PRESENTATION_STATE: lambda: [presentation_state(report, study, run, wanted.language)],
        OutputKind.ENCAPSULATED_PDF: lambda: [encapsulated_pdf(report, study, run, wanted.language)],
        OutputKind.KEY_OBJECT_SELECTION: lambda: [key_object_selection(report, study, run)],
    }
    return tuple(item for kind, make in makers.items() if kind in wanted.kinds for item in make())


def render_declined(
    declined: Declined, source: Sequence[Dataset], run: Run, language: str = "en"
) -> tuple[Rendered, ...]:
    """A text report that says that the study was not graded, and why."""
    study = source_study.read_source(source, declined.study_instance_uid)
    return (text_report.declined_report(declined, study, run, language),)


def render_rejection(
    report: Report, source: Sequence[Dataset], run: Run, superseded: Sequence[Predecessor], index: int = 1
) -> Rendered:
    """The note that withdraws what ``report`` supersedes; ``index`` counts the notes of one run, from 1."""
    graded = {slice_source.sop_instance_uid for slice_source in report.volume.sources}
    study = source_study.read_source(source, report.study_instance_uid, graded)
    return rejection_note(report.model, study, run, superseded, index)


def text(report: Report, language: str = "en") -> str:
    """The report in plain words, as the Basic Text SR says them."""
    return text_report.plain_text(report, language)


def text_declined(declined: Declined, language: str = "en") -> str:
    """Why a study was not graded, in plain words."""
    return text_report.plain_text_declined(declined, language)


def captures_png(report: Report, language: str = "en") -> tuple[tuple[str, bytes], ...]:
    """(name, PNG) of each capture in viewing order; names count and hold no patient text."""
    images = []
    for index, page in enumerate(secondary_capture.pages(report, phrases(language)), start=1):
        stream = BytesIO()
        Image.fromarray(page.pixels).save(stream, format="PNG")
        images.append((f"{index:02d}-{page.name}", stream.getvalue()))
    return tuple(images)
