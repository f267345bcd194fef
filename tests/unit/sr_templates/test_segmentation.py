"""The Segmentation: each structure where it was outlined, and nowhere else."""

from __future__ import annotations

import highdicom
import numpy as np
import pytest
from pydicom import Dataset

from sr_templates.render import OutputKind, Wanted, render
from tests.report_factories import (
    COLUMNS,
    FRAME_OF_REFERENCE_UID,
    MULTIFRAME_SOP_UID,
    ROWS,
    RUN,
    SERIES_UID,
    GradedStudy,
    Layout,
    disc_centers_voxel,
    graded_study,
)

ONLY = Wanted(kinds=frozenset({OutputKind.SEGMENTATION}))


def segmentation_of(study: GradedStudy) -> Dataset:
    (only,) = render(study.report, study.source, RUN, ONLY)
    return only.dataset


@pytest.fixture(scope="module")
def dataset(study: GradedStudy) -> Dataset:
    return segmentation_of(study)


def test_there_is_a_segment_for_each_disc_and_each_body(dataset: Dataset) -> None:
    labels = [segment.SegmentLabel for segment in dataset.SegmentSequence]
    assert labels[:2] == ["T12/L1 disc", "L1/L2 disc"]
    assert labels[6:] == [f"L{n} vertebral body" for n in range(1, 6)]
    codes = [segment.SegmentedPropertyTypeCodeSequence[0].CodeValue for segment in dataset.SegmentSequence]
    assert (codes[4], codes[6]) == ("84020006", "66794005")


def test_the_masks_have_the_size_of_what_was_outlined(dataset: Dataset) -> None:
    """An ellipse of 34 x 9 mm and a rectangle of 28 x 22 pixels, at 1.2 mm pixels."""
    image = highdicom.seg.Segmentation.from_dataset(dataset)
    masks = image.get_pixels_by_source_instance([f"{SERIES_UID}.{n}" for n in (7, 8)], segment_numbers=range(1, 12))
    assert masks.shape == (2, ROWS, COLUMNS, 11)
    disc_px = masks[1, :, :, 4].sum()
    assert disc_px * 1.2**2 == pytest.approx(np.pi / 4 * 34 * 9, rel=0.15)
    assert masks[1, :, :, 6].sum() == pytest.approx(23 * 29, rel=0.05)  # edges count in
    assert masks[0, :, :, 4].sum() == 0


def test_a_disc_is_where_it_is_in_the_source_slice(dataset: Dataset) -> None:
    image = highdicom.seg.Segmentation.from_dataset(dataset)
    mask = image.get_pixels_by_source_instance([f"{SERIES_UID}.8"], segment_numbers=[5])[0, :, :, 0]
    _, row, column = list(disc_centers_voxel().values())[4]
    assert np.argwhere(mask).mean(axis=0) == pytest.approx([row, column], abs=0.6)


def test_geometry_is_that_of_the_source(study_in_any_layout: GradedStudy) -> None:
    dataset = segmentation_of(study_in_any_layout)
    assert dataset.FrameOfReferenceUID == FRAME_OF_REFERENCE_UID
    shared = dataset.SharedFunctionalGroupsSequence[0]
    first = study_in_any_layout.source[0]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == pytest.approx(
        list(first.ImageOrientationPatient), abs=1e-5
    )
    positions = {
        source.SOPInstanceUID: [float(v) for v in source.ImagePositionPatient] for source in study_in_any_layout.source
    }
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert list(frame.PlanePositionSequence[0].ImagePositionPatient) == pytest.approx(positions[uid], abs=1e-3)


def test_frames_of_a_multi_frame_source_are_named() -> None:
    dataset = segmentation_of(graded_study(multiframe=True))
    named = {
        (item.ReferencedSOPInstanceUID, int(item.ReferencedFrameNumber))
        for frame in dataset.PerFrameFunctionalGroupsSequence
        for item in frame.DerivationImageSequence[0].SourceImageSequence
    }
    assert named == {(MULTIFRAME_SOP_UID, 7), (MULTIFRAME_SOP_UID, 8)}


def test_the_tracking_uids_are_those_of_the_measurement_report(study: GradedStudy, dataset: Dataset) -> None:
    report = render(study.report, study.source, RUN)[0].dataset
    assert [segment.TrackingUID for segment in dataset.SegmentSequence][:6] == _tracking_uids(report)


def _tracking_uids(parent: Dataset) -> list[str]:
    found = []
    for item in parent.get("ContentSequence", []):
        if item.ValueType == "UIDREF" and item.ConceptNameCodeSequence[0].CodeValue == "112040":
            found.append(item.UID)
        found += _tracking_uids(item)
    return found


def test_patient_and_study_are_the_source_s_own(study: GradedStudy, dataset: Dataset) -> None:
    assert dataset.PatientName == study.source[0].PatientName
    assert dataset.StudyDescription == "MR LWS"
    assert dataset.Manufacturer == "spinenode"
    assert [item.Manufacturer for item in dataset.ContributingEquipmentSequence] == ["spinenode"]


def test_oblique_slices_are_held(study: GradedStudy) -> None:
    assert segmentation_of(graded_study(Layout.OBLIQUE)).NumberOfFrames == 11
