import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.chain import candidates, discs_of
from inference.marks import Plane, Tissue
from inference.outlines import TracedDisc, trace_body, trace_canal, trace_disc
from inference.volume import FloatArray
from tests.unit.inference.drawn_spine import (
    DISC_HEIGHT_MM,
    DISC_WIDTH_MM,
    SAC_DEPTH_MM,
    SAC_GAP_MM,
    STEP_MM,
    DrawnDisc,
    column_of_discs,
    drawn,
)


def traced(plane: Plane, index: int = 0) -> TracedDisc:
    found = trace_disc(plane, candidates(plane, 0.5)[index])
    assert found is not None
    return found


def area(polygon: FloatArray) -> float:
    rows, columns = polygon.T
    return 0.5 * abs(float(rows @ np.roll(columns, 1) - columns @ np.roll(rows, 1)))


@settings(max_examples=25, deadline=None)
@given(st.floats(-30, 30), st.floats(90, 110), st.floats(90, 110))
def test_the_mid_line_ends_where_the_disc_ends_at_any_tilt(tilt: float, row: float, column: float) -> None:
    disc = traced(drawn([DrawnDisc(row_mm=row, column_mm=column, tilt_degrees=tilt)]))
    half = DISC_WIDTH_MM / 2 * np.array([-np.sin(np.deg2rad(tilt)), np.cos(np.deg2rad(tilt))])
    np.testing.assert_allclose(disc.anterior_mm, np.array([row, column]) - half, atol=0.7)
    np.testing.assert_allclose(disc.posterior_mm, np.array([row, column]) + half, atol=0.7)


def test_the_outline_encloses_the_area_that_was_drawn() -> None:
    disc = traced(drawn([DrawnDisc(row_mm=100, column_mm=100, tilt_degrees=12)]))
    assert area(disc.outline_mm) == pytest.approx(DISC_WIDTH_MM * DISC_HEIGHT_MM, rel=0.04)


def test_edges_run_from_front_to_back_a_disc_height_apart() -> None:
    disc = traced(drawn([DrawnDisc(row_mm=100, column_mm=100)]))
    assert (np.diff(disc.upper_edge_mm[:, 1]) > 0).all()
    middle = len(disc.upper_edge_mm) // 2
    assert disc.lower_edge_mm[middle, 0] - disc.upper_edge_mm[middle, 0] == pytest.approx(DISC_HEIGHT_MM, abs=0.1)


def collapsed(faint: float, gap_mm: float) -> Plane:
    """A disc whose middle is marked no more than ``faint`` over ``gap_mm``; what is in front of that is larger."""
    plane = drawn([DrawnDisc(row_mm=100, column_mm=100)])
    columns = np.arange(plane.probabilities.shape[2]) * plane.pixel_mm[1]
    probabilities = plane.probabilities.copy()
    gap = np.abs(columns - 105) <= gap_mm / 2
    probabilities[Tissue.DISC][:, gap] = np.minimum(probabilities[Tissue.DISC][:, gap], faint)
    return Plane(probabilities=probabilities, pixel_mm=plane.pixel_mm)


def test_a_collapsed_disc_is_followed_across_its_thin_middle() -> None:
    disc = traced(collapsed(faint=0.3, gap_mm=6))
    np.testing.assert_allclose(disc.anterior_mm, [100, 100 - DISC_WIDTH_MM / 2], atol=0.7)
    np.testing.assert_allclose(disc.posterior_mm, [100, 100 + DISC_WIDTH_MM / 2], atol=0.7)


@pytest.mark.parametrize(("faint", "gap_mm"), [(0.0, 6), (0.3, 14)])
def test_what_nothing_leads_to_is_another_structure(faint: float, gap_mm: float) -> None:
    disc = traced(collapsed(faint, gap_mm))
    assert disc.posterior_mm[1] == pytest.approx(105 - gap_mm / 2, abs=1.5)


def test_a_disc_that_is_not_on_this_plane_is_not_traced() -> None:
    candidate = candidates(drawn([DrawnDisc(row_mm=100, column_mm=100)]), 0.5)[0]
    assert trace_disc(drawn([DrawnDisc(row_mm=40, column_mm=100)]), candidate) is None


@settings(max_examples=15, deadline=None)
@given(st.floats(-25, 25))
def test_the_sac_walls_lie_on_the_prolonged_mid_line(tilt: float) -> None:
    plane = drawn([DrawnDisc(row_mm=100, column_mm=100, tilt_degrees=tilt)])
    disc = traced(plane)
    walls = trace_canal(plane, disc)
    assert walls is not None
    front, back = (float(np.linalg.norm(wall - disc.posterior_mm)) for wall in walls)
    assert front == pytest.approx(SAC_GAP_MM, abs=0.8)
    assert back - front == pytest.approx(SAC_DEPTH_MM, abs=0.5)


def test_no_sac_is_no_segment() -> None:
    plane = drawn([DrawnDisc(row_mm=100, column_mm=100)])
    probabilities = plane.probabilities.copy()
    probabilities[Tissue.CANAL] = 0
    assert trace_canal(Plane(probabilities=probabilities, pixel_mm=plane.pixel_mm), traced(plane)) is None


def test_a_body_has_its_corners_where_endplates_and_walls_meet() -> None:
    plane = drawn(column_of_discs(3))
    upper, lower = (trace_disc(plane, disc) for disc in discs_of(plane)[:2])
    assert upper is not None
    assert lower is not None
    top, bottom = 20 + DISC_HEIGHT_MM / 2, 20 + STEP_MM - DISC_HEIGHT_MM / 2
    front, back = 100 - DISC_WIDTH_MM / 2, 100 + DISC_WIDTH_MM / 2
    expected = [[top, front], [top, back], [bottom, back], [bottom, front]]
    np.testing.assert_allclose(trace_body(plane, upper, lower), expected, atol=1.6)


def test_a_pedicle_does_not_draw_the_corner_backwards() -> None:
    plane = drawn(column_of_discs(3))
    probabilities = plane.probabilities.copy()
    probabilities[Tissue.VERTEBRA, 26:48, 118:150] = 1.0  # bone goes on behind the body, as beside the mid-line
    probabilities[Tissue.CANAL] = 0
    joined = Plane(probabilities=probabilities, pixel_mm=plane.pixel_mm)
    upper, lower = (trace_disc(joined, disc) for disc in discs_of(joined)[:2])
    assert upper is not None
    assert lower is not None
    assert trace_body(joined, upper, lower)[1:3, 1].max() < 100 + DISC_WIDTH_MM / 2 + 3.5
