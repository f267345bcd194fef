"""Discs, vertebral bodies and the spinal canal on every slice, as a Segmentation (PS3.3 A.51)."""

from __future__ import annotations

from dataclasses import dataclass

import highdicom
import numpy as np
from highdicom import seg
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from inference.anatomy import DiscLevel, Vertebra
from inference.report import ModelIdentity, Report, Structure
from sr_templates import codes, overlay, provenance, stand_ins
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.slice_page import colour_of
from sr_templates.source_study import SourceStudy

SERIES_DESCRIPTION = "Lumbar disc grading segments"
CREATOR = "Grader^Automatic"
BODY_COLOUR: overlay.Colour = (140, 150, 170)
CANAL_COLOUR: overlay.Colour = (120, 170, 210)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """What the Segment Sequence says of one structure (PS3.3 C.8.20.2)."""

    label: str
    code: Code
    tracking_uid: str
    colour: overlay.Colour


def segmentation(report: Report, source: SourceStudy, run: Run) -> Rendered:
    """All segments as one binary Segmentation that refers to the slices they lie on."""
    segments = [segment_of(structure, report, source, run) for structure in report.segments.structures]
    indices = [int(index) for index in np.flatnonzero(report.segments.labels.any(axis=(1, 2)))]
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
        **stand_ins.for_highdicom(report, source, indices, report.segments.labels[indices]),
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        content_label="LUMBAR_SPINE",
        content_description="Discs, vertebral bodies and spinal canal",
        content_creator_name=CREATOR,
        omit_empty_frames=True,
        **stand_ins.identity(envelope),
    )
    envelope.Modality = "SEG"
    return Rendered(kind=OutputKind.SEGMENTATION, title="Segments", dataset=provenance.dressed(built, envelope))


def segment_of(structure: Structure, report: Report, source: SourceStudy, run: Run) -> Segment:
    """A disc in the colour of its grades, tracked as in the measurement report; a body or the canal in its own."""
    study_uid = source.attributes.StudyInstanceUID
    if structure in report.withheld:
        name, is_disc = report.withheld[structure], isinstance(structure, DiscLevel)
        return Segment(
            label=f"{name} (level withheld)".capitalize(),
            code=codes.DISC_WITHOUT_LEVEL if is_disc else codes.VERTEBRA_WITHOUT_LEVEL,
            tracking_uid=provenance.tracking_uid_without_level(source, run, name),
            colour=next((colour_of(disc) for disc in report.discs if disc.level is structure), BODY_COLOUR),
        )
    if isinstance(structure, DiscLevel):
        graded = [disc for disc in report.discs if disc.level is structure]
        return Segment(
            label=f"{structure.value} disc",
            code=codes.DISC[structure],
            tracking_uid=provenance.disc_tracking_uid(source, run, structure),
            colour=colour_of(graded[0]) if graded else overlay.NORMAL,
        )
    if isinstance(structure, Vertebra):
        return Segment(
            label=f"{structure.value} vertebral body",
            code=codes.VERTEBRA[structure],
            tracking_uid=provenance.uid("body", study_uid, structure.value),
            colour=BODY_COLOUR,
        )
    return Segment(
        label="Spinal canal",
        code=codes.SPINAL_CANAL,
        tracking_uid=provenance.uid("canal", study_uid),
        colour=CANAL_COLOUR,
    )


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
