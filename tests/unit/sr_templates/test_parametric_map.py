"""The Parametric Map holds the numbers of the evidence, where they are, and says what they are of."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset

from inference.grades import Finding
from inference.report import Method
from sr_templates import codes
from sr_templates.render import OutputKind, Wanted, render
from tests.report_factories import COLUMNS, ROWS, RUN, SERIES_UID, SLICES, GradedStudy, graded_study

ONLY = Wanted(kinds=frozenset({OutputKind.PARAMETRIC_MAP}))


def maps_of(study: GradedStudy) -> list[Dataset]:
    return [item.dataset for item in render(study.report, study.source, RUN, ONLY)]


@pytest.fixture(scope="module")
def maps(study: GradedStudy) -> list[Dataset]:
    return maps_of(study)


def test_there_is_one_for_each_abnormal_finding_with_evidence(maps: list[Dataset]) -> None:
    said = [item.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].LUTLabel for item in maps]
    assert said == ["DISC_NARROWING", "PFIRRMANN"]
    assert [item.SeriesDescription for item in maps] == [
        "RESEARCH USE ONLY Evidence: Disc narrowing",
        "RESEARCH USE ONLY Evidence: Pfirrmann grade",
    ]
    assert len({item.SeriesInstanceUID for item in maps}) == 2


def test_the_numbers_are_those_of_the_evidence_on_the_slices_they_lie_on(
    study: GradedStudy, maps: list[Dataset]
) -> None:
    abnormal = [disc.evidence[0] for disc in study.report.discs[4:]]
    assert {evidence.finding for evidence in abnormal} == {Finding.PFIRRMANN}
    values = np.frombuffer(maps[1].FloatPixelData, np.float32).reshape(-1, ROWS, COLUMNS)
    frames = maps[1].PerFrameFunctionalGroupsSequence
    assert len(frames) == SLICES
    for plane, frame in zip(values, frames, strict=True):
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        index = int(uid.removeprefix(f"{SERIES_UID}.")) - 1
        for evidence in abnormal:
            first, row, column = evidence.first_voxel
            if first <= index < first + 9:
                here = plane[row : row + 25, column : column + 33]
                np.testing.assert_array_equal(here >= evidence.values[index - first], True)
            else:
                assert plane.max() == 0.0
    assert values.max() == pytest.approx(1.0, abs=0.01)


def test_each_method_has_a_concept_of_its_own() -> None:
    assert len({codes.EVIDENCE_METHOD[method] for method in Method}) == len(Method)
    assert codes.EVIDENCE_METHOD[Method.GRADIENT_SALIENCY].scheme_designator == "DCM"


def test_without_abnormal_findings_there_is_none(study: GradedStudy) -> None:
    from dataclasses import replace

    calm = tuple(replace(disc, evidence=()) for disc in study.report.discs)
    assert maps_of(replace(study, report=replace(study.report, discs=calm))) == []


def test_it_is_for_research(maps: list[Dataset]) -> None:
    assert {item.ContentQualification for item in maps} == {"RESEARCH"}


def test_frames_run_along_the_normal_as_viewers_sort_the_source(study_in_any_layout: GradedStudy) -> None:
    """Frame n is laid over slice n of the source by OHIF, whose slices run along row x column direction."""
    for item in maps_of(study_in_any_layout):
        orientation = item.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
        normal = np.cross(*np.array(orientation, float).reshape(2, 3))
        frames = item.PerFrameFunctionalGroupsSequence
        along = [np.array(f.PlanePositionSequence[0].ImagePositionPatient, float) @ normal for f in frames]
        np.testing.assert_allclose(np.diff(along), 4.0, atol=1e-3)


def test_a_multi_frame_source_is_referred_to_by_frame() -> None:
    (first, _) = maps_of(graded_study(multiframe=True))
    numbers = [
        int(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
        for frame in first.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(numbers) == list(range(1, SLICES + 1))
