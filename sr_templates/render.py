"""The door of sr_templates: a Report in, DICOM objects (or words, or pictures) out. Pure: no clock, no disk."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from PIL import Image
from pydicom import Dataset

from inference.report import Declined, Report
from sr_templates import secondary_capture, source_study, text_report
from sr_templates.measurement_report import measurement_report
from sr_templates.provenance import OutputKind, Rendered, Run

__all__ = ["OutputKind", "Rendered", "Run", "captures_png", "render", "render_declined", "text", "text_declined"]


def render(report: Report, source: Sequence[Dataset], run: Run) -> tuple[Rendered, ...]:
    """All objects of one graded study: measurement report, text report, then the captures in viewing order.

    Args:
        report: what grading the study gave.
        source: headers of the study's instances, at least those that ``report.volume.sources`` names; pixel data
            is not read and nothing is changed. The first one gives the patient and study attributes.
        run: of which study generation, when and where the report was made.

    The same arguments give byte-identical objects. Raises ValueError where ``source`` lacks the report's images, or
    the report has no disc: such a study is declined, not graded.
    """
    if not report.discs:
        raise ValueError("a report without discs cannot be rendered: decline the study")
    graded = {slice_source.sop_instance_uid for slice_source in report.volume.sources}
    study = source_study.read_source(source, report.study_instance_uid, graded)
    return (
        measurement_report(report, study, run),
        text_report.text_report(report, study, run),
        *secondary_capture.captures(report, study, run),
    )


def render_declined(declined: Declined, source: Sequence[Dataset], run: Run) -> tuple[Rendered, ...]:
    """A text report that says that the study was not graded, and why."""
    study = source_study.read_source(source, declined.study_instance_uid)
    return (text_report.declined_report(declined, study, run),)


def text(report: Report) -> str:
    """The report in plain words, as the Basic Text SR says them."""
    return text_report.plain_text(report)


def text_declined(declined: Declined) -> str:
    """Why a study was not graded, in plain words."""
    return text_report.plain_text_declined(declined)


def captures_png(report: Report) -> tuple[tuple[str, bytes], ...]:
    """(name, PNG) of each capture in viewing order; names count and hold no patient text."""
    images = []
    for index, page in enumerate(secondary_capture.pages(report), start=1):
        stream = BytesIO()
        Image.fromarray(page.pixels).save(stream, format="PNG")
        images.append((f"{index:02d}-{page.name}", stream.getvalue()))
    return tuple(images)
