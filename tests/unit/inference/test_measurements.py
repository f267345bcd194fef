"""What is measured on a drawn spine is what was drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.anatomy import Vertebra
from inference.measurements import SANE, measure
from tests.spine_factory import BONE, CANAL_MM, CSF, DEPTH_MM, DISC, HEIGHT_MM, drawn_spine, flipped


def test_lengths_of_a_drawn_disc() -> None:
    drawn = drawn_spine()
    measured = measure(drawn.volume, drawn.spine).discs[1]
    assert measured["disc_height_mm"] == pytest.approx(HEIGHT_MM)
    assert measured["disc_height_anterior_mm"] == pytest.approx(HEIGHT_MM)
    assert measured["disc_depth_mm"] == pytest.approx(DEPTH_MM)
    assert measured["disc_height_index"] == pytest.approx(8 / 36)
    assert measured["canal_ap_mm"] == pytest.approx(CANAL_MM)
    assert measured["disc_to_csf_signal_ratio"] == pytest.approx(DISC / CSF)
    assert measured["slip_mm"] == pytest.approx(0, abs=1e-9)


def test_a_slip_of_a_quarter_is_25_percent() -> None:
    drawn = drawn_spine(slip_mm=9)
    upper, middle, lower = measure(drawn.volume, drawn.spine).discs
    assert middle["slip_mm"] == pytest.approx(9)
    assert middle["slip_percent"] == pytest.approx(25)
    assert upper["slip_percent"] == pytest.approx(0, abs=1e-9)
    assert lower["slip_percent"] == pytest.approx(0, abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(tilt_deg=st.floats(-40, 40))
def test_measurements_do_not_depend_on_how_the_image_is_stored(tilt_deg: float) -> None:
    drawn = drawn_spine(tilt_deg=tilt_deg)
    turned = flipped(drawn)
    for here, there in zip(
        measure(drawn.volume, drawn.spine).discs, measure(turned.volume, turned.spine).discs, strict=True
    ):
        assert dict(here) == pytest.approx(dict(there), abs=1e-6)


def test_what_was_not_seen_is_not_measured() -> None:
    drawn = drawn_spine()
    blind = replace(drawn.spine, bodies=(), discs=tuple(replace(d, canal_lps_mm=None) for d in drawn.spine.discs))
    measured = measure(drawn.volume, blind).discs[1]
    assert "disc_height_mm" in measured
    assert not {"slip_mm", "slip_percent", "canal_ap_mm", "disc_to_csf_signal_ratio"} & set(measured)


def test_a_value_beyond_its_sane_range_is_left_out() -> None:
    drawn = drawn_spine()
    disc = drawn.spine.discs[1]
    far = replace(disc, canal_lps_mm=np.array([[0.0, 20.0, 0.0], [0.0, 20.0 + SANE["canal_ap_mm"][1] + 1, 0.0]]))
    spine = replace(drawn.spine, discs=(drawn.spine.discs[0], far, drawn.spine.discs[2]))
    assert "canal_ap_mm" not in measure(drawn.volume, spine).discs[1]


def test_a_lone_slice_may_miss_the_middle_of_the_sac_and_gives_no_diameter() -> None:
    drawn = drawn_spine(slices=1)
    measured = measure(drawn.volume, drawn.spine).discs[1]
    assert "canal_ap_mm" not in measured
    assert measured["disc_height_mm"] == pytest.approx(HEIGHT_MM)


def test_a_disc_that_is_as_high_as_its_level_has_lost_nothing() -> None:
    """8 / 36 = 0.222 at all three levels: 8, 10 and 7 % below what is usual there; the best of them sets the build."""
    drawn = drawn_spine()
    measured = measure(drawn.volume, drawn.spine).discs
    build = 8 / 36 / 0.240 * 0.8 + 8 / 36 / 0.242 * 0.2  # 90th percentile of three
    for disc, usual in zip(measured, (0.242, 0.246, 0.240), strict=True):
        assert disc["disc_height_loss_percent"] == pytest.approx(max(0.0, 100 * (1 - 8 / 36 / usual / build)), abs=1e-6)


def test_angles_signals_and_grade_of_a_drawn_spine() -> None:
    drawn = drawn_spine(slip_mm=10)
    upper, middle, lower = measure(drawn.volume, drawn.spine).discs
    for measured in (upper, middle, lower):
        assert measured["segmental_lordosis_deg"] == pytest.approx(0, abs=1e-6)
        assert measured["upper_vertebra_to_csf_signal_ratio"] == pytest.approx(BONE / CSF)
        assert measured["lower_vertebra_to_csf_signal_ratio"] == pytest.approx(BONE / CSF)
    assert [measured["meyerding_grade"] for measured in (upper, middle, lower)] == [0, 2, 0]


def test_dark_marrow_beside_one_disc_only() -> None:
    drawn = drawn_spine()
    body = drawn.spine.bodies[1]
    corners = drawn.volume.to_voxel(body.corners_lps_mm)
    rows = slice(*np.sort(corners[[0, 2], 1]).round().astype(int))
    voxels = drawn.volume.voxels.copy()
    columns = slice(*np.sort(corners[[0, 2], 2]).round().astype(int))
    voxels[:, rows, columns] *= 0.5
    upper, middle, lower = measure(replace(drawn.volume, voxels=voxels), drawn.spine).discs
    assert upper["lower_vertebra_to_csf_signal_ratio"] == pytest.approx(0.5 * BONE / CSF)
    assert middle["upper_vertebra_to_csf_signal_ratio"] == pytest.approx(0.5 * BONE / CSF)
    assert lower["upper_vertebra_to_csf_signal_ratio"] == pytest.approx(BONE / CSF)


def test_a_spine_without_l1_has_no_lumbar_lordosis_and_one_with_it_has() -> None:
    drawn = drawn_spine()
    assert measure(drawn.volume, drawn.spine).spine == {}
    l1 = replace(drawn.spine.bodies[0], level=Vertebra.L1)
    spine = replace(drawn.spine, bodies=(l1, *drawn.spine.bodies))
    assert measure(drawn.volume, spine).spine["lumbar_lordosis_deg"] == pytest.approx(0, abs=1e-6)


def test_what_is_left_out_is_said_and_what_cannot_be_taken_is_not() -> None:
    drawn = drawn_spine(slip_mm=37)  # more than the end plate is deep
    measured = measure(drawn.volume, drawn.spine)
    assert not {"slip_percent", "meyerding_grade"} & set(measured.discs[1])
    assert {(left.level, left.name) for left in measured.left_out} == {(drawn.spine.discs[1].level, "slip_percent")}
    assert measure(drawn.volume, replace(drawn.spine, bodies=())).left_out == ()
