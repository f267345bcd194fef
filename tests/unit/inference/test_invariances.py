"""However a patient's images are stored, the same discs get the same names at the same places.

Exactly, where only the storage differs; by less than a pixel, where the image itself was sampled anew.
"""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from inference import detection, labelling, measurements, phantom, selection, stacking
from inference.anatomy import DiscLevel, Spine
from inference.brightness import from_zero
from inference.networks.localiser import PIXEL_MM
from inference.volume import FloatArray, SagittalVolume, without_margins
from inference.weights import load_localiser
from tests.unit.inference.drawn_spine import PaintedLocaliser, column_of_discs, drawn, painted_volume
from tests.volume_transforms import (
    moved,
    padded,
    regrey,
    resampled,
    rotation,
    rows_for_columns,
    same_place,
    turned_round,
)

PAINTED = PaintedLocaliser().eval()
EXACT_MM = 0.02
"""Half precision and the order of sums; a hundredth of a pixel."""


def painted() -> SagittalVolume:
    spine, empty = drawn(column_of_discs(6)), drawn([])
    return painted_volume([empty, spine, spine, spine, empty])


def named(volume: SagittalVolume, localiser: nn.Module = PAINTED) -> Spine:
    return labelling.name(detection.find(volume, localiser))


def centers_lps_mm(spine: Spine) -> FloatArray:
    return np.stack([disc.center_lps_mm for disc in spine.discs])


def levels(spine: Spine) -> list[DiscLevel]:
    return [disc.level for disc in spine.discs]


PAINTED_SPINE = named(painted())
PAINTED_MEASURES = measurements.measure(painted(), PAINTED_SPINE).discs


@settings(max_examples=20, deadline=None)
@given(
    reversed_axes=st.sets(st.sampled_from([0, 1, 2])),
    exchanged=st.booleans(),
    margins=st.tuples(*[st.integers(0, 60)] * 4),
    grey=st.tuples(st.floats(0.01, 500), st.floats(0, 1000)),
    axis=st.integers(0, 2),
    degrees=st.floats(-30, 30),
)
def test_how_a_volume_is_stored_changes_nothing(  # noqa: PLR0917 - one argument for each way
    reversed_axes: set[int],
    exchanged: bool,
    margins: tuple[int, int, int, int],
    grey: tuple[float, float],
    axis: int,
    degrees: float,
) -> None:
    """Slice order, acquisition direction, the patient's frame, padding and grey scale, in any combination."""
    movement = rotation(axis, degrees)
    volume = regrey(moved(painted(), movement), grey[0], grey[1])
    volume = padded(volume, margins, value=grey[1])
    for reversed_axis in sorted(reversed_axes):
        volume = turned_round(volume, reversed_axis)
    volume = rows_for_columns(volume) if exchanged else volume

    spine = named(volume)

    assert levels(spine) == levels(PAINTED_SPINE)
    np.testing.assert_allclose(
        same_place(centers_lps_mm(spine), movement), centers_lps_mm(PAINTED_SPINE), atol=EXACT_MM
    )
    measured = measurements.measure(from_zero(volume)[0], spine).discs
    for here, there in zip(measured, PAINTED_MEASURES, strict=True):
        assert here == pytest.approx(there, abs=0.05, rel=0.01)


@pytest.mark.parametrize("margins", [(5, 0, 0, 0), (0, 7, 0, 0), (0, 0, 1, 0), (3, 4, 5, 6)])
def test_margins_of_one_value_are_left_out_and_nothing_moves(margins: tuple[int, int, int, int]) -> None:
    volume = painted()
    plain = without_margins(padded(volume, margins, value=-17.0))
    assert plain.voxels.shape == volume.voxels.shape
    np.testing.assert_array_equal(plain.voxels, volume.voxels)
    np.testing.assert_allclose(plain.voxel_to_patient, volume.voxel_to_patient, atol=1e-9)


def test_an_image_of_one_value_has_no_margins() -> None:
    blank = regrey(painted(), 0.0, 3.0)
    assert without_margins(blank).voxels.shape == blank.voxels.shape


@pytest.fixture(scope="module")
def localiser() -> nn.Module:
    return load_localiser("cpu")


@pytest.fixture(scope="module")
def instances() -> tuple[pydicom.Dataset, ...]:
    return phantom.lumbar_study(seed=0)


@pytest.fixture(scope="module")
def series(instances: tuple[pydicom.Dataset, ...]) -> SagittalVolume:
    return stacked(instances)


@pytest.fixture(scope="module")
def spine(series: SagittalVolume, localiser: nn.Module) -> Spine:
    return named(series, localiser)


def stacked(instances: tuple[pydicom.Dataset, ...]) -> SagittalVolume:
    return stacking.stack_frames(selection.choose(instances).frames).volume


def test_the_phantoms_discs_are_named_and_lie_where_they_were_built(spine: Spine) -> None:
    built = {disc.level: disc.center_lps_mm for disc in phantom.truth(seed=0).discs}
    assert levels(spine)[-5:] == list(DiscLevel)[-5:]
    for disc in spine.discs:
        offset = disc.center_lps_mm - built[disc.level]
        assert np.hypot(offset[1], offset[2]) < 3.0


@pytest.mark.parametrize(("rows", "columns"), [(0.7, 0.7), (1.3, 1.3), (2.0, 2.0), (1.0, 0.6), (0.6, 1.0), (1.5, 1.0)])
def test_resampling_and_pixels_that_are_not_square(
    series: SagittalVolume, spine: Spine, localiser: nn.Module, rows: float, columns: float
) -> None:
    assert_moves_less_than_a_pixel(series, spine, named(resampled(series, rows, columns), localiser))


def assert_moves_less_than_a_pixel(volume: SagittalVolume, before: Spine, after: Spine) -> None:
    """Of the localiser's own grid, in the plane; a spine between two slices may get the other one as mid-slice."""
    assert levels(after) == levels(before)
    for one, two in zip(before.discs, after.discs, strict=True):
        slices, rows, columns = volume.to_voxel(two.center_lps_mm) - volume.to_voxel(one.center_lps_mm)
        assert np.hypot(rows * volume.spacing_mm[1], columns * volume.spacing_mm[2]) < PIXEL_MM
        assert abs(slices) < 1.01


@pytest.mark.parametrize("grey", [(0.004, 0.0), (60.0, 0.0), (1.0, 500.0)])
def test_another_vendors_grey_scale(
    series: SagittalVolume, spine: Spine, localiser: nn.Module, grey: tuple[float, float]
) -> None:
    again = named(regrey(series, *grey), localiser)
    assert levels(again) == levels(spine)
    np.testing.assert_allclose(centers_lps_mm(again), centers_lps_mm(spine), atol=0.2)


def test_images_that_arrive_and_are_numbered_the_other_way_round(
    instances: tuple[pydicom.Dataset, ...], series: SagittalVolume
) -> None:
    turned = []
    for instance in reversed(instances):
        copy = pydicom.Dataset(instance)
        copy.file_meta = instance.file_meta
        copy.InstanceNumber = 1000 - int(instance.InstanceNumber)
        turned.append(copy)
    again = stacked(tuple(turned))
    np.testing.assert_array_equal(again.voxels, series.voxels)
    np.testing.assert_allclose(again.voxel_to_patient, series.voxel_to_patient)
