"""Features of a drawn disc are the lengths and signals it was drawn with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.descriptors import FEATURES, CutDisc, describe
from inference.discs import cut, plan, to_describe
from tests.spine_factory import BONE, CANAL_MM, CSF, DEPTH_MM, DISC, HEIGHT_MM, Drawn, drawn_spine


def _feature(name: str, **drawing: float) -> float:
    drawn = drawn_spine(**drawing)  # type: ignore[arg-type]
    return float(cut(drawn.volume, drawn.spine)[1].features[FEATURES.index(name)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("height_middle", HEIGHT_MM / DEPTH_MM),
        ("height_mm", HEIGHT_MM),
        ("depth_mm", DEPTH_MM),
        ("signal_inner", DISC / BONE),
        ("csf", CSF / BONE),
        ("canal", CANAL_MM / DEPTH_MM),
        ("overhang_back", 0.0),
        ("upper_far_p50", 1.0),
        ("lower_near_p50", 1.0),
        ("upper_roughness", 0.0),
        ("height_mm_to_median", 0.0),
        ("signal_inner_to_largest", 0.0),
        ("bone_scale", 0.0),
    ],
)
def test_features_of_a_plain_disc(name: str, expected: float) -> None:
    assert _feature(name) == pytest.approx(expected, abs=0.04)


def test_slip_is_in_disc_widths() -> None:
    assert _feature("slip_back", slip_mm=9.0) == pytest.approx(0.25, abs=0.01)


def test_tilt_is_the_sine_and_positive_where_the_back_is_lower() -> None:
    assert _feature("tilt", tilt_deg=-30.0) == pytest.approx(0.5, abs=1e-3)
    assert _feature("tilt", tilt_deg=30.0) == pytest.approx(-0.5, abs=1e-3)


def test_a_node_in_the_lower_bone_shows_on_the_lower_side_only() -> None:
    drawn = drawn_spine()
    plain = cut(drawn.volume, drawn.spine)[1]
    row, column = drawn.volume.to_voxel(np.array([0.0, 0.0, -HEIGHT_MM / 2 - 2]))[1:].round().astype(int)
    drawn.volume.voxels[:, row - 3 : row + 4, column - 6 : column + 7] = DISC
    noded = cut(drawn.volume, drawn.spine)[1]
    for name in ("near_p10", "contrast_middle"):
        upper, lower = FEATURES.index(f"upper_{name}"), FEATURES.index(f"lower_{name}")
        assert noded.features[upper] == pytest.approx(plain.features[upper], abs=0.02)
        assert noded.features[lower] < plain.features[lower] - 0.2


def test_a_disc_is_compared_with_the_next_ones() -> None:
    """Drawn alike, discs differ in nothing; the first has none above it, the last none below."""
    drawn = drawn_spine()
    first, middle, last = (disc.features for disc in cut(drawn.volume, drawn.spine))
    above, below = FEATURES.index("height_mm_to_above"), FEATURES.index("height_mm_to_below")
    assert middle[above] == pytest.approx(0, abs=0.1)
    assert middle[below] == pytest.approx(0, abs=0.1)
    assert np.isnan(first[above])
    assert np.isnan(last[below])


def test_what_is_taller_than_above_is_shorter_than_below_by_the_same() -> None:
    drawn = drawn_spine()
    described = [replace(each, depth_px=90.0 + 10 * k) for k, each in enumerate(_described(drawn))]
    table = describe(described)
    above, below = FEATURES.index("depth_mm_to_above"), FEATURES.index("depth_mm_to_below")
    np.testing.assert_allclose(table[1:, above], -table[:-1, below], atol=1e-5)
    assert table[1, above] == pytest.approx(10 * described[1].mm_per_px, abs=0.5)


def test_bodies_are_measured_at_their_corners() -> None:
    disc = replace(
        _described(drawn_spine())[1],
        upper_corners=np.array([[0.0, 56.0], [0.0, 168.0], [56.0, 168.0], [28.0, 56.0]]),  # 28 and 56 pixels tall
    )
    row = dict(zip(FEATURES, describe([disc])[0], strict=True))
    assert row["upper_body_front"] == pytest.approx(0.25)
    assert row["upper_body_back"] == pytest.approx(0.5)
    assert row["upper_body_wedge"] == pytest.approx(-0.25)
    assert row["upper_body_taper"] == pytest.approx(1 - np.hypot(112, 28) / 112, abs=1e-5)


def _described(drawn: Drawn) -> list[CutDisc]:
    return [
        to_describe(where, disc.voxels, disc.patch_to_patient, drawn.spine)
        for where, disc in zip(plan(drawn.volume, drawn.spine), cut(drawn.volume, drawn.spine), strict=True)
    ]


def test_names_are_unique_and_no_disc_gives_an_empty_table() -> None:
    assert len(set(FEATURES)) == len(FEATURES)
    assert describe([]).shape == (0, len(FEATURES))
