"""Discs and vertebral bodies as a Segmentation (PS3.3 A.51), each on its own mid-slice: no more was outlined."""

from __future__ import annotations

from dataclasses import dataclass

import highdicom
import numpy as np
from highdicom import seg
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from inference.report import ModelIdentity, Report
from inference.volume import FloatArray
from sr_templates import codes, overlay, provenance, stand_ins
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.slice_page import colour_of
from sr_templates.source_study import SourceStudy

SERIES_DESCRIPTION = "Lumbar disc grading segments - RESEARCH USE ONLY"
CREATOR = "Grader^Automatic"
BODY_COLOUR: overlay.Colour = (140, 150, 170)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One structure as a filled polygon on one slice."""

    label: str
    code: Code
    tracking_uid: str
    slice_index: int
    polygon_lps_mm: FloatArray
    colour: overlay.Colour


def segmentation(report: Report, source: SourceStudy, run: Run) -> Rendered:
    """All segments as one binary Segmentation that refers to the slices they lie on."""
    segments = segments_of(report, source, run)
    indices = sorted({segment.slice_index for segment in segments})
    masks = np.zeros((len(indices), *report.volume.voxels.shape[1:], len(segments)), np.uint8)
    for number, segment in enumerate(segments):
        masks[indices.index(segment.slice_index), :, :, number] = mask_of(report, segment)
    described = [_description(number, segment, report.model) for number, segment in enumerate(segments, start=1)]
    envelope = provenance.envelope(
        kind=OutputKind.SEGMENTATION,
        index=1,
        sop_class_uid=SegmentationStorage,
        description=SERIES_DESCRIPTION,
        source=source,
        model=report.model,
        run=run,
    )
    built = seg.Segmentation(
        **stand_ins.for_highdicom(report, source, indices, masks),
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        content_label="LUMBAR_DISCS",
        content_description="Discs and vertebral bodies on their mid-slices",
        content_creator_name=CREATOR,
        omit_empty_frames=True,
        **stand_ins.identity(envelope),
    )
    envelope.Modality = "SEG"
    return Rendered(kind=OutputKind.SEGMENTATION, title="Segments", dataset=provenance.dressed(built, envelope))


def segments_of(report: Report, source: SourceStudy, run: Run) -> tuple[Segment, ...]:
    """The graded discs, then the bodies between them, head to foot."""
    discs = tuple(
        Segment(
            label=f"{disc.level.value} disc",
            code=codes.DISC[disc.level],
            tracking_uid=provenance.disc_tracking_uid(source, run, disc.level),
            slice_index=disc.slice_index,
            polygon_lps_mm=disc.outline_lps_mm,
            colour=colour_of(disc),
        )
        for disc in report.discs
    )
    last = report.volume.voxels.shape[0] - 1
    bodies = tuple(
        Segment(
            label=f"{body.level.value} vertebral body",
            code=codes.VERTEBRA[body.level],
            tracking_uid=provenance.uid("body", source.attributes.StudyInstanceUID, body.level.value),
            slice_index=min(max(round(float(report.volume.to_voxel(body.center_lps_mm)[0])), 0), last),
            polygon_lps_mm=body.corners_lps_mm,
            colour=BODY_COLOUR,
        )
        for body in report.spine.bodies
    )
    return discs + bodies


def mask_of(report: Report, segment: Segment) -> NDArray[np.uint8]:
    """(rows, columns) of the source slice: 1 in pixels whose centre lies in the polygon, or on its edge."""
    _, rows, columns = report.volume.voxels.shape
    voxel = report.volume.to_voxel(segment.polygon_lps_mm)
    picture = Image.new("L", (columns, rows))
    ImageDraw.Draw(picture).polygon([(float(column), float(row)) for _, row, column in voxel], fill=1, outline=1)
    return np.asarray(picture)


def _description(number: int, segment: Segment, model: ModelIdentity) -> seg.SegmentDescription:
    return seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=codes.ANATOMICAL_STRUCTURE,
        segmented_property_type=segment.code,
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=model.name, family=codes.ARTIFICIAL_INTELLIGENCE, version=model.version
        ),
        tracking_uid=segment.tracking_uid,
        tracking_id=segment.label,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )
