"""Captures as one object, and captures that say where in the patient they lie."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage

from sr_templates.phrases import phrases
from sr_templates.render import CaptureForm, OutputKind, Wanted, render
from sr_templates.secondary_capture import pages
from sr_templates.slice_page import HEADER, MARGIN, PICTURE_MAX
from sr_templates.view import make_view
from tests.report_factories import FRAME_OF_REFERENCE_UID, RUN, GradedStudy, graded_study

EN = phrases("en")

CAPTURES = frozenset({OutputKind.SECONDARY_CAPTURE})


def captures(study: GradedStudy, **wanted: object) -> list[Dataset]:
    return [
        item.dataset
        for item in render(study.report, study.source, RUN, Wanted(kinds=CAPTURES, **wanted))  # type: ignore[arg-type]
    ]


def test_multi_frame_captures_are_one_object_with_the_same_pages(study: GradedStudy) -> None:
    (whole,) = captures(study, capture_forms=(CaptureForm.MULTI_FRAME,))
    assert whole.SOPClassUID == MultiFrameTrueColorSecondaryCaptureImageStorage
    shown = list(pages(study.report, EN, "Made 2026-03-14 15:09 UTC."))
    frames = whole.pixel_array
    assert whole.NumberOfFrames == len(shown) == len(frames)
    for frame, page in zip(frames, shown, strict=True):
        rows, columns = page.pixels.shape[:2]
        np.testing.assert_array_equal(frame[:rows, :columns], page.pixels)
    assert list(whole.PageNumberVector) == list(range(1, len(shown) + 1))


def test_both_forms_are_alternatives_with_uids_of_their_own(study: GradedStudy) -> None:
    both = captures(study, capture_forms=tuple(CaptureForm))
    assert len({item.SOPInstanceUID for item in both}) == len(both) == len(list(pages(study.report, EN))) + 1


def test_a_slice_s_geometry_puts_each_outline_where_it_was_found(study_in_any_layout: GradedStudy) -> None:
    """From a disc's centre to a pixel by the attributes of Image Plane, and by the drawing: the same place."""
    report = study_in_any_layout.report
    placed = [item for item in captures(study_in_any_layout, capture_geometry=True) if "ImagePositionPatient" in item]
    assert len(placed) == 7
    view = make_view(report, PICTURE_MAX, 920)
    for item in placed:
        assert item.FrameOfReferenceUID == FRAME_OF_REFERENCE_UID
        origin = np.array(item.ImagePositionPatient, float)
        along_row, along_column = np.array(item.ImageOrientationPatient, float).reshape(2, 3)
        for disc in report.discs:
            offset = disc.center_lps_mm - origin
            x = offset @ along_row / item.PixelSpacing[1]
            y = offset @ along_column / item.PixelSpacing[0]
            drawn = view.pixels(disc.center_lps_mm) + np.array([MARGIN - 0.5, HEADER - 0.5])
            assert (x, y) == pytest.approx(tuple(drawn), abs=0.05)


def test_the_planes_are_a_slice_apart(study: GradedStudy) -> None:
    placed = [item for item in captures(study, capture_geometry=True) if "ImagePositionPatient" in item]
    positions = np.array([item.ImagePositionPatient for item in placed], float)
    np.testing.assert_allclose(np.linalg.norm(np.diff(positions, axis=0), axis=1), 4.0, atol=1e-3)


def test_montages_have_no_place_and_nor_does_anything_unless_wanted(study: GradedStudy) -> None:
    summary, *_, evidence = captures(study, capture_geometry=True)
    assert "ImagePositionPatient" not in summary
    assert "ImagePositionPatient" not in evidence
    assert not any("FrameOfReferenceUID" in item for item in captures(study))


def test_a_source_without_a_frame_of_reference_gives_captures_without_geometry() -> None:
    study = graded_study()
    for instance in study.source:
        del instance.FrameOfReferenceUID
    assert not any("ImagePositionPatient" in item for item in captures(study, capture_geometry=True))
