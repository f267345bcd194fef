"""The Secondary Capture series: a summary page, each source slice that shows a disc, the evidence (PS3.3 A.8.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from inference.report import Report
from inference.volume import FloatArray
from sr_templates import codes, overlay, provenance, source_study
from sr_templates.evidence_page import draw_evidence
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.slice_page import PICTURE_MAX, discs_on, draw_slice
from sr_templates.source_study import SourceStudy
from sr_templates.summary_page import draw_summary
from sr_templates.view import make_view

SERIES_DESCRIPTION = "Lumbar disc grading images - RESEARCH USE ONLY"
PICTURE_MAX_HEIGHT = 920


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One image of the series."""

    name: str
    """Safe as a file name; no patient text."""
    title: str
    pixels: overlay.Pixels
    slices: tuple[int, ...]
    """Indices of the slices that the page shows."""


def pages(report: Report) -> Iterable[Page]:
    """The summary, the slices that show a disc in the order of the source, then the evidence disc by disc."""
    mid_slices = tuple(sorted({disc.slice_index for disc in report.discs}))
    yield Page(name="summary", title="Summary", pixels=draw_summary(report), slices=mid_slices)
    view = make_view(report, PICTURE_MAX, PICTURE_MAX_HEIGHT)
    for index in range(report.volume.voxels.shape[0]):
        if discs_on(report, index):
            yield Page(
                name=f"slice-{index + 1:03d}",
                title=f"Slice {index + 1}",
                pixels=draw_slice(report, view, index),
                slices=(index,),
            )
    for disc in report.discs:
        for number, (pixels, slices) in enumerate(draw_evidence(report, view, disc), start=1):
            level = disc.level.value.replace("/", "-")
            yield Page(
                name=f"evidence-{level}-{number}", title=f"Evidence {disc.level.value}", pixels=pixels, slices=slices
            )


def captures(report: Report, source: SourceStudy, run: Run) -> tuple[Rendered, ...]:
    """The pages as single-frame RGB Secondary Captures of one series."""
    orientation = _orientation(report)
    rendered = []
    for index, page in enumerate(pages(report), start=1):
        dataset = provenance.envelope(
            kind=OutputKind.SECONDARY_CAPTURE,
            index=index,
            sop_class_uid=SecondaryCaptureImageStorage,
            description=SERIES_DESCRIPTION,
            source=source,
            model=report.model,
            run=run,
        )
        _describe(dataset, page)
        dataset.PatientOrientation = orientation
        dataset.SourceImageSequence = _source_images(report, source, page.slices)
        _add_pixels(dataset, page.pixels)
        rendered.append(Rendered(kind=OutputKind.SECONDARY_CAPTURE, title=page.title, dataset=dataset))
    return tuple(rendered)


def _describe(dataset: Dataset, page: Page) -> None:
    """General Series, SC Equipment, SC Image and General Image modules (PS3.3 C.7.3.1, C.8.6.1-2, C.7.6.1)."""
    dataset.Modality = "OT"
    dataset.BodyPartExamined = "LSPINE"
    dataset.ConversionType = "WSD"
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.ContentDate, dataset.ContentTime
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.ImageComments = f"{page.title}. {provenance.RESEARCH_USE_ONLY}."
    dataset.DerivationDescription = "Automatic disc grading: outlines, gradings and saliency drawn on source slices"
    dataset.BurnedInAnnotation = "NO"  # no words that tell who the patient is
    dataset.RecognizableVisualFeatures = "NO"
    dataset.LossyImageCompression = "00"


def _add_pixels(dataset: Dataset, pixels: overlay.Pixels) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    pixel_bytes = pixels.tobytes()
    dataset.add_new("PixelData", "OB", pixel_bytes + b"\0" * (len(pixel_bytes) % 2))


def _source_images(report: Report, source: SourceStudy, slices: tuple[int, ...]) -> list[Dataset]:
    items = []
    for index in slices:
        slice_source = report.volume.sources[index]
        instance = source.instances[slice_source.sop_instance_uid]
        item = source_study.sop_reference(instance)
        if instance.is_multiframe:
            item.ReferencedFrameNumber = slice_source.frame
        item.PurposeOfReferenceCodeSequence = [provenance.code_item(codes.SOURCE_OF_PROCESSING)]
        items.append(item)
    return items


def _orientation(report: Report) -> list[str]:
    """Patient Orientation (PS3.3 C.7.6.1.1.1): where the page's rows and columns lead, by their main direction."""
    affine = make_view(report, 1, 1).volume.voxel_to_patient
    return [_main_direction(affine[:3, 2]), _main_direction(affine[:3, 1])]


def _main_direction(vector: FloatArray) -> str:
    axis = int(np.argmax(np.abs(vector)))
    return ("LPH" if vector[axis] > 0 else "RAF")[axis]
