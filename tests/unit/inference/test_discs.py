"""A cut disc lies where it was cut: along its axis, twice its width, bone at a quarter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.descriptors import FEATURES
from inference.discs import cut
from inference.volume import SagittalVolume
from tests.spine_factory import BONE, CSF, DEPTH_MM, DISC, HEIGHT_MM, drawn_spine, flipped

CENTER = np.array([4, (112 - 1) / 2, (224 - 1) / 2, 1])
PX_PER_MM = 112 / DEPTH_MM


def test_the_patch_is_twice_as_wide_as_the_disc_and_as_tall_as_it_is_wide() -> None:
    drawn = drawn_spine()
    disc = cut(drawn.volume, drawn.spine)[1]
    assert disc.voxels.shape == (9, 112, 224)
    assert disc.voxels.dtype == np.float32
    assert np.linalg.norm(disc.patch_to_patient[:3, 2]) * 224 == pytest.approx(2 * DEPTH_MM)
    assert np.linalg.norm(disc.patch_to_patient[:3, 1]) * 112 == pytest.approx(DEPTH_MM)


@settings(max_examples=10, deadline=None)
@given(tilt_deg=st.floats(-45, 45))
def test_the_disc_lies_level_in_the_middle_however_it_was_tilted(tilt_deg: float) -> None:
    drawn = drawn_spine(tilt_deg=tilt_deg)
    disc = cut(drawn.volume, drawn.spine)[1]
    np.testing.assert_allclose(disc.patch_to_patient @ CENTER, [0, 0, 0, 1], atol=1e-6)
    middle = disc.voxels[4]
    bright = np.flatnonzero(middle[:, 112] > 0.15)
    above, below = bright[bright < 56].max(), bright[bright > 56].min()
    assert below - above - 1 == pytest.approx(HEIGHT_MM * PX_PER_MM, abs=2.5)
    assert middle[56, 100:124] == pytest.approx(0.25 * DISC / BONE, abs=0.01)


def test_bone_becomes_a_quarter_and_nothing_exceeds_one() -> None:
    for bone in (80.0, 400.0, 3000.0):
        drawn = drawn_spine(bone=bone)
        disc = cut(drawn.volume, drawn.spine)[1]
        assert disc.voxels[4, 20, 112] == pytest.approx(0.25, abs=1e-4)
        assert disc.voxels.max() <= 1
    assert cut(drawn_spine().volume, drawn_spine().spine)[1].voxels.max() == pytest.approx(0.25 * CSF / BONE, abs=1e-3)


def test_every_patch_pixel_is_the_image_at_its_place_in_the_patient() -> None:
    """The image holds its own row and column position; patches must read them back."""
    drawn = drawn_spine(tilt_deg=17)
    rows, columns = np.indices(drawn.volume.voxels.shape[1:])
    for ramp in (rows, columns):
        ramped = replace(drawn.volume, voxels=np.repeat(ramp[None].astype(np.float32), 9, axis=0))
        disc = cut(ramped, drawn.spine)[1]
        index = np.array([[4, 40, 60, 1], [4, 56, 112, 1], [4, 80, 150, 1]])
        voxel = ramped.to_voxel((index @ disc.patch_to_patient.T)[:, :3])
        seen = disc.voxels[4, index[:, 1], index[:, 2]]
        wanted = voxel[:, 1] if ramp is rows else voxel[:, 2]
        assert seen / seen[1] == pytest.approx(wanted / wanted[1], rel=1e-4)


def test_the_same_patient_stored_upside_down_gives_the_same_patches() -> None:
    drawn = drawn_spine(tilt_deg=12)
    turned = flipped(drawn)
    for here, there in zip(cut(drawn.volume, drawn.spine), cut(turned.volume, turned.spine), strict=True):
        np.testing.assert_allclose(here.voxels, there.voxels, atol=1e-4)
        np.testing.assert_allclose(here.patch_to_patient, there.patch_to_patient, atol=1e-6)
        np.testing.assert_allclose(here.features, there.features, atol=1e-3, equal_nan=True)


def _numbered(volume: SagittalVolume) -> SagittalVolume:
    """Each slice brighter than the one before; the mid-slice unchanged."""
    factors = 1 + 0.1 * (np.arange(len(volume.voxels)) - len(volume.voxels) // 2)
    return replace(volume, voxels=(volume.voxels * factors[:, None, None]).astype(np.float32))


@pytest.mark.parametrize(
    ("slices", "step_mm", "present", "brighter"),
    [
        (9, 4.0, 9, 1.1),  # clinical: every slice
        (3, 4.0, 3, 1.1),  # few slices: the rest is absent
        (1, 4.0, 1, None),  # one mid-sagittal slice
        (13, 1.0, 3, 1.4),  # 1 mm apart: every fourth, so that nine slices would still span the disc
    ],
)
def test_slices_are_native_ones_about_4_mm_apart(
    slices: int, step_mm: float, present: int, brighter: float | None
) -> None:
    drawn = drawn_spine(slices=slices, slice_step_mm=step_mm)
    disc = cut(_numbered(drawn.volume), drawn.spine)[1]
    assert disc.slice_present.sum() == present
    assert disc.slice_present[4]
    assert not disc.voxels[~disc.slice_present].any()
    assert np.linalg.norm(disc.patch_to_patient[:3, 0]) == pytest.approx(4.0)
    if brighter is not None:
        assert disc.voxels[5, 20, 112] / disc.voxels[4, 20, 112] == pytest.approx(brighter, rel=1e-3)


def test_one_black_body_does_not_blind_its_discs() -> None:
    """A cemented body has no signal: the reference stays within 1.5 of the study's."""
    drawn = drawn_spine()
    dark = drawn.volume.voxels.copy()
    corner = drawn.volume.to_voxel(drawn.spine.bodies[1].corners_lps_mm).round().astype(int)
    dark[:, corner[0, 1] : corner[2, 1] + 1, corner[0, 2] : corner[1, 2] + 1] = 1
    disc = cut(replace(drawn.volume, voxels=dark), drawn.spine)[1]
    assert disc.voxels[4, 100, 112] == pytest.approx(0.25 * 1.5, abs=0.01)


def test_without_bodies_the_bone_is_looked_for_beside_the_discs() -> None:
    drawn = drawn_spine()
    disc = cut(drawn.volume, replace(drawn.spine, bodies=()))[1]
    assert disc.voxels[4, 20, 112] == pytest.approx(0.25, abs=0.01)
    assert np.isnan(disc.features[FEATURES.index("slip_back")])


def test_a_spine_without_discs_gives_none() -> None:
    drawn = drawn_spine()
    assert cut(drawn.volume, replace(drawn.spine, discs=())) == ()
