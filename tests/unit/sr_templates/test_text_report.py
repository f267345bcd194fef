"""The report in words, and the Basic Text SR that says the same."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import BasicTextSRStorage

from inference.grades import Basis, Doubt, Finding, Grade
from inference.report import Declined, RejectedSeries
from sr_templates import source_study
from sr_templates.disc_words import disc_sentences
from sr_templates.phrases import phrases
from sr_templates.render import OutputKind, Rendered, Wanted, render, render_declined, text, text_declined
from sr_templates.text_report import sections, text_report
from tests.report_factories import MODEL, RUN, STUDY_UID, GradedStudy, binary, graded_study, narrowing, pfirrmann

ENGLISH = phrases("en")
DECLINED = Declined(
    study_instance_uid=STUDY_UID,
    reason="No sagittal T2 series of the lumbar spine",
    rejected=(RejectedSeries(series_instance_uid="2.25.7", reason="axial"),),
    model=MODEL,
)


@pytest.fixture(scope="module")
def document(rendered: tuple[Rendered, ...]) -> Dataset:
    return rendered[1].dataset


def words_of(document: Dataset) -> list[str]:
    containers = [item for item in document.ContentSequence if item.ValueType == "CONTAINER"]
    return [item.TextValue for container in containers for item in container.ContentSequence]


def test_the_text_object_says_the_words_of_the_plain_text(study: GradedStudy, document: Dataset) -> None:
    said = [paragraph for section in sections(study.report, ENGLISH) for paragraph in section.paragraphs]
    in_object = [said[0], "Made 2026-03-14 15:09 UTC.", *said[1:]]
    assert [" ".join(words.split()) for words in words_of(document)] == [" ".join(words.split()) for words in in_object]
    unwrapped = " ".join(text(study.report).split())
    assert all(" ".join(paragraph.split()) in unwrapped for paragraph in said)


def test_the_impression_comes_before_the_findings_and_names_what_is_abnormal(study: GradedStudy) -> None:
    headings = [section.heading for section in sections(study.report, ENGLISH)]
    assert headings.index("Impression") < headings.index("Reasons to doubt") < headings.index("Findings")
    assert sections(study.report, ENGLISH)[1].paragraphs == (
        "L5/S1: central canal stenosis, Pfirrmann grade 5, moderate disc narrowing, upper marrow change.",
        "L4/L5: Pfirrmann grade 4, moderate disc narrowing, upper marrow change.",
    )


def test_the_impression_goes_by_importance_and_then_from_head_to_foot(study: GradedStudy) -> None:
    """Stenosis, herniation, slip, degeneration of grade 5, of grade 4; then the rest, grade 3 last."""
    of_discs = (
        {Finding.PFIRRMANN: pfirrmann(3), Finding.DISC_BULGING: binary(1, 0.9)},
        {Finding.PFIRRMANN: pfirrmann(4)},
        {Finding.PFIRRMANN: pfirrmann(5), Finding.DISC_NARROWING: narrowing(3, 0.9)},
        {Finding.SPONDYLOLISTHESIS: binary(1, 0.9), Finding.PFIRRMANN: pfirrmann(5)},
        {Finding.DISC_HERNIATION: binary(1, 0.9), Finding.DISC_BULGING: binary(1, 0.9)},
        {Finding.PFIRRMANN: pfirrmann(5)},
    )
    discs = tuple(replace(disc, grades=grades) for disc, grades in zip(study.report.discs, of_discs, strict=True))
    assert sections(replace(study.report, discs=discs), ENGLISH)[1].paragraphs == (
        "L4/L5: disc herniation, disc bulging.",
        "L3/L4: spondylolisthesis, Pfirrmann grade 5.",
        "L2/L3: Pfirrmann grade 5, moderate disc narrowing.",
        "L5/S1: Pfirrmann grade 5.",
        "L1/L2: Pfirrmann grade 4.",
        "T12/L1: disc bulging, Pfirrmann grade 3.",
    )


def test_a_study_without_abnormal_gradings_says_so(study: GradedStudy) -> None:
    calm = tuple(replace(disc, grades={Finding.PFIRRMANN: pfirrmann(2)}) for disc in study.report.discs)
    words = text(replace(study.report, discs=calm))
    assert "No abnormal grading at the discs that were assessed." in words


def test_a_disc_is_told_from_grade_to_level_certainty(study: GradedStudy) -> None:
    disc = replace(
        study.report.discs[4],
        grades={
            Finding.PFIRRMANN: pfirrmann(4),
            Finding.DISC_NARROWING: narrowing(2, 0.914),
            Finding.DISC_BULGING: binary(0, 0.66),
        },
        measurements={"disc_height_mm": 5.04, "slip_percent": 3.2, "disc_to_csf_signal_ratio": 0.214},
    )
    assert disc_sentences(disc, ENGLISH) == (
        "L4/L5: Disc degeneration, Pfirrmann grade 4 (70%). There is mild disc narrowing (91%, step measured). "
        "No disc bulging (66%). Not assessed: upper endplate defect, lower endplate defect, upper marrow change, "
        "lower marrow change, spondylolisthesis, central canal stenosis, disc herniation. "
        "Measured: disc height 5.0 mm, vertebral slip relative to endplate 3.2%, "
        "disc signal relative to CSF 0.21. Certainty of the level: 95%."
    )


def test_what_is_uncertain_is_told_so_in_findings_and_impression(study: GradedStudy) -> None:
    """Whether its probability is low, image and measurements disagree, or a measured grade rests on little."""
    stenosis = Grade(value=1, probabilities={}, basis=Basis.MEASURED, criterion="narrow", doubt=Doubt.UNSURE)
    grades = {
        Finding.PFIRRMANN: replace(pfirrmann(4), doubt=Doubt.UNSURE),
        Finding.DISC_NARROWING: narrowing(4, 0.41, Doubt.AT_ODDS),
        Finding.CENTRAL_CANAL_STENOSIS: stenosis,
        Finding.DISC_BULGING: replace(binary(0, 0.55), doubt=Doubt.UNSURE),
    }
    disc = replace(study.report.discs[4], grades=grades, measurements={})
    said = disc_sentences(disc, ENGLISH)
    assert "Pfirrmann grade 4 (70%, uncertain)" in said
    assert (
        "severe disc narrowing (41%, step measured, uncertain) and central canal stenosis (measured, uncertain)" in said
    )
    assert "No disc bulging (55%, uncertain)." in said
    assert sections(replace(study.report, discs=(disc,)), ENGLISH)[1].paragraphs == (
        "L4/L5: central canal stenosis (uncertain), Pfirrmann grade 4 (uncertain), severe disc narrowing (uncertain).",
    )


def test_a_modic_type_and_the_slices_that_were_looked_at_are_told(study: GradedStudy) -> None:
    type_2 = Grade(value=2, probabilities={}, basis=Basis.MEASURED, criterion="by T1 and T2")
    disc = replace(
        study.report.discs[4],
        grades={Finding.LOWER_MARROW_CHANGE: binary(1, 0.8)},
        modic_types={Finding.LOWER_MARROW_CHANGE: type_2},
        slices_used=(6, 7, 8),
    )
    said = disc_sentences(disc, ENGLISH)
    assert "There is lower marrow change (80%, Modic type 2 by T1 and T2)." in said
    assert "Slices graded: 7, 8, 9." in said
    words = " ".join(text(replace(study.report, discs=(disc,))).split())
    assert "The Modic type of a marrow change is measured, not learned: by T1 and T2." in words


def test_no_line_is_longer_than_a_page_is_wide(study: GradedStudy, document: Dataset) -> None:
    lines = [line for words in (text(study.report), *words_of(document)) for line in words.splitlines()]
    assert max(len(line) for line in lines) <= 100


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_line_parts_a_number_from_its_unit(study: GradedStudy, language: str) -> None:
    for filler in range(1, 60):  # so that every place of the paragraph comes to the end of a line
        longer = replace(study.report.discs[0], measurements={"x" * filler: 1.0, **study.report.discs[0].measurements})
        lines = text(replace(study.report, discs=(longer,)), language).splitlines()
        for line, following in pairwise(lines):
            unit = following.split()[0].rstrip(".,)") if following.strip() else ""
            is_number = line.split() and line.split()[-1].lstrip("(-").replace(",", ".").replace(".", "").isdecimal()
            assert not (is_number and unit in {"mm", "%", "degrees", "Grad"}), (line, following)


def test_the_sign_of_a_slip_and_the_side_of_a_marrow_change_are_explained_once(study: GradedStudy) -> None:
    words = " ".join(text(study.report).split())
    assert words.count("minus is behind it (retrolisthesis)") == 1
    assert words.count("Which side of the disc a marrow change is on is inferred") == 1
    plain = tuple(
        replace(disc, measurements={}, grades={Finding.PFIRRMANN: pfirrmann(4)}) for disc in study.report.discs
    )
    words = " ".join(text(replace(study.report, discs=plain)).split())
    assert "retrolisthesis" not in words
    assert "marrow change is on" not in words


def test_a_doubtful_level_is_told_in_findings_and_impression(study: GradedStudy) -> None:
    discs = tuple(replace(disc, level_confidence=0.4) for disc in study.report.discs)
    words = text(replace(study.report, discs=discs))
    assert words.count("L5/S1 (level uncertain): ") == 2


def test_a_measured_grading_is_told_as_measured_with_its_criterion_once(study: GradedStudy) -> None:
    words = " ".join(text(study.report).split())
    assert "central canal stenosis (measured)" in words
    assert words.count("(Steurer 2011)") == 1


def test_it_says_what_it_is_what_to_doubt_and_who_made_it(study: GradedStudy) -> None:
    words = " ".join(text(study.report).split())
    assert "RESEARCH USE ONLY - not for diagnosis. Made by a program; not verified by a person." in words
    assert "Slice gap of 8.0 mm between slices 9 and 10. The sacrum is only partly in view." in words
    assert "T1-weighted (TE 11 ms, TR 560 ms) (series 2.25.1009)." in words
    assert f"spinenode-spider 0.1.0, weights sha256 {'5a' * 32}." in words


def test_a_doubt_that_is_also_a_quality_sentence_is_said_once(study: GradedStudy) -> None:
    quality = (*study.report.quality, *study.report.spine.doubts)
    words = text(replace(study.report, quality=quality))
    assert words.count("The sacrum is only partly in view.") == 1


def test_a_single_slice_is_told_in_the_singular(study: GradedStudy) -> None:
    volume = study.report.volume
    lone = replace(volume, voxels=volume.voxels[:1], sources=volume.sources[:1])
    assert 'series "T2 TSE SAG", 1 sagittal slice.' in text(replace(study.report, volume=lone))


def test_no_patient_is_named_in_the_words(study: GradedStudy) -> None:
    words = text(study.report)
    assert not any(secret in words for secret in ("Müller", "TEST-1", "A-7", "1961"))


def test_the_object_is_an_unverified_basic_text_report(document: Dataset) -> None:
    assert document.SOPClassUID == BasicTextSRStorage
    assert document.ConceptNameCodeSequence[0].CodeValue == "18748-4"
    assert (document.VerificationFlag, document.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert "RESEARCH USE ONLY" in document.SeriesDescription


def test_each_finding_refers_to_the_disc_s_mid_slice(study: GradedStudy, document: Dataset) -> None:
    (findings,) = [i for i in document.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121070"]
    of_discs = findings.ContentSequence[: len(study.report.discs)]  # then the measurements of the whole spine
    for item, disc in zip(of_discs, study.report.discs, strict=True):
        (image,) = item.ContentSequence
        expected = study.report.volume.sources[disc.slice_index].sop_instance_uid
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == expected


def test_malformed_header_values_are_told_of_by_name() -> None:
    study = graded_study()
    study.source[0]["StudyDescription"].VR = "US"
    study.source[0]["StudyDescription"]._value = 5
    source = source_study.read_source(study.source, STUDY_UID)
    said = words_of(text_report(study.report, source, RUN).dataset)
    assert "Malformed source header values that were not copied: StudyDescription." in said


def test_a_declined_study_gets_a_text_report_with_the_reason(study: GradedStudy) -> None:
    (only,) = render_declined(DECLINED, study.source, RUN)
    assert only.kind is OutputKind.DECLINED_REPORT
    assert only.dataset.SOPInstanceUID not in {
        item.dataset.SOPInstanceUID for item in render(study.report, study.source, RUN)
    }
    assert "NOT GRADED" in only.dataset.SeriesDescription
    said = words_of(only.dataset)
    assert "Not graded: No sagittal T2 series of the lumbar spine" in said
    assert "axial (series 2.25.7)." in said
    assert "CurrentRequestedProcedureEvidenceSequence" not in only.dataset


def test_declining_in_plain_text_says_the_same() -> None:
    assert "Not graded: No sagittal T2 series of the lumbar spine" in text_declined(DECLINED)


def test_a_declined_study_without_a_uid_takes_that_of_its_images(study: GradedStudy) -> None:
    (only,) = render_declined(replace(DECLINED, study_instance_uid=""), study.source, RUN)
    assert only.dataset.StudyInstanceUID == STUDY_UID


def test_german_says_the_same_in_german(study: GradedStudy) -> None:
    words = " ".join(text(study.report, "de").split())
    assert "NUR FÜR FORSCHUNGSZWECKE - nicht zur Diagnose (RESEARCH USE ONLY)." in words
    assert (
        "L5/S1: zentrale Spinalkanalstenose, Pfirrmann-Grad 5, mäßige Höhenminderung der Bandscheibe, "
        "Markveränderung an der oberen Endplatte." in words
    )
    assert (
        "Zentrale Spinalkanalstenose ist gemessen, nicht gelernt: AP-Durchmesser des Duralsacks in der Medianebene auf "
        "Bandscheibenhöhe < 10 mm (Steurer 2011)." in words
    )
    assert "Bandscheibenhöhe 4,0 mm" in words
    assert "mäßige Höhenminderung der Bandscheibe (80 %, Stufe gemessen)" in words
    assert "Sicherheit der Höhenzuordnung: 94 %." in words


def test_the_object_names_its_language_and_our_own_headings_are_in_it(study: GradedStudy) -> None:
    wanted = Wanted(kinds=frozenset({OutputKind.TEXT_REPORT}), language="de")
    (only,) = render(study.report, study.source, RUN, wanted)
    language = only.dataset.ContentSequence[0].ConceptCodeSequence[0]
    assert (language.CodeValue, language.CodingSchemeDesignator) == ("de-DE", "RFC5646")
    headings = {
        item.ConceptNameCodeSequence[0].CodeValue: item.ConceptNameCodeSequence[0].CodeMeaning
        for item in only.dataset.ContentSequence
        if item.ValueType == "CONTAINER"
    }
    assert (headings["121070"], headings["121072"]) == ("Findings", "Impressions")  # the standard's, as it says them
    assert headings["H-DOUBT"] == "Gründe zur Vorsicht"


def test_words_that_the_source_s_character_set_lacks_are_spelt_out() -> None:
    study = graded_study()
    for instance in study.source:
        instance.PatientName, instance.ReferringPhysicianName = "Muller^Jorg", ""
        del instance.SpecificCharacterSet
    wanted = Wanted(kinds=frozenset({OutputKind.TEXT_REPORT}), language="de")
    (only,) = render(study.report, study.source, RUN, wanted)
    said = " ".join(words_of(only.dataset))
    assert "NUR FUER FORSCHUNGSZWECKE" in said.upper()
    assert said.isascii()
    assert "?" not in said


def test_a_declined_study_is_told_in_the_language_too(study: GradedStudy) -> None:
    (only,) = render_declined(DECLINED, study.source, RUN, "de")
    assert "Nicht beurteilt: No sagittal T2 series of the lumbar spine" in words_of(only.dataset)


def test_a_series_is_named_in_the_script_of_its_source() -> None:
    study = graded_study()
    for instance in study.source:
        instance.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        instance.PatientName, instance.ReferringPhysicianName = "Yamada^Tarou=山田^太郎=やまだ^たろう", ""
    named = replace(study.report, volume=replace(study.report.volume, series_description="T2 矢状断"))
    (only,) = render(named, study.source, RUN, Wanted(kinds=frozenset({OutputKind.TEXT_REPORT})))
    stream = BytesIO()
    only.dataset.save_as(stream, enforce_file_format=True)
    assert 'Graded: series "T2 矢状断", 15 sagittal slices.' in words_of(dcmread(BytesIO(stream.getvalue())))
