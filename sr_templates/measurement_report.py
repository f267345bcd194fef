"""The measurement SR: an Imaging Measurement Report (TID 1500), one Measurement Group (TID 1410) per disc.

What backs a coded answer hangs beneath it (HAS PROPERTIES, as the certainty of a finding does in TID 4006), so
each certainty tells what it is the certainty of, and a viewer that prints the first numbers of a group shows
grade, height, canal and slip with the disc's level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom import sr
from pydicom import Dataset

from inference.grades import SPINENET_EIGHT, TITLES, Finding
from inference.report import DiscGrading, ModelIdentity, Report
from sr_templates import codes, provenance, source_study, standing
from sr_templates import measurement_content as content
from sr_templates.phrases import phrases
from sr_templates.provenance import OutputKind, Rendered, Run
from sr_templates.source_study import SourceInstance, SourceStudy
from sr_templates.view import is_level_doubtful
from sr_templates.wanted import SR_SOP_CLASS, SrClass

SERIES_DESCRIPTION = "Lumbar disc grading SR"

_CONTAINS = sr.RelationshipTypeValues.CONTAINS


def measurement_reports(
    report: Report, source: SourceStudy, run: Run, sr_classes: Sequence[SrClass]
) -> tuple[Rendered, ...]:
    """The report in each of the SOP classes, UNVERIFIED and PRELIMINARY: the same content under different UIDs.

    COMPLETE where every disc has all of SpineNet's eight gradings, else PARTIAL with what is missing.
    """
    whole = _content(report, source, run)
    evidence = source_study.referenced_evidence(
        [disc_source(report, disc, source) for disc in report.discs], report.study_instance_uid
    )
    rendered = []
    for sr_class in sr_classes:
        dataset = provenance.envelope(
            kind=OutputKind.MEASUREMENT_REPORT,
            index=list(SrClass).index(sr_class) + 1,
            sop_class_uid=SR_SOP_CLASS[sr_class],
            description=SERIES_DESCRIPTION,
            source=source,
            model=report.model,
            run=run,
        )
        for element in whole:
            dataset.add(element)
        add_document_attributes(dataset, run, missing=_missing(report))
        dataset.CurrentRequestedProcedureEvidenceSequence = evidence
        rendered.append(Rendered(kind=OutputKind.MEASUREMENT_REPORT, title="Measurement report", dataset=dataset))
    return tuple(rendered)


def add_document_attributes(dataset: Dataset, run: Run, missing: str) -> None:
    """SR Document General and Series modules (PS3.3 C.17.1-2). ``missing`` empty means a complete document."""
    dataset.Modality = "SR"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "PARTIAL" if missing else "COMPLETE"
    if missing:
        dataset.CompletionFlagDescription = missing[:64]
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    replaced = [earlier for earlier in run.predecessors if earlier.sop_class_uid == dataset.SOPClassUID]
    if replaced:
        dataset.PredecessorDocumentsSequence = source_study.referenced_evidence(
            [
                SourceInstance(
                    sop_class_uid=earlier.sop_class_uid,
                    sop_instance_uid=earlier.sop_instance_uid,
                    series_instance_uid=earlier.series_instance_uid,
                    is_multiframe=False,
                )
                for earlier in replaced
            ],
            dataset.StudyInstanceUID,
        )


def disc_source(report: Report, disc: DiscGrading, source: SourceStudy) -> SourceInstance:
    """The source instance that shows the disc's mid-slice."""
    return source.instances[report.volume.sources[disc.slice_index].sop_instance_uid]


def outline_image_coordinates(report: Report, disc: DiscGrading) -> np.ndarray:
    """(n + 1, 2) closed outline as (column, row) of the source image.

    SCOORD counts from the top left corner of the top left pixel, so a pixel's centre is at .5 (PS3.3
    C.18.6.1.1), while voxel coordinates have centres at whole numbers.
    """
    voxel = report.volume.to_voxel(disc.outline_lps_mm)
    rows, columns = report.volume.voxels.shape[1:]
    points = np.clip(voxel[:, [2, 1]] + 0.5, 0.0, (columns, rows))
    return np.vstack([points, points[:1]])


def _missing(report: Report) -> str:
    absent = {finding for disc in report.discs for finding in SPINENET_EIGHT if finding not in disc.grades}
    if not absent:
        return ""
    return "Not assessed: " + ", ".join(TITLES[finding].lower() for finding in SPINENET_EIGHT if finding in absent)


def _content(report: Report, source: SourceStudy, run: Run) -> Dataset:
    groups = [_group(report, disc, source, run) for disc in report.discs]
    document = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=codes.DEVICE,
                observer_identifying_attributes=device_observer(report.model, source, run),
            )
        ),
        procedure_reported=codes.PROCEDURE_REPORTED,
        imaging_measurements=groups,
    )
    root: Dataset = document[0]
    measurements = root.ContentSequence.pop()
    root.ContentSequence.append(_image_library(report, source))
    root.ContentSequence.append(measurements)
    for container in _of_whole_spine(report):
        root.ContentSequence.append(container)
    root.ContentSequence.append(_notes(report, source, run))
    return root


def device_observer(model: ModelIdentity, source: SourceStudy, run: Run) -> sr.DeviceObserverIdentifyingAttributes:
    """TID 1004: who observed, a program."""
    return sr.DeviceObserverIdentifyingAttributes(
        uid=provenance.device_uid(model),
        name=model.name,
        manufacturer_name=source_study.writable(run.manufacturer, source.attributes),
        model_name=f"{model.name} {model.version}",
        serial_number=model.sha256,
    )


def _image_library(report: Report, source: SourceStudy) -> sr.ContainerContentItem:
    """TID 1600 with only the images that the outlines lie on: viewers show every entry as text."""
    group = sr.ContainerContentItem(codes.IMAGE_LIBRARY_GROUP, relationship_type=_CONTAINS)
    group.ContentSequence = sr.ContentSequence()
    group.ContentSequence.append(
        sr.CodeContentItem(
            codes.MODALITY,
            codes.MAGNETIC_RESONANCE,
            relationship_type=sr.RelationshipTypeValues.HAS_ACQ_CONTEXT,
        )
    )
    used = {instance.sop_instance_uid: instance for instance in (disc_source(report, d, source) for d in report.discs)}
    for instance in used.values():
        group.ContentSequence.append(
            sr.ImageContentItem(
                codes.SOURCE, instance.sop_class_uid, instance.sop_instance_uid, relationship_type=_CONTAINS
            )
        )
    library = sr.ContainerContentItem(codes.IMAGE_LIBRARY, relationship_type=_CONTAINS)
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _notes(report: Report, source: SourceStudy, run: Run) -> sr.ContainerContentItem:
    """What a reader must know of the whole study: the Qualitative Evaluations part of TID 1500."""
    notes = [f"{provenance.RESEARCH_USE_ONLY}. Made by a program, not verified by a person."]
    if run.replaces_earlier:
        notes.append(standing.page_line(source, run, phrases("en")))
    notes += dict.fromkeys((*report.quality, *report.spine.doubts))
    container = sr.ContainerContentItem(codes.QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    container.ContentSequence = sr.ContentSequence(
        [
            *_quality(report),
            *(content.text(codes.COMMENT, source_study.writable(note, source.attributes), _CONTAINS) for note in notes),
        ]
    )
    return container


def _quality(report: Report) -> list[sr.CodeContentItem]:
    """Whether there is a reason to doubt the images or the levels, for programs; the comments say which."""
    return [
        sr.CodeContentItem(concept, codes.FLAGGED if flagged else codes.NOT_FLAGGED, relationship_type=_CONTAINS)
        for concept, flagged in (
            (codes.IMAGE_QUALITY, report.quality),
            (codes.LEVEL_NAMING, report.spine.doubts),
        )
    ]


def _of_whole_spine(report: Report) -> list[sr.ContainerContentItem]:
    """What is measured on no single disc: the Derived Imaging Measurements part of TID 1500 (TID 1420).

    No Measurement Group, for that would need coordinates: OHIF 3 cannot open a document with a group that has none.
    """
    if not report.measurements:
        return []
    container = sr.ContainerContentItem(codes.DERIVED_MEASUREMENTS, relationship_type=_CONTAINS)
    container.ContentSequence = sr.ContentSequence(
        [content.measurement(name, value, _CONTAINS) for name, value in report.measurements.items()]
    )
    return [container]


def _group(
    report: Report, disc: DiscGrading, source: SourceStudy, run: Run
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    instance = disc_source(report, disc, source)
    frames = [report.volume.sources[disc.slice_index].frame] if instance.is_multiframe else None
    site = sr.FindingSite(codes.DISC[disc.level] if disc.withheld_place is None else codes.DISC_WITHOUT_LEVEL)
    content.attach(site, [content.number(codes.LEVEL_CERTAINTY, content.percent(disc.level_confidence), codes.PERCENT)])
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=provenance.tracking_uid_without_level(source, run, disc.name)
            if disc.withheld_place is not None
            else provenance.disc_tracking_uid(source, run, disc.level),
            identifier=_tracking_name(disc),
        ),
        referenced_region=sr.ImageRegion(
            graphic_type=sr.GraphicTypeValues.POLYLINE,
            graphic_data=outline_image_coordinates(report, disc),
            source_image=sr.SourceImageForRegion(instance.sop_class_uid, instance.sop_instance_uid, frames),
        ),
        finding_type=codes.GRADED_DISC,
        algorithm_id=_algorithm(report.model, run),
        finding_sites=[site],
        measurements=[],
        qualitative_evaluations=[],
    )
    items = group[0].ContentSequence
    region = items.pop()
    for item in (*content.numbers(disc), *(content.evaluation(finding, disc, source) for finding in Finding)):
        items.append(item)
    for item in content.slices_used(disc, len(report.volume.sources)):
        items.append(item)
    items.append(region)
    return group


def _tracking_name(disc: DiscGrading) -> str:
    if disc.withheld_place is not None:
        return f"{disc.name} from below (level withheld)"
    return f"{disc.name} disc{' (level uncertain)' if is_level_doubtful(disc) else ''}"


def _algorithm(model: ModelIdentity, run: Run) -> sr.AlgorithmIdentification:
    """TID 4019, without manufacturer: readers of TID 1500 take that item for a finding."""
    return sr.AlgorithmIdentification(
        name=model.name,
        version=model.version,
        parameters=[
            f"weights sha256 {model.sha256}",
            *([f"software {run.software_version}"] if run.software_version else []),
        ],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )
