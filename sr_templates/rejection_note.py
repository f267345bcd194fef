"""Withdraws earlier results of a study: the Key Object Selection that IHE's Imaging Object Change Management reads.

IHE RAD TF-2 4.66 [RAD-66] (Rejection Note Stored); PS3.16 TID 2010. An archive that heeds it hides what the note names
in its Current Requested Procedure Evidence Sequence; to any other it is one more selection of objects.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import (
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from inference.report import ModelIdentity
from sr_templates import codes, provenance, source_study, standing
from sr_templates.measurement_report import device_observer
from sr_templates.phrases import phrases
from sr_templates.provenance import RESEARCH_USE_ONLY, OutputKind, Predecessor, Rendered, Run
from sr_templates.source_study import SourceInstance, SourceStudy

SERIES_DESCRIPTION = "Earlier disc gradings withdrawn"

REJECTED = Code("113001", "DCM", "Rejected for Quality Reasons")  # CID 7010
TITLE_MODIFIER = Code("113011", "DCM", "Document Title Modifier")  # TID 2010
OTHER_FAILURE = Code("111220", "DCM", "Other failure")  # CID 7011, which TID 2010 asks for, knows no "superseded"
IMAGES = frozenset(
    {
        SecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
        SegmentationStorage,
        ParametricMapStorage,
    }
)
"""What of our results is named as an image; the others are composite objects."""

_CONTAINS = sr.RelationshipTypeValues.CONTAINS


def rejection_note(
    model: ModelIdentity, source: SourceStudy, run: Run, superseded: Sequence[Predecessor], index: int
) -> Rendered:
    """The note that withdraws ``superseded``; ``index`` counts the notes of one run, from 1.

    Its UID follows from what it names, for what an archive holds may change between two attempts at one study. Raises
    ValueError where nothing is named.
    """
    if not superseded:
        raise ValueError("a rejection note must name what it withdraws")
    dataset = provenance.envelope(
        kind=OutputKind.REJECTION_NOTE,
        index=index,
        sop_class_uid=KeyObjectSelectionDocumentStorage,
        description=SERIES_DESCRIPTION,
        source=source,
        model=model,
        run=run,
    )
    names = sorted(item.sop_instance_uid for item in superseded)
    dataset.SOPInstanceUID = provenance.uid("rejection note", dataset.SeriesInstanceUID, *names)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = "KO"
    dataset.ReferencedPerformedProcedureStepSequence = []
    for element in _content(model, source, run, superseded):
        dataset.add(element)
    dataset.CurrentRequestedProcedureEvidenceSequence = source_study.referenced_evidence(
        [_instance(item) for item in superseded], dataset.StudyInstanceUID
    )
    return Rendered(kind=OutputKind.REJECTION_NOTE, title="Earlier results withdrawn", dataset=dataset)


def _content(model: ModelIdentity, source: SourceStudy, run: Run, superseded: Sequence[Predecessor]) -> Dataset:
    root = sr.ContainerContentItem(REJECTED, is_content_continuous=False, template_id="2010")
    told = f"{RESEARCH_USE_ONLY}. {standing.page_line(source, run, phrases('en'))} What is named here is withdrawn."
    root.ContentSequence = sr.ContentSequence(
        [
            sr.CodeContentItem(
                TITLE_MODIFIER, OTHER_FAILURE, relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD
            ),
            *sr.LanguageOfContentItemAndDescendants(codes.ENGLISH),
            *sr.ObserverContext(
                observer_type=codes.DEVICE, observer_identifying_attributes=device_observer(model, source, run)
            ),
            sr.TextContentItem(codes.KEY_OBJECT_DESCRIPTION, told, relationship_type=_CONTAINS),
            *map(_reference, sorted(superseded, key=lambda item: item.sop_class_uid not in IMAGES)),  # rows 8 and 10
        ]
    )
    for item in root.ContentSequence:
        if "ReferencedSOPSequence" in item:
            del item.ConceptNameCodeSequence  # TID 2010 forbids the name without which highdicom makes no item
    return root


def _reference(item: Predecessor) -> sr.ImageContentItem | sr.CompositeContentItem:
    made = sr.ImageContentItem if item.sop_class_uid in IMAGES else sr.CompositeContentItem
    return made(codes.SOURCE, item.sop_class_uid, item.sop_instance_uid, relationship_type=_CONTAINS)


def _instance(item: Predecessor) -> SourceInstance:
    return SourceInstance(
        sop_class_uid=item.sop_class_uid,
        sop_instance_uid=item.sop_instance_uid,
        series_instance_uid=item.series_instance_uid,
        is_multiframe=False,
    )
