"""The Secondary Capture series: a summary page, each source slice that shows a disc, the evidence (PS3.3 A.8.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage, SecondaryCaptureImageStorage

from inference.report import Report
from inference.volume import FloatArray
from sr_templates import codes, overlay, provenance, source_study, standing
from sr_templates.evidence_page import draw_evidence
from sr_templates.phrases import Phrases, phrases
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.slice_page import HEADER, MARGIN, PICTURE_MAX, discs_on, draw_slice
from sr_templates.source_study import SourceStudy
from sr_templates.summary_page import draw_summary
from sr_templates.view import View, make_view
from sr_templates.wanted import CaptureForm, Wanted

SERIES_DESCRIPTION = "Lumbar disc grading images"
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
    picture_corner: tuple[int, int] | None = None
    """x, y of the slice's top left corner, where the page is one slice."""


def pages(report: Report, words: Phrases, note: str = "") -> Iterable[Page]:
    """The summary, the slices that show a disc in the order of the source, then the evidence disc by disc.

    ``note`` stands on each of them.
    """
    mid_slices = tuple(sorted({disc.slice_index for disc in report.discs}))
    yield Page(name="summary", title="Summary", pixels=draw_summary(report, words, note), slices=mid_slices)
    view = make_view(report, PICTURE_MAX, PICTURE_MAX_HEIGHT)
    for index in range(report.volume.voxels.shape[0]):
        if discs_on(report, index):
            yield Page(
                name=f"slice-{index + 1:03d}",
                title=f"Slice {index + 1}",
                pixels=draw_slice(report, view, index, words, note),
                slices=(index,),
                picture_corner=(MARGIN, HEADER),
            )
    for disc in report.discs:
        for number, (pixels, slices) in enumerate(draw_evidence(report, view, disc, words, note), start=1):
            name = disc.name.replace("/", "-").replace(" ", "-")
            yield Page(name=f"evidence-{name}-{number}", title=f"Evidence {disc.name}", pixels=pixels, slices=slices)


def captures(report: Report, source: SourceStudy, run: Run, wanted: Wanted) -> tuple[Rendered, ...]:
    """The pages in each wanted form: one object a page, or one object of all pages, in one series."""
    words = phrases(wanted.language)
    shown = tuple(pages(report, words, standing.page_line(source, run, words)))
    view = make_view(report, PICTURE_MAX, PICTURE_MAX_HEIGHT) if wanted.capture_geometry else None
    rendered: list[Rendered] = []
    if CaptureForm.SINGLE_FRAME in wanted.capture_forms:
        for index, page in enumerate(shown, start=1):
            dataset = _envelope(report, source, run, SecondaryCaptureImageStorage, index)
            _describe(dataset, page.title)
            dataset.PatientOrientation = _orientation(report)
            dataset.SourceImageSequence = _source_images(report, source, page.slices)
            if view is not None:
                _add_geometry(dataset, page, view, source)
            _add_pixels(dataset, page.pixels)
            rendered.append(Rendered(kind=OutputKind.SECONDARY_CAPTURE, title=page.title, dataset=dataset))
    if CaptureForm.MULTI_FRAME in wanted.capture_forms:
        dataset = _envelope(report, source, run, MultiFrameTrueColorSecondaryCaptureImageStorage, len(shown) + 1)
        _describe(dataset, "All pages")
        _add_frames(dataset, shown)
        dataset.PatientOrientation = _orientation(report)
        slices = tuple(sorted({index for page in shown for index in page.slices}))
        dataset.SourceImageSequence = _source_images(report, source, slices)
        rendered.append(Rendered(kind=OutputKind.SECONDARY_CAPTURE, title="All pages", dataset=dataset))
    return tuple(rendered)


def _envelope(report: Report, source: SourceStudy, run: Run, sop_class_uid: str, index: int) -> Dataset:
    return provenance.envelope(
        kind=OutputKind.SECONDARY_CAPTURE,
        index=index,
        sop_class_uid=sop_class_uid,
        description=SERIES_DESCRIPTION,
        source=source,
        model=report.model,
        run=run,
    )


def _describe(dataset: Dataset, title: str) -> None:
    """General Series, SC Equipment, SC Image and General Image modules (PS3.3 C.7.3.1, C.8.6.1-2, C.7.6.1)."""
    dataset.Modality = "OT"
    dataset.BodyPartExamined = "LSPINE"
    dataset.ConversionType = "WSD"
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.ContentDate, dataset.ContentTime
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.ImageComments = f"{title}. {provenance.RESEARCH_USE_ONLY}."
    dataset.DerivationDescription = "Automatic disc grading: outlines, gradings and evidence drawn on source slices"
    dataset.BurnedInAnnotation = "NO"  # no words that tell who the patient is
    dataset.RecognizableVisualFeatures = "NO"
    dataset.LossyImageCompression = "00"


def _add_pixels(dataset: Dataset, pixels: overlay.Pixels) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    pixel_bytes = pixels.tobytes()
    dataset.add_new("PixelData", "OB", pixel_bytes + b"\0" * (len(pixel_bytes) % 2))


def _add_frames(dataset: Dataset, shown: Sequence[Page]) -> None:
    """SC Multi-frame Image and Vector modules (PS3.3 C.8.6.3-4): pages of one size, turned like those of a book."""
    height = max(page.pixels.shape[0] for page in shown)
    width = max(page.pixels.shape[1] for page in shown)
    frames = np.empty((len(shown), height, width, 3), np.uint8)
    frames[:] = overlay.PAPER
    for frame, page in zip(frames, shown, strict=True):
        frame[: page.pixels.shape[0], : page.pixels.shape[1]] = page.pixels
    _add_pixels(dataset, frames.reshape(-1, width, 3))
    dataset.Rows = height
    dataset.NumberOfFrames = len(shown)
    dataset.FrameIncrementPointer = tag_for_keyword("PageNumberVector")
    dataset.PageNumberVector = list(range(1, len(shown) + 1))


def _add_geometry(dataset: Dataset, page: Page, view: View, source: SourceStudy) -> None:
    """Image Plane and Frame of Reference modules (PS3.3 C.7.6.2, C.7.4.1) for a page that is one slice.

    The slice page lies in the slice's own plane, upright and in square pixels: its words stand beside the slice
    where the image has no voxels. Summary and evidence pages are montages and have no place in the patient.
    """
    if not source.frame_of_reference_uid:
        return
    dataset.FrameOfReferenceUID = source.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    if page.picture_corner is None:
        return
    x, y = page.picture_corner
    corner_lps_mm = view.position_lps_mm(page.slices[0], 0.5 - x, 0.5 - y)
    axes = view.volume.voxel_to_patient[:3, :3] / view.volume.spacing_mm
    dataset.ImagePositionPatient = [round(float(value), 4) for value in corner_lps_mm]
    dataset.ImageOrientationPatient = [round(float(value), 6) for value in (*axes[:, 2], *axes[:, 1])]
    dataset.PixelSpacing = [round(1.0 / view.pixels_per_mm, 6)] * 2
    dataset.SliceThickness = round(view.volume.spacing_mm[0], 4)


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
