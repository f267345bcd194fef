"""Zones lie where the features are measured."""

from __future__ import annotations

import numpy as np
import pytest

from inference.descriptors import FEATURES
from inference.discs import cut
from inference.zones import Zone, is_signal, shares_of_features, zones_of
from tests.spine_factory import DEPTH_MM, HEIGHT_MM, drawn_spine

PX_PER_MM = 112 / DEPTH_MM


def _zones() -> np.ndarray:
    drawn = drawn_spine()
    return cut(drawn.volume, drawn.spine)[1].zones


def _center(zone: Zone) -> tuple[float, float]:
    """(row, column) from the patch's centre, mm."""
    rows, columns = np.nonzero(_zones() == zone)
    return (rows.mean() - 55.5) / PX_PER_MM, (columns.mean() - 111.5) / PX_PER_MM


def test_every_zone_is_there_and_lies_on_its_side() -> None:
    assert set(np.unique(_zones())) == {0, *Zone}
    assert _center(Zone.DISC_FRONT)[1] < -DEPTH_MM / 4 < _center(Zone.DISC_MIDDLE)[1] < DEPTH_MM / 4
    assert _center(Zone.SAC)[1] > DEPTH_MM / 2 > _center(Zone.DISC_BACK)[1] > DEPTH_MM / 4
    above = [_center(zone)[0] for zone in (Zone.MARROW_ABOVE, Zone.ENDPLATE_ABOVE)]
    below = [_center(zone)[0] for zone in (Zone.ENDPLATE_BELOW, Zone.MARROW_BELOW)]
    assert above == sorted(above)
    assert below == sorted(below)
    assert above[1] < -HEIGHT_MM / 2 < HEIGHT_MM / 2 < below[0]


def test_the_disc_zones_fill_the_disc() -> None:
    disc = np.isin(_zones(), (Zone.DISC_FRONT, Zone.DISC_MIDDLE, Zone.DISC_BACK)).sum() / PX_PER_MM**2
    assert disc == pytest.approx(DEPTH_MM * HEIGHT_MM, rel=0.1)


@pytest.mark.parametrize(
    ("feature", "zones"),
    [
        ("signal_inner", (Zone.DISC_MIDDLE,)),
        ("signal_inner_to_median", (Zone.DISC_MIDDLE,)),
        ("height_front", (Zone.DISC_FRONT,)),
        ("slip_back", (Zone.DISC_BACK,)),
        ("upper_contrast_front", (Zone.ENDPLATE_ABOVE,)),
        ("lower_far_p50", (Zone.MARROW_BELOW,)),
        ("csf", (Zone.SAC,)),
        ("height_mm_to_largest", (Zone.DISC_FRONT, Zone.DISC_MIDDLE, Zone.DISC_BACK)),
    ],
)
def test_features_and_their_zones(feature: str, zones: tuple[Zone, ...]) -> None:
    assert feature in FEATURES
    assert zones_of(feature) == zones


def test_every_feature_is_divided_among_its_zones_without_rest() -> None:
    shares = shares_of_features()
    assert shares.shape == (len(FEATURES), len(Zone))
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)


def test_lengths_are_no_signals() -> None:
    assert is_signal("signal_p90_to_largest")
    assert is_signal("lower_near_p10")
    assert is_signal("upper_contrast_back")
    assert not is_signal("height_middle_to_median")
    assert not is_signal("upper_roughness")
    assert not is_signal("slip_front")
