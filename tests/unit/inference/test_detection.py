from dataclasses import replace

import numpy as np
import pytest

from inference.detection import find, find_in, look, mark, middle_places
from inference.volume import SagittalVolume, upright
from tests.unit.inference.drawn_spine import (
    DISC_WIDTH_MM,
    STEP_MM,
    DrawnDisc,
    PaintedLocaliser,
    column_of_discs,
    drawn,
    painted_volume,
)

LOCALISER = PaintedLocaliser().eval()


def straight(slices: int = 5) -> SagittalVolume:
    """The spine is on all slices but the two outer ones, so the middle one is the middle."""
    spine, empty = drawn(column_of_discs(6)), drawn([])
    return painted_volume([empty, *[spine] * (slices - 2), empty])


def test_discs_come_head_to_foot_at_their_places_in_the_patient() -> None:
    found = find(straight(), LOCALISER)
    assert len(found.discs) == 6
    expected = [[-8.0, 100.0, -(20 + STEP_MM * k)] for k in range(6)]
    np.testing.assert_allclose([disc.center_lps_mm for disc in found.discs], expected, atol=0.3)
    assert [disc.slice_index for disc in found.discs] == [2] * 6
    depth = np.linalg.norm(found.discs[0].posterior_lps_mm - found.discs[0].anterior_lps_mm)
    assert depth == pytest.approx(DISC_WIDTH_MM, abs=1.5)
    assert all(disc.canal_lps_mm is not None for disc in found.discs)


def test_there_is_a_body_about_every_disc_and_s1_beneath_the_last() -> None:
    found = find(straight(), LOCALISER)
    assert len(found.bodies) == 7
    assert all(body is not None for body in found.bodies[1:])
    between = found.bodies[1]
    assert between is not None
    np.testing.assert_allclose(between.corners_lps_mm[:, 1:], [[82, -25], [118, -25], [118, -49], [82, -49]], atol=1.6)


def test_a_body_cut_off_by_the_upper_edge_is_none() -> None:
    found = find(straight(), LOCALISER)  # the first disc is at 20 mm: the body above it reaches out of the image
    assert found.bodies[0] is None


@pytest.mark.parametrize(
    "turned",
    [
        lambda v: replace(v, voxels=v.voxels[:, ::-1].copy(), voxel_to_patient=_flip(v, 1)),
        lambda v: replace(v, voxels=v.voxels[:, :, ::-1].copy(), voxel_to_patient=_flip(v, 2)),
        lambda v: replace(
            v, voxels=v.voxels.transpose(0, 2, 1).copy(), voxel_to_patient=v.voxel_to_patient[:, [0, 2, 1, 3]]
        ),
    ],
    ids=["feet first", "back first", "columns along the body"],
)
def test_the_way_an_image_is_stored_changes_nothing(turned) -> None:  # type: ignore[no-untyped-def]
    reference, other = find(straight(), LOCALISER), find(turned(straight()), LOCALISER)
    for one, two in zip(reference.discs, other.discs, strict=True):
        np.testing.assert_allclose(one.outline_lps_mm, two.outline_lps_mm, atol=1e-4)


def _flip(volume: SagittalVolume, axis: int):  # type: ignore[no-untyped-def]
    affine = volume.voxel_to_patient.copy()
    affine[:3, 3] += affine[:3, axis] * (volume.voxels.shape[axis] - 1)
    affine[:3, axis] *= -1
    return affine


def test_a_single_slice_is_enough() -> None:
    found = find(painted_volume([drawn(column_of_discs(6))]), LOCALISER)
    assert [disc.slice_index for disc in found.discs] == [0] * 6


def test_in_a_scoliosis_every_disc_has_its_own_mid_slice() -> None:
    """The upper half of the spine is on slices 0-3, the lower half on slices 3-6."""
    upper, lower = drawn(column_of_discs(3)), drawn(column_of_discs(3, top_mm=20 + 3 * STEP_MM))
    found = find(painted_volume([upper, upper, upper, drawn(column_of_discs(6)), lower, lower, lower]), LOCALISER)
    indices = [disc.slice_index for disc in found.discs]
    assert len(indices) == 6
    assert indices[0] <= 2
    assert indices[-1] >= 4
    assert indices == sorted(indices)


def test_thin_slices_are_not_all_looked_at() -> None:
    volume = painted_volume([drawn(column_of_discs(6))] * 9, slice_spacing_mm=1.0)
    assert mark(upright(volume), LOCALISER).slice_indices == (0, 2, 4, 6, 8)
    clinical = painted_volume([drawn(column_of_discs(6))] * 3, slice_spacing_mm=3.3)
    assert mark(upright(clinical), LOCALISER).slice_indices == (0, 1, 2)


def test_without_a_mark_anywhere_the_middle_of_the_stack_is_taken_and_nothing_found() -> None:
    volume = painted_volume([drawn([])] * 5)
    found = find(volume, LOCALISER)
    assert found.discs == ()
    assert found.bodies == ()
    np.testing.assert_allclose(middle_places(mark(upright(volume), LOCALISER)), 2.0)


def test_a_disc_cut_off_by_the_edge_is_said_to_be_incomplete() -> None:
    found = find(painted_volume([drawn(column_of_discs(6), size=(192, 200))]), LOCALISER)
    assert [disc.complete for disc in found.discs] == [True] * 5 + [False]
    assert found.discs[-1].beneath_in_view == 0.0


def test_a_tilted_last_disc_is_followed() -> None:
    discs = [*column_of_discs(5), DrawnDisc(row_mm=191, column_mm=108, tilt_degrees=25)]
    found = find(painted_volume([drawn(discs)]), LOCALISER)
    front, back = found.discs[-1].anterior_lps_mm, found.discs[-1].posterior_lps_mm
    assert np.degrees(np.arctan2(back[2] - front[2], back[1] - front[1])) == pytest.approx(25, abs=2)


@pytest.mark.parametrize("factor", [0.6, 2.0])
def test_a_spine_is_found_whatever_pixel_size_the_header_says(factor: float) -> None:
    """Discs of 36 mm, 34 mm apart, that the header makes 22 or 72 mm: shown to the localiser in their usual size."""
    volume = painted_volume([drawn(column_of_discs(6))])
    affine = volume.voxel_to_patient.copy()
    affine[:3, 1:3] *= factor
    looked = look(replace(volume, voxel_to_patient=affine), LOCALISER)
    assert looked.plausible
    assert looked.scale == pytest.approx(1 / factor, rel=0.1)
    found = find_in(looked)
    expected = [[0.0, 100.0 * factor, -(20 + STEP_MM * k) * factor] for k in range(6)]
    np.testing.assert_allclose([disc.center_lps_mm for disc in found.discs], expected, atol=0.6 * max(factor, 1))


def test_a_spine_of_usual_size_is_looked_at_once() -> None:
    assert look(straight(), LOCALISER).scale == 1.0
