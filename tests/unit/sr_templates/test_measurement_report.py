"""The Comprehensive 3D SR: what stands in it, and where its outlines lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from inference.anatomy import DiscLevel
from inference.grades import TITLES, Finding
from sr_templates import codes, source_study
from sr_templates.measurement_report import measurement_reports, outline_image_coordinates
from sr_templates.render import Rendered, SrClass
from tests.report_factories import (
    COLUMNS,
    LEVELS,
    MULTIFRAME_SOP_UID,
    ROWS,
    RUN,
    SERIES_UID,
    GradedStudy,
    Layout,
    disc_centers_voxel,
    graded_study,
    pfirrmann,
    with_grades,
)


def report_of(study: GradedStudy) -> Dataset:
    source = source_study.read_source(study.source, study.report.study_instance_uid)
    return measurement_reports(study.report, source, RUN, [SrClass.COMPREHENSIVE_3D])[0].dataset


@pytest.fixture(scope="module")
def report(rendered: tuple[Rendered, ...]) -> Dataset:
    return rendered[0].dataset


def containers(dataset: Dataset, code: str) -> list[Dataset]:
    return [item for item in dataset.ContentSequence if name(item) == code]


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def groups(dataset: Dataset) -> list[Dataset]:
    (measurements,) = containers(dataset, "126010")
    return list(measurements.ContentSequence)


def items(parent: Dataset, value_type: str) -> list[Dataset]:
    return [item for item in parent.get("ContentSequence", []) if item.ValueType == value_type]


def child(parent: Dataset, code: str) -> Dataset:
    (found,) = [item for item in parent.ContentSequence if name(item) == code]
    return found


def answer(group: Dataset, finding: Finding) -> Dataset:
    (found,) = [item for item in items(group, "CODE") if name(item) == codes.FINDING_NAME[finding].value]
    return found


def number(item: Dataset) -> float:
    return float(item.MeasuredValueSequence[0].NumericValue)


def test_it_is_an_unverified_preliminary_imaging_measurement_report(report: Dataset) -> None:
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.Modality, report.VerificationFlag, report.PreliminaryFlag) == ("SR", "UNVERIFIED", "PRELIMINARY")
    assert "RESEARCH USE ONLY" in report.SeriesDescription


def test_there_is_one_group_per_disc_head_to_foot(report: Dataset) -> None:
    sites = [child(group, "363698007").ConceptCodeSequence[0].CodeMeaning for group in groups(report)]
    assert sites == [f"{level.value} disc" for level in LEVELS]
    assert {group.ContentTemplateSequence[0].TemplateIdentifier for group in groups(report)} == {"1410"}


def test_the_pfirrmann_grade_is_the_first_number_and_four_numbers_lead_a_group(report: Dataset) -> None:
    for group, grade in zip(groups(report), (1, 2, 2, 2, 4, 5), strict=True):
        names = [name(item) for item in items(group, "NUM")]
        assert names == ["PFIRRMANN", "DISC-HEIGHT", "CANAL-AP", "SLIP"]
        assert number(items(group, "NUM")[0]) == grade


def test_a_slip_next_to_nothing_is_not_written_as_the_number_that_ohif_shows_as_none(study: GradedStudy) -> None:
    """OHIF 3.13 prints an empty text for the number 0, and "0.00 mm" for 0.003."""

    def written(slip_mm: float) -> float:
        discs = tuple(replace(disc, measurements={"slip_mm": slip_mm}) for disc in study.report.discs)
        group = groups(report_of(replace(study, report=replace(study.report, discs=discs))))[0]
        return number(child(group, "SLIP"))

    assert [written(slip_mm) for slip_mm in (0.00312, -0.0049, 0.4249, 0.0)] == [0.003, -0.005, 0.42, 0.0]


def test_every_finding_is_answered_in_every_group(report: Dataset) -> None:
    for group in groups(report):
        assert {finding for finding in Finding if answer(group, finding)} == set(Finding)


def test_a_finding_without_a_grade_is_said_to_be_not_assessed(report: Dataset) -> None:
    top, *others = groups(report)
    assert answer(top, Finding.SPONDYLOLISTHESIS).ConceptCodeSequence[0].CodeMeaning == "Not assessed"
    assert {answer(g, Finding.SPONDYLOLISTHESIS).ConceptCodeSequence[0].CodeMeaning for g in others} == {"Absent"}


def test_what_was_not_assessed_makes_the_document_partial(report: Dataset) -> None:
    assert report.CompletionFlag == "PARTIAL"
    assert report.CompletionFlagDescription == "Not assessed: spondylolisthesis"


def test_a_study_with_all_eight_gradings_makes_a_complete_document(study: GradedStudy) -> None:
    full = with_grades(study, DiscLevel.T12_L1, study.report.discs[1].grades)
    document = report_of(full)
    assert document.CompletionFlag == "COMPLETE"
    assert "CompletionFlagDescription" not in document


def test_a_certainty_hangs_beneath_the_finding_that_it_is_of(report: Dataset) -> None:
    bulging = answer(groups(report)[5], Finding.DISC_BULGING)
    certainty = child(bulging, "111012")
    assert certainty.RelationshipType == "HAS PROPERTIES"
    assert number(certainty) == 80.0


def test_the_pfirrmann_answer_holds_the_probability_of_each_grade(report: Dataset) -> None:
    graded = answer(groups(report)[4], Finding.PFIRRMANN)
    chances = {name(item): number(item) for item in items(graded, "NUM") if name(item).startswith("P-")}
    assert chances == {f"P-PFIRRMANN-{g}": 0.7 if g == 4 else 0.075 for g in range(1, 6)}


def test_a_measured_grade_is_marked_with_its_criterion_and_has_no_certainty(report: Dataset) -> None:
    stenosis = answer(groups(report)[5], Finding.CENTRAL_CANAL_STENOSIS)
    assert stenosis.ConceptCodeSequence[0].CodeMeaning == "Present"
    assert child(stenosis, "370129005").ConceptCodeSequence[0].CodeMeaning == codes.PUBLISHED_CRITERION.meaning
    assert "< 10 mm (Steurer 2011)" in child(stenosis, "121106").TextValue
    assert "111012" not in [name(item) for item in stenosis.ContentSequence]


def test_measurements_hang_beneath_what_they_belong_to(report: Dataset) -> None:
    group = groups(report)[2]
    height = child(group, "DISC-HEIGHT")
    assert [(name(i), i.RelationshipType) for i in height.ContentSequence] == [
        ("370129005", "HAS CONCEPT MOD"),
        ("HEIGHT-ANTERIOR", "INFERRED FROM"),
    ]
    assert number(height) == 7.0
    assert number(child(answer(group, Finding.SPONDYLOLISTHESIS), "SLIP-PERCENT")) == 2.4
    assert number(child(answer(group, Finding.PFIRRMANN), "DISC-CSF")) == 0.4
    assert number(child(answer(group, Finding.DISC_NARROWING), "HEIGHT-INDEX")) == pytest.approx(7 / 34, abs=0.001)


def test_the_part_of_a_height_that_was_not_measured_leads_the_group(study: GradedStudy) -> None:
    discs = tuple(replace(disc, measurements={"disc_height_anterior_mm": 6.5}) for disc in study.report.discs)
    alone = replace(study, report=replace(study.report, discs=discs))
    assert [name(i) for i in items(groups(report_of(alone))[0], "NUM")] == ["PFIRRMANN", "HEIGHT-ANTERIOR"]


def test_the_outline_is_closed_and_lies_where_the_disc_was_drawn(report: Dataset) -> None:
    group = groups(report)[3]
    (scoord,) = items(group, "SCOORD")
    points = np.array(scoord.GraphicData).reshape(-1, 2)
    slice_index, row, column = disc_centers_voxel()[LEVELS[3]]
    assert scoord.GraphicType == "POLYLINE"
    np.testing.assert_array_equal(points[0], points[-1])
    np.testing.assert_allclose(points[:-1].mean(axis=0), [column + 0.5, row + 0.5], atol=1e-4)
    np.testing.assert_allclose(points[0], [column + 0.5 + 17 / 1.2, row + 0.5], atol=1e-4)  # posterior end
    image = scoord.ContentSequence[0].ReferencedSOPSequence[0]
    assert image.ReferencedSOPInstanceUID == f"{SERIES_UID}.{slice_index + 1}"
    assert "ReferencedFrameNumber" not in image


def test_outlines_are_in_the_pixels_of_the_source_even_where_it_is_flipped() -> None:
    study = graded_study(Layout.FLIPPED)
    disc = study.report.discs[3]
    _, row, column = disc_centers_voxel()[disc.level]
    points = outline_image_coordinates(study.report, disc)
    np.testing.assert_allclose(points[:-1].mean(axis=0), [COLUMNS - 0.5 - column, ROWS - 0.5 - row], atol=1e-6)


def test_outlines_of_an_oblique_series_are_found_again(study_in_any_layout: GradedStudy) -> None:
    report = study_in_any_layout.report
    for disc in report.discs:
        points = outline_image_coordinates(report, disc)[:-1]
        voxel = np.column_stack([np.full(len(points), disc.slice_index), points[:, 1] - 0.5, points[:, 0] - 0.5])
        np.testing.assert_allclose(report.volume.to_patient(voxel), disc.outline_lps_mm, atol=1e-6)


def test_an_outline_never_leaves_the_image() -> None:
    study = graded_study()
    shifted = study.report.discs[0].outline_lps_mm + np.array([0.0, 500.0, 500.0])
    disc = replace(study.report.discs[0], outline_lps_mm=shifted)
    points = outline_image_coordinates(study.report, disc)
    assert points.min() >= 0.0
    assert points[:, 0].max() <= COLUMNS
    assert points[:, 1].max() <= ROWS


def test_a_multi_frame_source_is_referenced_by_frame() -> None:
    study = graded_study(multiframe=True)
    image = items(groups(report_of(study))[0], "SCOORD")[0].ContentSequence[0].ReferencedSOPSequence[0]
    assert image.ReferencedSOPInstanceUID == MULTIFRAME_SOP_UID
    assert image.ReferencedFrameNumber == study.report.discs[0].slice_index + 1


def test_tracking_identifiers_outlive_new_weights(study: GradedStudy) -> None:
    def tracking(dataset: Dataset) -> Sequence[tuple[str, str]]:
        return [(child(g, "112039").TextValue, child(g, "112040").UID) for g in groups(dataset)]

    retrained = replace(study, report=replace(study.report, model=replace(study.report.model, sha256="0" * 64)))
    first, second = tracking(report_of(study)), tracking(report_of(retrained))
    assert first == second
    assert [identifier for identifier, _ in first] == [f"{level.value} disc" for level in LEVELS]
    assert len({uid for _, uid in first}) == 6


def test_a_doubtful_level_is_told_with_the_identifier_and_its_certainty(study: GradedStudy) -> None:
    discs = tuple(replace(disc, level_confidence=0.4) for disc in study.report.discs)
    group = groups(report_of(replace(study, report=replace(study.report, discs=discs))))[4]
    assert child(group, "112039").TextValue == "L4/L5 disc (level uncertain)"
    assert number(child(child(group, "363698007"), "LEVEL-CERTAINTY")) == 40.0


def test_reasons_to_doubt_are_in_the_report(report: Dataset) -> None:
    (notes,) = containers(report, "C0034375")
    words = [item.TextValue for item in items(notes, "TEXT")]
    assert words[0].startswith("RESEARCH USE ONLY")
    assert words[1:] == ["Slice gap of 8.0 mm between slices 9 and 10.", "The sacrum is only partly in view."]


@pytest.mark.parametrize("quality", [(), ("Noisy images.",)])
@pytest.mark.parametrize("doubts", [(), ("The sacrum is only partly in view.",)])
def test_quality_is_coded_beside_the_comments(
    study: GradedStudy, quality: tuple[str, ...], doubts: tuple[str, ...]
) -> None:
    spine = replace(study.report.spine, doubts=doubts)
    flagged = replace(study, report=replace(study.report, quality=quality, spine=spine))
    (notes,) = containers(report_of(flagged), "C0034375")
    said = {name(item): item.ConceptCodeSequence[0].CodeValue for item in items(notes, "CODE")}
    assert said == {
        "111101": "FLAGGED" if quality else "NOT-FLAGGED",
        "LEVEL-NAMING": "FLAGGED" if doubts else "NOT-FLAGGED",
    }


def everything(item: Dataset) -> list[Dataset]:
    return [part for child in item.get("ContentSequence", []) for part in (child, *everything(child))]


def test_every_measurement_has_its_method(report: Dataset) -> None:
    measured = {quantity.name.value for quantity in (*codes.QUANTITIES.values(), *codes.OF_WHOLE_SPINE.values())}
    numbers = [item for item in everything(report) if item.ValueType == "NUM" and name(item) in measured]
    assert len(numbers) == 6 * 12 + 1
    for item in numbers:
        method = child(item, "370129005")
        assert method.RelationshipType == "HAS CONCEPT MOD"
        assert method.ConceptCodeSequence[0].CodeMeaning == codes.METHODS[name(item)].meaning


def test_every_listed_quantity_has_a_method() -> None:
    listed = (*codes.QUANTITIES.values(), *codes.OF_WHOLE_SPINE.values())
    assert [quantity.title for quantity in listed if quantity.method is None] == []
    assert set(codes.METHODS) == {quantity.name.value for quantity in listed}


def test_the_lordosis_of_the_whole_spine_is_a_number_in_no_disc_s_group(report: Dataset) -> None:
    (derived,) = containers(report, "126011")
    (lordosis,) = derived.ContentSequence
    assert (name(lordosis), number(lordosis)) == ("LUMBAR-LORDOSIS", 47.3)
    assert lordosis.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "deg"
    assert {name(group) for group in groups(report)} == {"125007"}


def test_without_a_measurement_of_the_whole_spine_there_is_no_empty_container(study: GradedStudy) -> None:
    document = report_of(replace(study, report=replace(study.report, measurements={})))
    assert containers(document, "126011") == []


def test_every_group_carries_the_coordinates_that_ohif_needs(report: Dataset) -> None:
    assert [len(items(group, "SCOORD")) for group in groups(report)] == [1] * 6


def test_the_algorithm_is_named_with_its_weights(report: Dataset) -> None:
    group = groups(report)[0]
    assert child(group, "111001").TextValue == "spinenode-spider"
    assert f"weights sha256 {'5a' * 32}" in [i.TextValue for i in items(group, "TEXT") if name(i) == "111002"]
    assert "122405" not in [name(item) for item in group.ContentSequence]


def test_only_the_images_with_outlines_are_listed(report: Dataset) -> None:
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {item.ReferencedSOPInstanceUID for item in evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence}
    assert listed == {f"{SERIES_UID}.7", f"{SERIES_UID}.8"}  # mid-slices 6 and 7, counted from 0


def test_a_disc_without_a_pfirrmann_grade_still_has_its_group(study: GradedStudy) -> None:
    group = groups(report_of(with_grades(study, DiscLevel.L4_L5, {})))[4]
    assert answer(group, Finding.PFIRRMANN).ConceptCodeSequence[0].CodeMeaning == "Not assessed"
    assert name(items(group, "NUM")[0]) == "DISC-HEIGHT"


def test_grades_read_back_with_highdicom_are_those_of_the_report(study: GradedStudy, report: Dataset) -> None:
    read = hd.sr.Comprehensive3DSR.from_dataset(report).content
    found = read.get_planar_roi_measurement_groups()
    assert len(found) == 6
    for group, disc in zip(found, study.report.discs, strict=True):
        (grade,) = group.get_measurements(name=codes.FINDING_NAME[Finding.PFIRRMANN])
        assert grade.value == disc.grades[Finding.PFIRRMANN].value
        assert group.finding_sites[0].value.meaning == f"{disc.level.value} disc"


def test_titles_of_findings_are_the_names_of_their_codes() -> None:
    assert {finding: code.meaning for finding, code in codes.FINDING_NAME.items()} == dict(TITLES)


def test_other_grades_change_the_content(study: GradedStudy) -> None:
    other = with_grades(study, DiscLevel.L5_S1, {Finding.PFIRRMANN: pfirrmann(2)})
    assert number(items(groups(report_of(other))[5], "NUM")[0]) == 2
