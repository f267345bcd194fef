import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.chain import beneath, candidates, discs_of
from inference.marks import Plane, Tissue
from tests.unit.inference.drawn_spine import DISC_HEIGHT_MM, DISC_WIDTH_MM, STEP_MM, DrawnDisc, column_of_discs, drawn


def with_patch(plane: Plane, rows: slice, columns: slice, value: float = 1.0) -> Plane:
    probabilities = plane.probabilities.copy()
    probabilities[Tissue.DISC, rows, columns] = value
    return Plane(probabilities=probabilities, pixel_mm=plane.pixel_mm)


def rows_of(plane: Plane) -> list[float]:
    return [float(disc.center_mm[0]) for disc in discs_of(plane)]


def test_every_disc_of_a_straight_spine_is_found_where_it_was_drawn() -> None:
    discs = discs_of(drawn(column_of_discs(6)))
    np.testing.assert_allclose(
        [disc.center_mm for disc in discs], [[20 + STEP_MM * k, 100] for k in range(6)], atol=0.1
    )
    assert discs[0].width_mm == pytest.approx(DISC_WIDTH_MM, abs=1.5)
    assert discs[0].thickness_mm == pytest.approx(DISC_HEIGHT_MM, abs=1.0)


@settings(max_examples=25, deadline=None)
@given(st.floats(-30, 30), st.floats(80, 120))
def test_a_disc_is_measured_the_same_at_any_tilt(tilt: float, column: float) -> None:
    found = candidates(drawn([DrawnDisc(row_mm=100, column_mm=column, tilt_degrees=tilt)]), 0.5)[0]
    np.testing.assert_allclose(found.center_mm, [100, column], atol=0.4)
    angle = np.degrees(np.arctan2(-found.along[0], found.along[1]))
    assert angle == pytest.approx(tilt, abs=1.5)
    assert found.width_mm == pytest.approx(DISC_WIDTH_MM, abs=3.0)


def test_specks_and_slivers_are_no_discs() -> None:
    plane = with_patch(drawn(column_of_discs(4)), slice(200, 206), slice(20, 26))
    plane = with_patch(plane, slice(150, 151), slice(10, 60))
    assert len(rows_of(plane)) == 4


def test_a_false_disc_beside_the_spine_is_not_in_the_chain() -> None:
    plane = with_patch(drawn(column_of_discs(5)), slice(82, 92), slice(20, 50))
    assert rows_of(plane) == pytest.approx([20 + STEP_MM * k for k in range(5)], abs=0.1)


def test_a_faint_disc_is_recovered_only_where_the_chain_has_a_gap() -> None:
    spine = drawn(column_of_discs(6), missing=[3])
    assert len(rows_of(spine)) == 5
    row = int(20 + 3 * STEP_MM)
    assert len(rows_of(with_patch(spine, slice(row - 4, row + 5), slice(84, 117), value=0.3))) == 6
    aside = with_patch(spine, slice(row - 4, row + 5), slice(20, 53), value=0.3)
    assert len(rows_of(aside)) == 5


def test_a_faint_lowest_disc_is_recovered_where_a_vertebra_lies_beneath_the_one_above() -> None:
    spine = drawn(column_of_discs(6), missing=[5])
    row = int(20 + 5 * STEP_MM)
    assert len(rows_of(spine)) == 5
    assert len(rows_of(with_patch(spine, slice(row - 4, row + 5), slice(84, 117), value=0.3))) == 6


def test_a_faint_uppermost_disc_is_recovered_where_a_vertebra_lies_beneath_it() -> None:
    spine = drawn(column_of_discs(6), missing=[0])
    assert len(rows_of(spine)) == 5
    faint = with_patch(spine, slice(16, 25), slice(84, 117), value=0.3)
    assert rows_of(faint)[0] == pytest.approx(20, abs=0.5)
    boneless = faint.probabilities.copy()
    boneless[Tissue.VERTEBRA, : int(20 + STEP_MM - DISC_HEIGHT_MM)] = 0
    assert len(rows_of(Plane(probabilities=boneless, pixel_mm=faint.pixel_mm))) == 5


def between_wedged_bodies(depth_mm: int) -> Plane:
    """Discs at 20, 54, 88, 134 and 168 mm, and a faint patch at 111 mm: the long step is 1.35 times the usual one."""
    spine = drawn([DrawnDisc(row_mm=row, column_mm=100) for row in (20.0, 54.0, 88.0, 134.0, 168.0)])
    half = depth_mm // 2
    return with_patch(spine, slice(108, 115), slice(100 - half, 101 + half), value=0.3)


def test_a_faint_disc_between_wedged_bodies_is_recovered_though_the_step_is_hardly_longer() -> None:
    assert rows_of(between_wedged_bodies(32)) == pytest.approx([20, 54, 88, 111, 134, 168], abs=0.5)


def test_a_short_faint_line_in_a_body_is_no_disc() -> None:
    assert len(rows_of(between_wedged_bodies(18))) == 5


def test_no_disc_at_all_is_an_empty_chain() -> None:
    assert discs_of(Plane(probabilities=np.zeros((4, 100, 100), np.float32), pixel_mm=np.ones(2))) == ()


def test_what_lies_beneath_is_s1_under_the_last_disc_and_a_vertebra_under_the_others() -> None:
    plane = drawn(column_of_discs(6))
    discs = discs_of(plane)
    under_last, under_fourth = beneath(plane, discs[5]), beneath(plane, discs[3])
    assert under_last.sacrum > 0.95
    assert under_last.vertebra < 0.05
    assert under_fourth.vertebra > 0.95
    assert under_fourth.sacrum < 0.05
    assert under_last.in_view == 1.0


def test_beneath_a_disc_at_the_edge_of_the_image_nothing_is_in_view() -> None:
    plane = drawn(column_of_discs(6), size=(198, 200))
    assert beneath(plane, discs_of(plane)[5]).in_view < 0.2


def test_a_patch_in_the_pelvis_far_beneath_s1_is_no_disc_of_the_spine() -> None:
    """1.9 steps beneath L5/S1, where a bladder's wall or a bowel loop may look like one."""
    plane = drawn(column_of_discs(4), size=(260, 200))
    low = with_patch(plane, slice(182, 192), slice(82, 118))
    assert len(discs_of(low)) == 4
    without_sacrum = with_patch(
        drawn(column_of_discs(4), size=(260, 200), sacrum=False), slice(182, 192), slice(82, 118)
    )
    assert len(discs_of(without_sacrum)) > 4
