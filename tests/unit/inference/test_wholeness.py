"""Whether the series to be graded has come whole: told by the positions of its slices, in whatever order they come."""

from __future__ import annotations

import random
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from inference import phantom, wholeness


@pytest.fixture(scope="module")
def t2() -> list[Dataset]:
    """The phantom's sagittal T2 series, head to tail of the stack."""
    study = phantom.lumbar_study()
    uid = wholeness.look(study).series_instance_uid
    series = [image for image in study if image.SeriesInstanceUID == uid]
    return sorted(series, key=lambda image: int(image.InstanceNumber))


def test_nothing_to_grade_is_said(t2: list[Dataset]) -> None:
    assert wholeness.look([]) == wholeness.Wholeness(series_instance_uid=None, slices=0, missing_slices=0)


def test_the_phantom_is_whole(t2: list[Dataset]) -> None:
    looked = wholeness.look(t2)
    assert (looked.slices, looked.missing_slices) == (len(t2), 0)


@given(gap=st.integers(1, 4), data=st.data())
def test_slices_that_lack_inside_are_counted(t2: list[Dataset], gap: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(t2) - gap - 2))
    come = t2[:first] + t2[first + gap :]
    random.Random(gap).shuffle(come)
    assert wholeness.look(come).missing_slices == gap


@given(count=st.integers(3, 10))
def test_slices_that_lack_outside_cannot_be_seen(t2: list[Dataset], count: int) -> None:
    assert wholeness.look(t2[:count]).missing_slices == 0


def test_uneven_slices_are_not_taken_for_missing_ones(t2: list[Dataset]) -> None:
    shifted = [deepcopy(image) for image in t2]
    here, there = (np.array(image.ImagePositionPatient, float) for image in (t2[5], t2[6]))
    shifted[5].ImagePositionPatient = list(here + 0.3 * (there - here))
    assert wholeness.look(shifted).missing_slices == 0


def test_an_image_without_a_position_is_left_out(t2: list[Dataset]) -> None:
    broken = [deepcopy(image) for image in t2]
    del broken[3].ImagePositionPatient
    assert wholeness.look(broken).missing_slices in (0, 1)
