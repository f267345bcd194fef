"""Outlines and grades as graphics that a viewer lays over the source slices: a GSPS (PS3.3 A.33.1)."""

from __future__ import annotations

import numpy as np
from highdicom import pr
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from inference.grades import Finding
from inference.report import DiscGrading, Report
from sr_templates import provenance, stand_ins
from sr_templates.measurement_report import outline_image_coordinates
from sr_templates.provenance import RESEARCH_USE_ONLY, OutputKind, Rendered, Run
from sr_templates.segmentation import CREATOR
from sr_templates.slice_page import abnormal_findings, in_sentence
from sr_templates.source_study import SourceStudy
from sr_templates.view import shown_level

SERIES_DESCRIPTION = "Lumbar disc grading overlay"
LAYER = "GRADING"
GAP_PX = 4.0


def presentation_state(report: Report, source: SourceStudy, run: Run) -> Rendered:
    """One presentation state over the mid-slices of the discs."""
    indices = sorted({disc.slice_index for disc in report.discs})
    is_multiframe = stand_ins.source_of(report, source, indices[0]).is_multiframe
    images = [stand_ins.multiframe(report, source)] if is_multiframe else stand_ins.slices(report, source, indices)
    layer = pr.GraphicLayer(layer_name=LAYER, order=1, description="Discs and their grades")
    annotations = []
    for place, index in enumerate(indices):
        discs = [disc for disc in report.discs if disc.slice_index == index]
        annotations.append(
            pr.GraphicAnnotation(
                referenced_images=[images[0 if is_multiframe else place]],
                graphic_layer=layer,
                referenced_frame_number=report.volume.sources[index].frame if is_multiframe else None,
                graphic_objects=[_outline(report, disc) for disc in discs],
                text_objects=[*(_words(report, disc) for disc in discs), _warning()],
            )
        )
    envelope = provenance.envelope(
        kind=OutputKind.PRESENTATION_STATE,
        index=1,
        sop_class_uid=GrayscaleSoftcopyPresentationStateStorage,
        description=SERIES_DESCRIPTION,
        source=source,
        model=report.model,
        run=run,
    )
    built = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        content_label="DISC_GRADES",
        content_description="Outlines and grades of the lumbar discs",
        graphic_annotations=annotations,
        graphic_layers=[layer],
        content_creator_name=CREATOR,
        **stand_ins.identity(envelope),
    )
    envelope.Modality, envelope.BodyPartExamined = "PR", "LSPINE"
    envelope.PresentationCreationDate, envelope.PresentationCreationTime = envelope.ContentDate, envelope.ContentTime
    del envelope.ContentDate, envelope.ContentTime  # not of this IOD
    whole = provenance.dressed(built, envelope)
    return Rendered(kind=OutputKind.PRESENTATION_STATE, title="Overlay", dataset=whole)


def grade_words(disc: DiscGrading) -> str:
    """The level, its Pfirrmann grade and what else is abnormal, in a few words."""
    pfirrmann = disc.grades.get(Finding.PFIRRMANN)
    others = [in_sentence(finding) for finding in abnormal_findings(disc) if finding is not Finding.PFIRRMANN]
    grade = "Pfirrmann n/a" if pfirrmann is None else f"Pfirrmann {pfirrmann.value}"
    return ", ".join([f"{shown_level(disc)} {grade}", *others])


def _outline(report: Report, disc: DiscGrading) -> pr.GraphicObject:
    return pr.GraphicObject(
        graphic_type=pr.GraphicTypeValues.POLYLINE,
        graphic_data=outline_image_coordinates(report, disc),
        units=pr.AnnotationUnitsValues.PIXEL,
    )


def _words(report: Report, disc: DiscGrading) -> pr.TextObject:
    """Anchored behind the disc, so that the words stand beside it on an upright slice."""
    outline = outline_image_coordinates(report, disc)
    _, rows, columns = report.volume.voxels.shape
    anchor = np.clip((outline[:, 0].max() + GAP_PX, outline[:, 1].mean()), 1.0, (columns, rows))
    return pr.TextObject(
        text_value=grade_words(disc),
        units=pr.AnnotationUnitsValues.PIXEL,
        anchor_point=(float(anchor[0]), float(anchor[1])),
        anchor_point_visible=False,
    )


def _warning() -> pr.TextObject:
    return pr.TextObject(
        text_value=RESEARCH_USE_ONLY,
        units=pr.AnnotationUnitsValues.DISPLAY,
        bounding_box=(0.02, 0.01, 0.6, 0.05),
        text_justification=pr.TextJustificationValues.LEFT,
    )
