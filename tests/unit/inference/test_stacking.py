"""Stacking: order, geometry and values of the volume."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from scipy.spatial.transform import Rotation

from inference.stacking import stack
from tests.dicom_factories import SAGITTAL, enhanced, mr_series, poison
from tests.unit.inference.small_series import SMALL, compress, small_series


def first_pixels(instances: list[Dataset]) -> list[float]:
    return stack(instances).volume.voxels[:, 0, 0].tolist()


class TestGeometry:
    def test_the_matrix_steps_by_slice_row_and_column(self) -> None:
        series = mr_series(3, step_mm=4.4, pixels=SMALL, start=(30, -100, 150), spacing=(0.8, 0.5))
        matrix = stack(series).volume.voxel_to_patient
        # the normal of SAGITTAL is y x -z = -x: slices run to the patient's right
        expected = [[-4.4, 0, 0, 30], [0, 0, 0.5, -100], [0, -0.8, 0, 150], [0, 0, 0, 1]]
        assert matrix == pytest.approx(np.array(expected), abs=1e-6)

    def test_pixel_spacing_is_between_rows_first_and_between_columns_second(self) -> None:
        assert stack(small_series(spacing=(0.8, 0.5))).volume.spacing_mm == pytest.approx((4.4, 0.8, 0.5))

    def test_order_comes_from_position_not_from_instance_number(self) -> None:
        series = small_series()
        for image, number in zip(series, (3, 1, 5, 2, 4), strict=True):
            image.InstanceNumber = number
        random.Random(1).shuffle(series)
        assert first_pixels(series) == [0, 100, 200, 300, 400]

    def test_each_slice_names_its_source(self) -> None:
        series = small_series(3)
        sources = stack(series[::-1]).volume.sources
        assert [source.sop_instance_uid for source in sources] == [image.SOPInstanceUID for image in series]
        assert {source.frame for source in sources} == {1}

    def test_the_series_description_is_one_line_that_can_be_seen(self) -> None:
        series = small_series(3)
        for image in series:
            poison(image, "SeriesDescription", b"T2\x1b[2J\x00\r\nIMPRESSION\r\nL4/L5: normal\x0c")
        assert stack(series).volume.series_description == "T2 [2J IMPRESSION L4/L5: normal"

    def test_positions_of_voxels_are_those_of_the_headers(self) -> None:
        turned = (0.0698, 0.9976, 0.0, 0.0105, -0.0007, -0.9999)
        turned = tuple(np.array([*_unit(turned[:3]), *_unit(turned[3:])]))
        series = mr_series(4, pixels=SMALL, orientation=turned, start=(12.5, -80, 90))
        volume = stack(series).volume
        for index, image in enumerate(series):
            expected = [float(value) for value in image.ImagePositionPatient]
            assert volume.to_patient(np.array([index, 0, 0])) == pytest.approx(expected, abs=1e-5)

    @settings(max_examples=40, deadline=None)
    @given(
        angles=st.tuples(*[st.floats(-30, 30)] * 3),
        start=st.tuples(*[st.floats(-300, 300)] * 3),
        spacing=st.tuples(*[st.floats(0.2, 1.5)] * 2),
        step_mm=st.floats(0.8, 6.0),
    )
    def test_any_oblique_stack_puts_each_pixel_where_the_standard_puts_it(
        self, angles: tuple[float, ...], start: tuple[float, ...], spacing: tuple[float, float], step_mm: float
    ) -> None:
        """PS3.3 C.7.6.2.1.1: position + column index * row cosines * column spacing + row index * ..."""
        turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        orientation = np.concatenate([turn @ SAGITTAL[:3], turn @ SAGITTAL[3:]])
        series = mr_series(3, step_mm=step_mm, pixels=SMALL, orientation=orientation, start=start, spacing=spacing)
        volume = stack(series).volume
        for index, image in enumerate(series):
            cosines = np.array(image.ImageOrientationPatient, float)
            rows_mm, columns_mm = map(float, image.PixelSpacing)
            corner = (
                np.array(image.ImagePositionPatient, float) + 3 * columns_mm * cosines[:3] + 2 * rows_mm * cosines[3:]
            )
            assert volume.to_patient(np.array([index, 2, 3])) == pytest.approx(corner, abs=1e-4)

    def test_spacing_between_slices_and_thickness_are_not_believed(self) -> None:
        series = small_series(SpacingBetweenSlices="9", SliceThickness="1")
        assert stack(series).volume.spacing_mm[0] == pytest.approx(4.4)

    def test_a_lone_slice_takes_its_step_from_the_header(self) -> None:
        stacked = stack(small_series(1, SpacingBetweenSlices="4.4"))
        assert stacked.volume.spacing_mm[0] == pytest.approx(4.4)
        assert stacked.notes == ()

    def test_a_lone_slice_without_thickness_is_assumed_4_mm_thick_and_says_so(self) -> None:
        stacked = stack(small_series(1, SpacingBetweenSlices=None, SliceThickness=None))
        assert stacked.volume.spacing_mm[0] == pytest.approx(4.0)
        assert "4 mm was assumed" in stacked.notes[0]

    @settings(max_examples=30, deadline=None)
    @given(order=st.permutations(range(6)))
    def test_any_order_of_arrival_gives_the_same_volume(self, order: list[int]) -> None:
        series = small_series(6)
        volume = stack([series[index] for index in order]).volume
        expected = stack(series).volume
        assert np.array_equal(volume.voxels, expected.voxels)
        assert np.array_equal(volume.voxel_to_patient, expected.voxel_to_patient)
        assert volume.sources == expected.sources


class TestMultiFrame:
    def test_gives_what_the_classic_images_give(self) -> None:
        series = small_series()
        classic, multi = stack(series).volume, stack([enhanced(series)]).volume
        assert np.array_equal(classic.voxels, multi.voxels)
        assert classic.voxel_to_patient == pytest.approx(multi.voxel_to_patient, abs=1e-9)

    def test_sources_are_1_based_frames_of_one_object_sorted_by_position(self) -> None:
        series = small_series(4)
        multi = enhanced([series[index] for index in (2, 0, 3, 1)])
        assert [source.frame for source in stack([multi]).volume.sources] == [2, 4, 1, 3]

    def test_each_frame_has_its_own_pixel_value_transformation(self) -> None:
        series = small_series(2)
        series[1].RescaleSlope, series[1].RescaleIntercept = "2", "-50"
        assert stack([enhanced(series)]).volume.voxels[:, 0, 1].tolist() == [1.0, 101 * 2 - 50]


class TestValues:
    def test_rescale_is_applied_slice_by_slice(self) -> None:
        series = small_series(2)
        series[0].RescaleSlope, series[0].RescaleIntercept = "0.5", "10"
        assert stack(series).volume.voxels[:, 0, 2].tolist() == [2 * 0.5 + 10, 102.0]

    def test_monochrome1_is_turned_so_that_bright_is_high(self) -> None:
        series = small_series(2, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
        assert stack(series).volume.voxels[:, 0, 1].tolist() == [4094.0, 3994.0]

    def test_signed_values_keep_their_sign(self) -> None:
        pixels = np.array([[-5, 7]], np.int16)
        assert stack(mr_series(2, pixels=pixels)).volume.voxels[0].tolist() == [[-5.0, 7.0]]

    def test_bits_above_bits_stored_are_not_image(self) -> None:
        pixels = np.array([[0xF003, 0x0FFF]], np.uint16)
        series = mr_series(2, pixels=pixels, BitsStored=12, HighBit=11)
        assert stack(series).volume.voxels[0].tolist() == [[3.0, 4095.0]]

    def test_a_slope_of_zero_does_not_erase_the_image(self) -> None:
        assert stack(small_series(2, RescaleSlope="0", RescaleIntercept="0")).volume.voxels[1, 0, 0] == 100.0

    @pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name)
    def test_lossless_compression_changes_nothing(self, syntax: str) -> None:
        pixels = np.random.default_rng(3).integers(0, 4096, (64, 80), np.uint16)
        series = mr_series(2, pixels=pixels)
        compress(series[1], syntax)
        volume = stack(series).volume
        assert np.array_equal(volume.voxels[1], volume.voxels[0])


def _unit(vector: tuple[float, ...]) -> np.ndarray:
    return np.asarray(vector) / np.linalg.norm(vector)


def test_the_sagittal_of_these_tests_is_sagittal() -> None:
    assert np.cross(SAGITTAL[:3], SAGITTAL[3:]).tolist() == [-1.0, 0.0, 0.0]
