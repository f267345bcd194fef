"""Lengths on a disc and its bodies: numbers that can be checked by hand on a drawn rectangle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.anatomy import VertebralBody
from inference.geometry import chords_mm, frame_of, heights_mm, in_frame_mm, neighbours, slip_mm
from tests.spine_factory import DEPTH_MM, HEIGHT_MM, drawn_spine

DOWN, NORMAL = np.array([0.0, 0.0, -1.0]), np.array([-1.0, 0.0, 0.0])


def test_a_frame_points_backwards_and_downwards() -> None:
    frame = frame_of(drawn_spine().spine.discs[1], DOWN, NORMAL)
    np.testing.assert_allclose(frame.axis, [0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(frame.across, [0, 0, -1], atol=1e-9)
    assert frame.depth_mm == pytest.approx(DEPTH_MM)


def test_the_frame_is_the_same_for_a_normal_of_either_sign() -> None:
    disc = drawn_spine(tilt_deg=20).spine.discs[1]
    np.testing.assert_allclose(frame_of(disc, DOWN, NORMAL).across, frame_of(disc, DOWN, -NORMAL).across, atol=1e-9)


def test_a_mid_line_without_length_is_refused() -> None:
    disc = drawn_spine().spine.discs[1]
    with pytest.raises(ValueError, match="same point"):
        frame_of(replace(disc, posterior_lps_mm=disc.anterior_lps_mm), DOWN, NORMAL)


@given(tilt_deg=st.floats(-45, 45))
def test_heights_do_not_change_when_the_spine_is_turned(tilt_deg: float) -> None:
    disc = drawn_spine(tilt_deg=tilt_deg).spine.discs[1]
    assert heights_mm(disc, frame_of(disc, DOWN, NORMAL)) == pytest.approx((HEIGHT_MM,) * 3, abs=1e-6)


def test_a_wedge_is_higher_in_front() -> None:
    disc = drawn_spine().spine.discs[1]
    wedge = np.array([[0, -18, 6], [0, 18, 2], [0, 18, -2], [0, -18, -6]], float)  # 12 mm in front, 4 mm at the back
    disc = replace(disc, outline_lps_mm=wedge)
    assert heights_mm(disc, frame_of(disc, DOWN, NORMAL)) == pytest.approx((10.4, 8.0, 5.6), abs=1e-6)


def test_chords_outside_the_polygon_are_unknown() -> None:
    square = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]], float)
    upper, lower = chords_mm(square, np.array([-2.0, 0.0, 2.0]))
    np.testing.assert_array_equal(np.isnan(upper), [True, False, True])
    assert (upper[1], lower[1]) == (-1, 1)


def test_positions_in_the_frame_are_across_then_along() -> None:
    disc = drawn_spine().spine.discs[1]
    frame = frame_of(disc, DOWN, NORMAL)
    np.testing.assert_allclose(in_frame_mm(np.array([[0.0, 5.0, -3.0]]), frame), [[3.0, 5.0]], atol=1e-9)


def _body_at(front_mm: float, back_mm: float, top_mm: float) -> VertebralBody:
    corners = np.array(
        [[0, front_mm, top_mm], [0, back_mm, top_mm], [0, back_mm, top_mm - 28], [0, front_mm, top_mm - 28]]
    )
    return VertebralBody(level=drawn_spine().spine.bodies[0].level, corners_lps_mm=corners.astype(float))


@pytest.mark.parametrize(("forward_mm", "expected_mm"), [(0.0, 0.0), (9.0, 9.0), (-4.0, -4.0)])
def test_slip_is_forward_positive_along_the_lower_end_plate(forward_mm: float, expected_mm: float) -> None:
    upper, lower = _body_at(-18 - forward_mm, 18 - forward_mm, 36), _body_at(-18, 18, 0)
    assert slip_mm(upper, lower) == pytest.approx((expected_mm, 36.0))


def test_neighbours_are_found_by_level_and_may_be_missing() -> None:
    spine = drawn_spine().spine
    without_sacrum = replace(spine, bodies=spine.bodies[:-1])
    above, below = neighbours(spine.discs[2], without_sacrum)
    assert above is spine.bodies[2]
    assert below is None
