"""The same real patient stored in another way: the levels stay, the centres move by less than a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from inference import detection, labelling
from inference.anatomy import Spine
from inference.networks.localiser import PIXEL_MM
from inference.training import spider
from inference.volume import SagittalVolume
from inference.weights import load_localiser
from tests.volume_transforms import (
    moved,
    padded,
    regrey,
    resampled,
    rotation,
    rows_for_columns,
    same_place,
    thick,
    turned_round,
)

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(600)]

PATIENTS = (45, 81, 110)
"""Of those that the shipped localiser was not trained on."""


@pytest.fixture(scope="module")
def localiser() -> nn.Module:
    return load_localiser("cpu")


@pytest.fixture(scope="module", params=PATIENTS)
def series(request: pytest.FixtureRequest, data_root: Path) -> SagittalVolume:
    return thick(spider.read_stack(data_root / "spider", request.param), 4)


@pytest.fixture(scope="module")
def spine(series: SagittalVolume, localiser: nn.Module) -> Spine:
    return labelling.name(detection.find(series, localiser))


STORED_OTHERWISE = {
    "slices from the other side": lambda v: turned_round(v, 0),
    "rows from the feet": lambda v: turned_round(v, 1),
    "columns from the back": lambda v: turned_round(v, 2),
    "rows for columns": rows_for_columns,
    "padded to a square and beyond": lambda v: padded(v, (13, 150, 90, 60)),
    "12 bits": lambda v: regrey(v, 16.0),
    "floating point": lambda v: regrey(v, 1 / 255),
}


@pytest.mark.parametrize("way", STORED_OTHERWISE)
def test_storage_changes_nothing(series: SagittalVolume, spine: Spine, localiser: nn.Module, way: str) -> None:
    again = labelling.name(detection.find(STORED_OTHERWISE[way](series), localiser))
    assert [disc.level for disc in again.discs] == [disc.level for disc in spine.discs]
    for one, two in zip(spine.discs, again.discs, strict=True):
        np.testing.assert_allclose(two.center_lps_mm, one.center_lps_mm, atol=0.1)
        assert two.level_confidence == pytest.approx(one.level_confidence, abs=0.01)


@pytest.mark.parametrize(("axis", "degrees"), [(0, 20.0), (0, -20.0), (1, 15.0), (2, 30.0)])
def test_a_patient_who_lies_askew(
    series: SagittalVolume, spine: Spine, localiser: nn.Module, axis: int, degrees: float
) -> None:
    movement = rotation(axis, degrees)
    again = labelling.name(detection.find(moved(series, movement), localiser))
    assert [disc.level for disc in again.discs] == [disc.level for disc in spine.discs]
    for one, two in zip(spine.discs, again.discs, strict=True):
        np.testing.assert_allclose(same_place(two.center_lps_mm[None], movement)[0], one.center_lps_mm, atol=0.1)


@pytest.mark.parametrize(("rows", "columns"), [(0.6, 0.6), (1.3, 1.3), (1.0, 0.6), (0.6, 1.0), (1.5, 1.0)])
def test_resampling_moves_centres_by_less_than_a_pixel(
    series: SagittalVolume, spine: Spine, localiser: nn.Module, rows: float, columns: float
) -> None:
    """A pixel of the localiser's grid; where the spine lies between two slices, the other one may be its mid-slice."""
    again = labelling.name(detection.find(resampled(series, rows, columns), localiser))
    assert [disc.level for disc in again.discs] == [disc.level for disc in spine.discs]
    for one, two in zip(spine.discs, again.discs, strict=True):
        across, down, back = series.to_voxel(two.center_lps_mm) - series.to_voxel(one.center_lps_mm)
        assert np.hypot(down * series.spacing_mm[1], back * series.spacing_mm[2]) < PIXEL_MM
        assert abs(across) < 1.01
