"""The note that withdraws earlier results names all of them, says that it rejects them, and repeats."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage, SecondaryCaptureImageStorage

from sr_templates.render import OutputKind, Predecessor, Wanted, render, render_rejection
from tests.report_factories import RUN, STUDY_UID, GradedStudy

SECOND = replace(RUN, number=2)
EARLIER = tuple(
    Predecessor(sop_class_uid=sop_class, sop_instance_uid=f"2.25.7{n}", series_instance_uid=f"2.25.8{n // 2}")
    for n, sop_class in enumerate(
        (SecondaryCaptureImageStorage, SecondaryCaptureImageStorage, Comprehensive3DSRStorage, EncapsulatedPDFStorage)
    )
)


@pytest.fixture(scope="module")
def note(study: GradedStudy) -> Dataset:
    return render_rejection(study.report, study.source, SECOND, EARLIER).dataset


def code(item: Dataset, keyword: str) -> tuple[str, str]:
    (only,) = item[keyword].value
    return only.CodingSchemeDesignator, only.CodeValue


def test_its_title_is_rejected_for_quality_reasons(note: Dataset) -> None:
    assert code(note, "ConceptNameCodeSequence") == ("DCM", "113001")
    assert note.Modality == "KO"
    modifier = note.ContentSequence[0]  # TID 2010 asks for one under this title
    assert code(modifier, "ConceptNameCodeSequence") == ("DCM", "113011")
    assert code(modifier, "ConceptCodeSequence") == ("DCM", "111220")


def test_its_evidence_names_every_superseded_object_in_its_series(note: Dataset) -> None:
    (of_study,) = note.CurrentRequestedProcedureEvidenceSequence
    assert of_study.StudyInstanceUID == STUDY_UID
    named = {
        series.SeriesInstanceUID: [
            (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in series.ReferencedSOPSequence
        ]
        for series in of_study.ReferencedSeriesSequence
    }
    assert named == {
        "2.25.80": [(SecondaryCaptureImageStorage, "2.25.70"), (SecondaryCaptureImageStorage, "2.25.71")],
        "2.25.81": [(Comprehensive3DSRStorage, "2.25.72"), (EncapsulatedPDFStorage, "2.25.73")],
    }


def test_its_content_names_pictures_as_images_then_documents_as_objects(study: GradedStudy) -> None:
    note = render_rejection(study.report, study.source, SECOND, EARLIER[::-1]).dataset
    content = [
        (item.ValueType, item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in note.ContentSequence
        if "ReferencedSOPSequence" in item
    ]
    assert content == [("IMAGE", "2.25.71"), ("IMAGE", "2.25.70"), ("COMPOSITE", "2.25.73"), ("COMPOSITE", "2.25.72")]
    (told,) = [item.TextValue for item in note.ContentSequence if item.get("TextValue", "").startswith("RESEARCH")]
    assert told == (
        "RESEARCH USE ONLY - not for diagnosis. Result 2, made 2026-03-14 15:09 UTC: replaces earlier results of this "
        "study. What is named here is withdrawn."
    )
    assert note.SeriesDescription == "RESEARCH USE ONLY Earlier disc gradings withdrawn, result 2"


def test_the_same_names_make_the_same_note_and_others_another(study: GradedStudy, note: Dataset) -> None:
    def encoded(item: Dataset) -> bytes:
        stream = BytesIO()
        item.save_as(stream, enforce_file_format=True)
        return stream.getvalue()

    again = render_rejection(study.report, study.source, SECOND, EARLIER).dataset
    fewer = render_rejection(study.report, study.source, SECOND, EARLIER[1:]).dataset
    assert encoded(again) == encoded(note)
    assert fewer.SOPInstanceUID != note.SOPInstanceUID == note.file_meta.MediaStorageSOPInstanceUID


def test_a_note_that_names_nothing_is_refused(study: GradedStudy) -> None:
    with pytest.raises(ValueError, match="must name"):
        render_rejection(study.report, study.source, SECOND, ())


def test_rendering_a_study_makes_none_by_itself(study: GradedStudy) -> None:
    assert render(study.report, study.source, SECOND, Wanted(kinds=frozenset({OutputKind.REJECTION_NOTE}))) == ()
