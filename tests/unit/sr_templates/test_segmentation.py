"""The Segmentation: each structure where it was outlined, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import highdicom
import numpy as np
import pytest
from pydicom import Dataset

from sr_templates.render import OutputKind, Wanted, render
from tests.report_factories import (
    FRAME_OF_REFERENCE_UID,
    MULTIFRAME_SOP_UID,
    RUN,
    SERIES_UID,
    SLICES,
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


def test_there_is_a_segment_for_each_disc_each_body_and_the_canal(dataset: Dataset) -> None:
    labels = [segment.SegmentLabel for segment in dataset.SegmentSequence]
    assert labels[:2] == ["T12/L1 disc", "L1/L2 disc"]
    assert labels[6:] == [*(f"L{n} vertebral body" for n in range(1, 6)), "Spinal canal"]
    codes = [segment.SegmentedPropertyTypeCodeSequence[0].CodeValue for segment in dataset.SegmentSequence]
    assert (codes[4], codes[6], codes[11]) == ("84020006", "66794005", "61853006")


def test_the_masks_have_the_size_of_what_was_segmented(dataset: Dataset) -> None:
    """An ellipse of 34 x 9 mm and a rectangle of 28 x 22 pixels, at 1.2 mm pixels, on five slices each."""
    masks = masks_of(dataset)
    disc_px = masks[:, :, :, 4].sum(axis=(1, 2))
    assert np.flatnonzero(disc_px).tolist() == [5, 6, 7, 8, 9]
    assert disc_px[7] * 1.2**2 == pytest.approx(np.pi / 4 * 34 * 9, rel=0.05)
    assert masks[7, :, :, 6].sum() == 22 * 28
    assert np.flatnonzero(masks[:, :, :, 11].any(axis=(1, 2))).tolist() == [6, 7, 8]


def test_the_masks_are_the_report_s_labels(study_in_any_layout: GradedStudy) -> None:
    masks = masks_of(segmentation_of(study_in_any_layout))
    labels = study_in_any_layout.report.segments.labels
    for number in range(1, 13):
        np.testing.assert_array_equal(masks[..., number - 1], labels == number)


def test_a_disc_is_where_it_is_in_the_source_slice(dataset: Dataset) -> None:
    _, row, column = list(disc_centers_voxel().values())[4]
    assert np.argwhere(masks_of(dataset)[7, :, :, 4]).mean(axis=0) == pytest.approx([row, column], abs=0.6)


def test_an_ungraded_disc_is_a_segment_too(study: GradedStudy) -> None:
    """One that the image's edge cuts is found, and not graded."""
    fewer = replace(study, report=replace(study.report, discs=study.report.discs[1:]))
    assert segmentation_of(fewer).SegmentSequence[0].SegmentLabel == "T12/L1 disc"


def masks_of(dataset: Dataset) -> np.ndarray:
    """(slices, rows, columns, segments)"""
    image = highdicom.seg.Segmentation.from_dataset(dataset)
    return image.get_pixels_by_source_instance(
        [f"{SERIES_UID}.{n}" for n in range(1, SLICES + 1)],
        segment_numbers=range(1, 13),
        assert_missing_frames_are_empty=True,
    )


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
    assert named == {(MULTIFRAME_SOP_UID, frame) for frame in range(5, 11)}


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
    assert segmentation_of(graded_study(Layout.OBLIQUE)).NumberOfFrames == 6 * 5 + 5 * 5 + 3
