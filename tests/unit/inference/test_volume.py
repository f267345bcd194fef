"""Voxel and patient coordinates, and the upright view, on numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inference.volume import SagittalVolume, SliceSource, upright


def volume(affine: np.ndarray, shape: tuple[int, int, int] = (2, 3, 4)) -> SagittalVolume:
    return SagittalVolume(
        voxels=np.arange(np.prod(shape), dtype=np.float32).reshape(shape),
        voxel_to_patient=affine,
        sources=tuple(SliceSource(sop_instance_uid=f"1.2.{index}", frame=1) for index in range(shape[0])),
        series_instance_uid="1.2",
        series_description="",
    )


SAGITTAL = np.array([[-4.4, 0, 0, 30.0], [0, 0, 0.5, -100.0], [0, -0.8, 0, 150.0], [0, 0, 0, 1]])
"""Slices 4.4 mm apart from left to right, rows 0.8 mm apart downwards, columns 0.5 mm apart backwards."""


def test_spacing_is_read_along_slice_row_and_column() -> None:
    assert volume(SAGITTAL).spacing_mm == pytest.approx((4.4, 0.8, 0.5))


def test_the_first_voxel_is_at_the_origin_and_others_step_from_it() -> None:
    positions = volume(SAGITTAL).to_patient(np.array([[0, 0, 0], [1, 10, 20]]))
    assert positions == pytest.approx(np.array([[30.0, -100.0, 150.0], [25.6, -90.0, 142.0]]))


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    voxel=st.tuples(*[st.floats(-50, 700)] * 3),
)
def test_there_and_back_again_is_the_same_voxel(
    angles: tuple[float, ...], spacing: tuple[float, ...], origin: tuple[float, ...], voxel: tuple[float, ...]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = origin
    there = volume(affine)
    assert there.to_voxel(there.to_patient(np.array(voxel))) == pytest.approx(np.array(voxel), abs=1e-6)


@pytest.mark.parametrize("exchanged", [False, True], ids=["rows down", "columns down"])
@pytest.mark.parametrize("row_sign", [1, -1])
@pytest.mark.parametrize("column_sign", [1, -1])
def test_upright_runs_head_to_foot_and_front_to_back_and_moves_no_voxel(
    exchanged: bool, row_sign: int, column_sign: int
) -> None:
    affine = SAGITTAL.copy()
    affine[:3, 1] *= row_sign
    affine[:3, 2] *= column_sign
    if exchanged:
        affine = affine[:, [0, 2, 1, 3]]
    given_volume = volume(affine)

    turned = upright(given_volume)

    assert turned.voxel_to_patient[2, 1] < 0  # rows run to the feet
    assert turned.voxel_to_patient[1, 2] > 0  # columns run to the back
    for slice_index, row, column in np.ndindex(*turned.voxels.shape):
        place = turned.to_patient(np.array([slice_index, row, column]))
        source = tuple(np.rint(given_volume.to_voxel(place)).astype(int))
        assert turned.voxels[slice_index, row, column] == given_volume.voxels[source]


def test_an_upright_volume_stays_as_it_is() -> None:
    turned = upright(volume(SAGITTAL))
    assert np.array_equal(turned.voxels, volume(SAGITTAL).voxels)
    assert np.array_equal(turned.voxel_to_patient, SAGITTAL)


def test_a_volume_needs_float32_voxels_one_source_per_slice_and_a_4_by_4_matrix() -> None:
    good = volume(SAGITTAL)
    fields = {"series_instance_uid": "1.2", "series_description": "", "sources": good.sources}
    with pytest.raises(ValueError, match="float64"):
        SagittalVolume(voxels=good.voxels.astype(np.float64), voxel_to_patient=SAGITTAL, **fields)
    with pytest.raises(ValueError, match="4 x 4"):
        SagittalVolume(voxels=good.voxels, voxel_to_patient=SAGITTAL[:3], **fields)
    with pytest.raises(ValueError, match="2 slice sources for 1 slices"):
        SagittalVolume(voxels=good.voxels[:1], voxel_to_patient=SAGITTAL, **fields)
