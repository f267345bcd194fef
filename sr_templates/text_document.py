"""What every Basic Text SR of ours is made of, whatever it says (TID 2000)."""

from __future__ import annotations

from highdicom import sr
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage

from inference.report import ModelIdentity
from sr_templates import codes, provenance
from sr_templates.measurement_report import add_document_attributes, device_observer
from sr_templates.phrases import Phrases
from sr_templates.provenance import OutputKind, Run
from sr_templates.source_study import SourceInstance, SourceStudy

SERIES_DESCRIPTION = {
    OutputKind.TEXT_REPORT: "Lumbar disc grading text",
    OutputKind.DECLINED_REPORT: "Lumbar disc grading: NOT GRADED",
}


def empty_root(model: ModelIdentity, source: SourceStudy, run: Run, words: Phrases) -> sr.ContainerContentItem:
    """TID 2000 with language (TID 1204) and observer (TID 1002)."""
    root = sr.ContainerContentItem(codes.DIAGNOSTIC_REPORT, is_content_continuous=False, template_id="2000")
    root.ContentSequence = sr.ContentSequence(
        [
            *sr.LanguageOfContentItemAndDescendants(words.concept),
            *sr.ObserverContext(
                observer_type=codes.DEVICE, observer_identifying_attributes=device_observer(model, source, run)
            ),
        ]
    )
    return root


def source_image(instance: SourceInstance, frame: int | None) -> sr.ImageContentItem:
    """The image that a finding was read from; ``frame`` (from 1) where the instance has several."""
    return sr.ImageContentItem(
        codes.SOURCE,
        instance.sop_class_uid,
        instance.sop_instance_uid,
        referenced_frame_numbers=None if frame is None else [frame],
        relationship_type=sr.RelationshipTypeValues.INFERRED_FROM,
    )


def finished(
    root: sr.ContainerContentItem, kind: OutputKind, model: ModelIdentity, source: SourceStudy, run: Run
) -> Dataset:
    """The object with ``root`` as its content: UNVERIFIED, PRELIMINARY, COMPLETE."""
    dataset = provenance.envelope(
        kind=kind,
        index=1,
        sop_class_uid=BasicTextSRStorage,
        description=SERIES_DESCRIPTION[kind],
        source=source,
        model=model,
        run=run,
    )
    for element in root:
        dataset.add(element)
    add_document_attributes(dataset, run, missing="")
    return dataset
