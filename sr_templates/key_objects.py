"""The slices that matter as a Key Object Selection (PS3.3 A.35.4, TID 2010): mid-slices of abnormal discs."""

from __future__ import annotations

from highdicom import sr
from pydicom import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from inference.report import DiscGrading, Report
from sr_templates import codes, provenance, source_study
from sr_templates.measurement_report import device_observer, disc_source
from sr_templates.phrases import phrases
from sr_templates.presentation_state import grade_words
from sr_templates.provenance import RESEARCH_USE_ONLY, OutputKind, Rendered, Run
from sr_templates.slice_page import abnormal_findings
from sr_templates.source_study import SourceStudy

SERIES_DESCRIPTION = "Lumbar disc grading key images"

_CONTAINS = sr.RelationshipTypeValues.CONTAINS


def key_object_selection(report: Report, source: SourceStudy, run: Run) -> Rendered:
    """The mid-slices of the abnormal discs; of all discs where none is abnormal."""
    discs = key_discs(report)
    dataset = provenance.envelope(
        kind=OutputKind.KEY_OBJECT_SELECTION,
        index=1,
        sop_class_uid=KeyObjectSelectionDocumentStorage,
        description=SERIES_DESCRIPTION,
        source=source,
        model=report.model,
        run=run,
    )
    dataset.Modality = "KO"
    dataset.ReferencedPerformedProcedureStepSequence = []
    for element in _content(report, discs, source, run):
        dataset.add(element)
    dataset.CurrentRequestedProcedureEvidenceSequence = source_study.referenced_evidence(
        [disc_source(report, disc, source) for disc in discs], source.attributes.StudyInstanceUID
    )
    return Rendered(kind=OutputKind.KEY_OBJECT_SELECTION, title="Key images", dataset=dataset)


def key_discs(report: Report) -> tuple[DiscGrading, ...]:
    """The discs whose mid-slices are selected."""
    return tuple(disc for disc in report.discs if abnormal_findings(disc)) or report.discs


def _content(report: Report, discs: tuple[DiscGrading, ...], source: SourceStudy, run: Run) -> Dataset:
    root = sr.ContainerContentItem(codes.OF_INTEREST, is_content_continuous=False, template_id="2010")
    told = f"{RESEARCH_USE_ONLY}. " + "; ".join(grade_words(disc, phrases("en")) for disc in discs)
    words = source_study.writable(told, source.attributes)
    root.ContentSequence = sr.ContentSequence(
        [
            *sr.LanguageOfContentItemAndDescendants(codes.ENGLISH),
            *sr.ObserverContext(
                observer_type=codes.DEVICE, observer_identifying_attributes=device_observer(report.model, source, run)
            ),
            sr.TextContentItem(
                codes.KEY_OBJECT_DESCRIPTION,
                source_study.writable(words, source.attributes),
                relationship_type=_CONTAINS,
            ),
            *_images(report, discs, source),
        ]
    )
    for item in root.ContentSequence:
        if item.ValueType == "IMAGE":
            del item.ConceptNameCodeSequence  # TID 2010 forbids the name without which highdicom makes no item
    return root


def _images(report: Report, discs: tuple[DiscGrading, ...], source: SourceStudy) -> list[sr.ImageContentItem]:
    """Each image once."""
    indices = sorted({disc.slice_index for disc in discs})
    items = []
    for index in indices:
        instance = source.instances[report.volume.sources[index].sop_instance_uid]
        item = sr.ImageContentItem(
            codes.SOURCE,
            instance.sop_class_uid,
            instance.sop_instance_uid,
            referenced_frame_numbers=[report.volume.sources[index].frame] if instance.is_multiframe else None,
            relationship_type=_CONTAINS,
        )
        items.append(item)
    return items
