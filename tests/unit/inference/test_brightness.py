"""Ratios of signals mean something only when no signal is 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.brightness import from_zero
from inference.volume import SagittalVolume, SliceSource


def volume(voxels: np.ndarray) -> SagittalVolume:
    return SagittalVolume(
        voxels=voxels.astype(np.float32),
        voxel_to_patient=np.eye(4),
        sources=tuple(SliceSource(sop_instance_uid=f"1.{index}", frame=1) for index in range(len(voxels))),
        series_instance_uid="1",
        series_description="",
    )


IMAGE = np.arange(2 * 50 * 50, dtype=np.float32).reshape(2, 50, 50) % 1000


def test_an_image_that_starts_at_0_stays_as_it_is() -> None:
    given_volume = volume(IMAGE)

    unchanged, notes = from_zero(given_volume)

    assert unchanged is given_volume
    assert notes == ()


@pytest.mark.parametrize("offset", [200, -1000, 64535])
def test_an_offset_is_taken_away_and_told(offset: float) -> None:
    shifted, notes = from_zero(volume(IMAGE + offset))

    assert np.abs(shifted.voxels - IMAGE).max() <= 6  # the darkest thousandth of 1000 grey values, and float32
    assert shifted.voxels.min() == 0
    assert len(notes) == 1
    assert "shifted" in notes[0]


@given(offset=st.floats(-5000, 5000), slope=st.floats(0.01, 100))
def test_whatever_a_header_adds_the_ratio_of_two_tissues_is_the_same(offset: float, slope: float) -> None:
    corrected, _ = from_zero(volume((IMAGE + offset) * slope))

    bright, dark = corrected.voxels[0, 15, 0], corrected.voxels[0, 5, 0]  # 750 and 250 of the original
    assert bright / dark == pytest.approx(3, rel=0.15)  # 2 % of the range are left alone


def test_everything_but_the_voxels_is_kept() -> None:
    given_volume = volume(IMAGE + 500)
    corrected, _ = from_zero(given_volume)

    assert corrected.voxel_to_patient is given_volume.voxel_to_patient
    assert corrected.sources == given_volume.sources
    assert corrected.series_instance_uid == given_volume.series_instance_uid
