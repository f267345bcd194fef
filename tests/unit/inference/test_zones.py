"""Zones lie where the parts of the drawn disc are."""

from __future__ import annotations

import numpy as np
import pytest

from inference.discs import cut
from inference.zones import Zone
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
