"""Outlines and grades as graphics that a viewer lays over the source slices: a GSPS (PS3.3 A.33.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from highdicom import pr
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from inference.grades import Finding
from inference.report import DiscGrading, Report
from sr_templates import provenance, stand_ins
from sr_templates.measurement_report import outline_image_coordinates
from sr_templates.phrases import Phrases, phrases
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.segmentation import CREATOR
from sr_templates.slice_page import abnormal_findings, pfirrmann_words
from sr_templates.source_study import SourceStudy, writable
from sr_templates.view import shown_level

SERIES_DESCRIPTION = "Lumbar disc grading overlay"
LAYER = "GRADING"
GAP_PX = 4.0


def presentation_state(report: Report, source: SourceStudy, run: Run, language: str = "en") -> Rendered:
    """One presentation state over the mid-slices of the discs."""
    words = phrases(language)
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
                text_objects=list(_texts(report, source, discs, words)),
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


def grade_words(disc: DiscGrading, words: Phrases) -> str:
    """The level, its Pfirrmann grade and what else is abnormal, in a few words."""
    abnormal = [finding for finding in abnormal_findings(disc) if finding is not Finding.PFIRRMANN]
    others = [words.marked(finding, disc.grades[finding]) for finding in abnormal]
    return ", ".join([f"{shown_level(disc, words)} {pfirrmann_words(disc, words)}", *others])


def _outline(report: Report, disc: DiscGrading) -> pr.GraphicObject:
    return pr.GraphicObject(
        graphic_type=pr.GraphicTypeValues.POLYLINE,
        graphic_data=outline_image_coordinates(report, disc),
        units=pr.AnnotationUnitsValues.PIXEL,
    )


def _texts(
    report: Report, source: SourceStudy, discs: Sequence[DiscGrading], words: Phrases
) -> Iterator[pr.TextObject]:
    """Grades, each anchored behind its disc so that the words stand beside it on an upright slice; the warning."""
    _, rows, columns = report.volume.voxels.shape
    for disc in discs:
        outline = outline_image_coordinates(report, disc)
        anchor = np.clip((outline[:, 0].max() + GAP_PX, outline[:, 1].mean()), 1.0, (columns, rows))
        yield pr.TextObject(
            text_value=writable(grade_words(disc, words), source.attributes),
            units=pr.AnnotationUnitsValues.PIXEL,
            anchor_point=(float(anchor[0]), float(anchor[1])),
            anchor_point_visible=False,
        )
    yield pr.TextObject(
        text_value=writable(words.pages["use"], source.attributes),
        units=pr.AnnotationUnitsValues.DISPLAY,
        bounding_box=(0.02, 0.01, 0.6, 0.05),
        text_justification=pr.TextJustificationValues.LEFT,
    )
