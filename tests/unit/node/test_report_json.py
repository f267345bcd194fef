"""The contract `spinenode.report/2`: what `spinenode grade --json` writes."""

from __future__ import annotations

import json

import pytest

from inference.grades import SPINENET_EIGHT, Finding
from inference.report import Declined, RejectedSeries
from node import report_json
from tests.report_factories import LEVELS, MODEL, SERIES_UID, STUDY_UID, Layout, disc_centers_voxel, graded_study


def test_a_graded_study_has_exactly_the_keys_of_the_contract() -> None:
    answer = report_json.of_report(graded_study().report, "some/folder")

    assert list(answer) == [
        *("schema", "input", "status", "reason", "series", "rejected_series", "model", "quality"),
        *("discs", "vertebrae", "measurements", "timing_s"),
    ]
    assert answer["schema"] == "spinenode.report/2"
    assert (answer["input"], answer["status"], answer["reason"]) == ("some/folder", "graded", None)
    assert answer["series"] == {"series_instance_uid": SERIES_UID, "description": "T2 TSE SAG"}
    assert answer["rejected_series"] == [
        {"series_instance_uid": "2.25.1009", "reason": "T1-weighted (TE 11 ms, TR 560 ms)"}
    ]
    assert answer["model"] == {"name": MODEL.name, "version": MODEL.version, "sha256": MODEL.sha256}


@pytest.mark.parametrize("layout", [Layout.STRAIGHT, Layout.OBLIQUE])
def test_rows_and_columns_are_those_of_the_source_image(layout: Layout) -> None:
    """The factory's discs lie at known voxels; the JSON must give these back, 0-based."""
    answer = report_json.of_report(graded_study(layout).report, "x")

    for disc, level in zip(answer["discs"], LEVELS, strict=True):
        slice_index, row, column = disc_centers_voxel()[level]
        assert disc["level"] == level.value
        assert disc["sop_instance_uid"] == f"{SERIES_UID}.{slice_index + 1}"
        assert disc["frame"] == 1
        assert disc["center"]["row"] == pytest.approx(row, abs=0.01)
        assert disc["center"]["column"] == pytest.approx(column, abs=0.01)


def test_a_frame_of_a_multiframe_image_is_named_by_its_1_based_number() -> None:
    disc = report_json.of_report(graded_study(multiframe=True).report, "x")["discs"][0]

    assert disc["frame"] == disc_centers_voxel()[LEVELS[0]][0] + 1


def test_each_grade_says_its_probabilities_and_its_basis() -> None:
    grades = report_json.of_report(graded_study().report, "x")["discs"][5]["grades"]

    assert {finding.value for finding in SPINENET_EIGHT} <= set(grades)
    assert grades["pfirrmann"]["value"] == 5
    assert grades["pfirrmann"]["probabilities"] == {"1": 0.075, "2": 0.075, "3": 0.075, "4": 0.075, "5": 0.7}
    assert grades["pfirrmann"]["basis"] == "learned"
    assert grades["central_canal_stenosis"]["basis"] == "measured"
    assert "10 mm" in grades["central_canal_stenosis"]["criterion"]


def test_a_finding_that_was_not_assessed_is_absent_rather_than_zero() -> None:
    grades = report_json.of_report(graded_study().report, "x")["discs"][0]["grades"]

    assert Finding.SPONDYLOLISTHESIS.value not in grades


def test_a_declined_study_keeps_the_reasons_for_every_series() -> None:
    declined = Declined(
        study_instance_uid=STUDY_UID,
        reason="No T2 sagittal series of the lumbar spine.",
        rejected=(RejectedSeries(series_instance_uid="2.25.7", reason="axial"),),
        model=MODEL,
    )

    answer = report_json.of_declined(declined, "x")

    assert (answer["status"], answer["reason"]) == ("declined", declined.reason)
    assert answer["rejected_series"] == [{"series_instance_uid": "2.25.7", "reason": "axial"}]
    assert (answer["discs"], answer["vertebrae"], answer["series"]) == ([], [], None)


def test_every_answer_is_one_line_of_json() -> None:
    line = json.dumps(report_json.of_report(graded_study(Layout.FLIPPED).report, "x"))

    assert "\n" not in line
    assert json.loads(line)["discs"]
