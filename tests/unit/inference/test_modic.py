"""Modic types by T1 and T2, and the T1 series that they need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference import modic, t1_series
from inference.grades import Basis, Doubt, Finding, Grade, Grades
from inference.phantom import lumbar_study
from inference.selection import choose
from inference.volume import SagittalVolume
from tests.spine_factory import BONE, HEIGHT_MM, drawn_spine

UPPER, LOWER = Finding.UPPER_MARROW_CHANGE, Finding.LOWER_MARROW_CHANGE


def said(**values: int) -> Grades:
    return {Finding(name): Grade(value=v, probabilities={}, basis=Basis.LEARNED) for name, v in values.items()}


CHANGED = [said(), said(upper_marrow_change=1, lower_marrow_change=0), said()]


def beside_the_middle_disc(volume: SagittalVolume, signal: float) -> SagittalVolume:
    """A band of 8 mm above the middle disc, 0.5 mm pixels, has another signal."""
    row = round((volume.voxels.shape[1] - 1) / 2 - HEIGHT_MM)
    voxels = volume.voxels.copy()
    band = voxels[:, row - 16 : row]
    band[band == BONE] = signal
    return replace(volume, voxels=voxels)


@pytest.mark.parametrize(
    ("on_t2", "on_t1", "expected"),
    [(1.5, 0.6, 1), (1.3, 1.4, 2), (1.0, 1.4, 2), (0.5, 0.5, 3), (1.0, 1.0, None), (0.6, 1.4, None)],
)
def test_the_type_is_told_by_what_both_images_show(on_t2: float, on_t1: float, expected: int | None) -> None:
    drawn = drawn_spine()
    t2, t1 = (beside_the_middle_disc(drawn.volume, BONE * share) for share in (on_t2, on_t1))
    types = modic.types(t2, t1, drawn.spine, CHANGED)
    assert [dict(each) for each in (types[0], types[2])] == [{}, {}]
    assert {finding: grade.value for finding, grade in types[1].items()} == (
        {} if expected is None else {UPPER: expected}
    )
    assert all(grade.basis is Basis.MEASURED and "Modic 1988" in grade.criterion for grade in types[1].values())


def test_only_a_side_with_a_marrow_change_has_a_type() -> None:
    drawn = drawn_spine()
    bright = beside_the_middle_disc(drawn.volume, 1.4 * BONE)
    lower_only = [said(), said(upper_marrow_change=0, lower_marrow_change=1), said()]
    assert modic.types(bright, bright, drawn.spine, lower_only)[1] == {}


def test_t1_may_be_cut_otherwise_as_long_as_it_lies_in_the_same_frame_of_reference() -> None:
    """T1 with every second pixel, slices the other way round and 1 mm aside."""
    drawn = drawn_spine()
    t2, t1 = (beside_the_middle_disc(drawn.volume, BONE * share) for share in (1.5, 0.6))
    affine = t1.voxel_to_patient.copy()
    affine[:3, 3] += affine[:3, 0] * (t1.voxels.shape[0] - 1) + [1.0, 0, 0]
    affine[:3, 0] *= -1
    affine[:3, 1:3] *= 2
    coarse = replace(
        t1, voxels=np.ascontiguousarray(t1.voxels[::-1, ::2, ::2]), voxel_to_patient=affine, sources=t1.sources
    )
    assert modic.types(t2, coarse, drawn.spine, CHANGED)[1][UPPER].value == 1


def test_where_t1_does_not_reach_there_is_no_type() -> None:
    drawn = drawn_spine()
    t2, t1 = (beside_the_middle_disc(drawn.volume, BONE * share) for share in (1.5, 0.6))
    affine = t1.voxel_to_patient.copy()
    affine[:3, 3] += [200.0, 0, 0]
    assert modic.types(t2, replace(t1, voxel_to_patient=affine), drawn.spine, CHANGED) == ({}, {}, {})


def test_two_neighbouring_parts_of_the_end_plate_must_agree() -> None:
    dark, level = np.full(5, 0.5), np.ones(5)
    bright_apart = np.array([1.5, 1.0, 1.5, 1.0, 1.5])
    assert modic.kind_of(bright_apart, dark) == 0
    assert modic.kind_of(np.array([1.0, 1.5, 1.5, 1.0, 1.0]), dark) == 1
    assert modic.kind_of(level, level) == 0
    dark_in_two = np.array([0.5, 0.5, 1.0, 1.0, 1.0])
    assert modic.kind_of(dark_in_two, dark) == 0  # type 3 asks for three
    assert modic.kind_of(np.array([0.5, 0.5, 0.5, 1.0, 1.0]), dark) == 3


def test_types_that_nothing_has_proven_are_told_as_uncertain() -> None:
    drawn = drawn_spine()
    for share, doubt in ((0.5, Doubt.UNSURE), (1.4, None)):
        both = beside_the_middle_disc(drawn.volume, BONE * share)
        assert modic.types(both, both, drawn.spine, CHANGED)[1][UPPER].doubt is doubt


def test_the_t1_series_of_the_same_frame_of_reference_is_found() -> None:
    study = lumbar_study(0)
    graded = choose(study).frames
    found = t1_series.find(study, graded)
    assert found is not None
    (t1_uid,) = {str(i.SeriesInstanceUID) for i in study if "T1" in i.SeriesDescription.upper()}
    assert found.volume.series_instance_uid == t1_uid


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("FrameOfReferenceUID", "1.2.3"),
        ("FrameOfReferenceUID", ""),
        ("ContrastBolusAgent", "gadobutrol"),
        ("ScanOptions", "FS"),
        ("ImageType", ["DERIVED", "PRIMARY", "SUB"]),
        ("EchoTime", 90),
    ],
)
def test_t1_with_contrast_medium_without_fat_or_from_elsewhere_does_not_serve(keyword: str, value: object) -> None:
    study = lumbar_study(0)
    for instance in study:
        if "T1" in instance.SeriesDescription.upper():
            setattr(instance, keyword, value)
    assert t1_series.find(study, choose(study).frames) is None


def test_a_study_without_t1_has_none() -> None:
    study = [i for i in lumbar_study(0) if "T1" not in i.SeriesDescription.upper()]
    graded = choose(study).frames
    assert t1_series.find(study, graded) is None
    assert t1_series.find(study, ()) is None
