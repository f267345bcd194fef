"""The summary page as an Encapsulated PDF (PS3.3 A.45.1), for archives that show documents and no captures."""

from __future__ import annotations

from io import BytesIO

from PIL import Image
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from inference.report import Report
from sr_templates import codes, provenance, source_study
from sr_templates.measurement_report import disc_source
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.source_study import SourceStudy
from sr_templates.summary_page import draw_summary

SERIES_DESCRIPTION = "Lumbar disc grading PDF - RESEARCH USE ONLY"
DOTS_PER_INCH = 100.0
"""The page of 1024 x 768 pixels is then about as large as a sheet of A4 across."""


def encapsulated_pdf(report: Report, source: SourceStudy, run: Run) -> Rendered:
    """One page; it names no patient, the object's header does."""
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
    envelope.BurnedInAnnotation = envelope.RecognizableVisualFeatures = "NO"
    envelope.SourceInstanceSequence = _source_instances(report, source)
    envelope.DocumentTitle = "Lumbar disc grading: summary"
    envelope.ConceptNameCodeSequence = [provenance.code_item(codes.SUMMARY_DOCUMENT)]
    envelope.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document = pdf_of(report, run)
    envelope.EncapsulatedDocumentLength = len(document)
    envelope.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return Rendered(kind=OutputKind.ENCAPSULATED_PDF, title="Summary as PDF", dataset=envelope)


def pdf_of(report: Report, run: Run) -> bytes:
    """The summary page as a PDF; the same report gives the same bytes."""
    stream = BytesIO()
    Image.fromarray(draw_summary(report)).save(
        stream,
        format="PDF",
        resolution=DOTS_PER_INCH,
        quality=92,
        title="Lumbar disc grading: summary. Research use only.",
        producer="spinenode",
        creationDate=run.created_at.timetuple(),
        modDate=run.created_at.timetuple(),
    )
    return stream.getvalue()


def _source_instances(report: Report, source: SourceStudy) -> list[Dataset]:
    used = {instance.sop_instance_uid: instance for instance in (disc_source(report, d, source) for d in report.discs)}
    return [source_study.sop_reference(instance) for instance in used.values()]
