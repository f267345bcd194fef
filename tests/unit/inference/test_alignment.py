"""Angles and slips of bodies drawn at known slopes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference import phantom
from inference.alignment import lordosis_deg, lumbar_lordosis_deg, meyerding_grade, sagittal_plane
from inference.anatomy import DiscLevel, Spine, Vertebra, VertebralBody
from inference.phantom_anatomy import CONDITIONS, SACRUM_SLOPE_DEG, SIZES
from inference.volume import FloatArray
from tests.volume_transforms import rotation

DOWN, LEFT = np.array([0.0, 0.0, -1.0]), np.array([1.0, 0.0, 0.0])
PLANE = sagittal_plane(DOWN, LEFT)


def body(level: Vertebra, slope_deg: float, turn: FloatArray | None = None) -> VertebralBody:
    """A square body of 30 mm; ``slope_deg`` positive where its upper end plate is lower in front."""
    slope = np.deg2rad(slope_deg)
    back, down = np.array([0, np.cos(slope), np.sin(slope)]), np.array([0, np.sin(slope), -np.cos(slope)])
    corners = np.stack([-15 * back, 15 * back, 15 * back + 30 * down, -15 * back + 30 * down])
    return VertebralBody(level=level, corners_lps_mm=corners if turn is None else corners @ turn[:3, :3].T)


def test_a_disc_that_opens_to_the_front_is_lordotic() -> None:
    assert lordosis_deg(body(Vertebra.L5, 10), body(Vertebra.S1, 35), PLANE) == pytest.approx(25)
    assert lordosis_deg(body(Vertebra.T12, 0), body(Vertebra.L1, -8), PLANE) == pytest.approx(-8)


def test_lumbar_lordosis_is_that_of_l1_and_s1() -> None:
    spine = Spine(bodies=(body(Vertebra.L1, -12), body(Vertebra.L3, 3), body(Vertebra.S1, 38)), discs=(), doubts=())
    assert lumbar_lordosis_deg(spine, PLANE) == pytest.approx(50)


@pytest.mark.parametrize("seen", [(Vertebra.L1,), (Vertebra.S1,), ()])
def test_without_l1_or_s1_there_is_no_lumbar_lordosis(seen: tuple[Vertebra, ...]) -> None:
    spine = Spine(bodies=tuple(body(level, 0) for level in (*seen, Vertebra.L3)), discs=(), doubts=())
    assert lumbar_lordosis_deg(spine, PLANE) is None


@given(st.lists(st.floats(-60, 60), min_size=6, max_size=6))
def test_the_segments_from_l1_to_s1_add_up_to_the_lumbar_lordosis(slopes: list[float]) -> None:
    levels = list(Vertebra)[4:]
    bodies = [body(level, slope) for level, slope in zip(levels, slopes, strict=True)]
    segments = [lordosis_deg(upper, lower, PLANE) for upper, lower in pairwise(bodies)]
    whole = lumbar_lordosis_deg(Spine(bodies=tuple(bodies), discs=(), doubts=()), PLANE)
    assert sum(segments) == pytest.approx(whole)


@settings(max_examples=30)
@given(axis=st.integers(0, 2), degrees=st.floats(-30, 30), normal_sign=st.sampled_from([-1, 1]))
def test_angles_do_not_depend_on_how_the_patient_lies_or_on_the_order_of_slices(
    axis: int, degrees: float, normal_sign: int
) -> None:
    turn = rotation(axis, degrees)
    plane = sagittal_plane(turn[:3, :3] @ DOWN, normal_sign * turn[:3, :3] @ LEFT)
    upper, lower = body(Vertebra.L4, 4, turn), body(Vertebra.L5, 17, turn)
    assert lordosis_deg(upper, lower, plane) == pytest.approx(13)


@pytest.mark.parametrize(
    ("slip_mm", "percent", "grade"),
    [(-4, -11, None), (-2, -6, 0), (0, 0, 0), (2.9, 8, 0), (3, 9, 1), (9, 25, 1), (9.1, 26, 2), (18, 50, 2)],
)
def test_meyerdings_grades(slip_mm: float, percent: float, grade: int | None) -> None:
    assert meyerding_grade(slip_mm, percent) == grade


@pytest.mark.parametrize(("percent", "grade"), [(51, 3), (75, 3), (76, 4), (100, 4), (101, 5), (140, 5)])
def test_meyerdings_grades_of_great_slips(percent: float, grade: int) -> None:
    assert meyerding_grade(0.36 * percent, percent) == grade


def test_the_phantom_says_what_was_built_into_it() -> None:
    """Its bodies' slopes are its own tables', bent by one factor for each spine."""
    skeleton = phantom._skeleton(0, CONDITIONS)
    blocks = {block.level: block for block in skeleton.blocks}

    def placed(level: Vertebra) -> VertebralBody:
        corners = np.column_stack([np.zeros(4), blocks[level.value].corners])
        return VertebralBody(level=level, corners_lps_mm=corners)

    built = SACRUM_SLOPE_DEG - SIZES[Vertebra.L1].upper_deg
    said = lordosis_deg(placed(Vertebra.L1), placed(Vertebra.S1), PLANE)
    assert 0.9 * built <= said <= 1.1 * built
    assert DiscLevel.L5_S1 in CONDITIONS
