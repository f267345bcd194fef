"""Stacking: every precondition that refuses, and headers that are hostile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from inference.stacking import stack
from inference.volume import SagittalVolume, Unsuitable
from tests.dicom_factories import mr_image, mr_series, poison
from tests.unit.inference.small_series import SMALL, compress, small_series


class TestRefusals:
    def test_a_missing_slice_is_named_with_the_gap(self) -> None:
        series = small_series(6)
        del series[2]
        with pytest.raises(Unsuitable, match=r"1 slice.* missing: slices are 4\.40 mm apart.*8\.80 mm.* 2 and 3 in"):
            stack(series)

    def test_uneven_spacing_is_named_with_its_range(self) -> None:
        series = small_series(4)
        series[3].ImagePositionPatient = [-4.4 * 3 - 0.7, 0, 0]
        with pytest.raises(Unsuitable, match=r"not evenly spaced: 4\.40 to 5\.10 mm"):
            stack(series)

    def test_rounding_of_positions_is_no_unevenness(self) -> None:
        series = small_series(8, step_mm=3.3)
        for image in series:
            image.ImagePositionPatient = [f"{float(value):.1f}" for value in image.ImagePositionPatient]
        assert stack(series).volume.spacing_mm[0] == pytest.approx(3.3, abs=0.01)

    def test_slices_shifted_within_their_plane(self) -> None:
        series = small_series(4)
        for index, image in enumerate(series):
            image.ImagePositionPatient = [-4.4 * index, 0.5 * index, 0]
        with pytest.raises(Unsuitable, match=r"shifted against each other .* 1\.5 mm"):
            stack(series)

    def test_an_exact_repeat_is_left_out_with_a_note(self) -> None:
        series = small_series(3)
        again = small_series(3, study="sent again")[1]
        stacked = stack([*series, again])
        assert stacked.volume.voxels.shape[0] == 3
        assert stacked.notes == ("1 image(s) repeat another one exactly and were left out.",)

    def test_different_images_at_one_position_are_not_chosen_between(self) -> None:
        series = small_series(3)
        other = mr_image(SMALL + np.uint16(7), position=(-4.4, 0, 0), instance=9)
        with pytest.raises(Unsuitable, match="same slice position"):
            stack([*series, other])

    def test_temporal_positions_are_named(self) -> None:
        early = small_series(3, TemporalPositionIdentifier=1)
        late = mr_series(3, pixels=SMALL + np.uint16(9), study="later", TemporalPositionIdentifier=2)
        with pytest.raises(Unsuitable, match=r"temporal positions (1 and 2|2 and 1)"):
            stack([*early, *late])

    def test_echo_times_are_named(self) -> None:
        first = small_series(3, EchoTime="20")
        second = mr_series(3, pixels=SMALL + np.uint16(9), study="second echo", EchoTime="100")
        with pytest.raises(Unsuitable, match=r"echo times (20\.0 and 100\.0|100\.0 and 20\.0) ms"):
            stack([*first, *second])

    @pytest.mark.parametrize(
        ("headers", "sentence"),
        [
            ({"ImageOrientationPatient": [0, 0.9848, 0.1736, 0, 0.1736, -0.9848]}, r"different orientations"),
            ({"PixelSpacing": [0.8, 0.9]}, r"different pixel spacings: 0\.800 x 0\.800 mm and 0\.800 x 0\.900 mm"),
            ({"ImagePositionPatient": None}, "no usable position"),
            ({"ImageOrientationPatient": None}, "no usable orientation"),
            ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no usable orientation"),
            ({"PixelSpacing": None}, "no usable pixel spacing"),
            ({"PixelSpacing": [0, 0]}, "no usable pixel spacing"),
            ({"PixelData": None}, "no pixel data"),
            ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "not grey-scale"),
        ],
        ids=lambda value: value if isinstance(value, str) else "+".join(value),
    )
    def test_one_odd_slice_is_named(self, headers: dict[str, object], sentence: str) -> None:
        series = small_series(5)
        series[3] = mr_image(SMALL, position=(-13.2, 0, 0), instance=4, **headers)
        with pytest.raises(Unsuitable, match=sentence):
            stack(series)

    def test_different_matrices_are_named(self) -> None:
        series = [*small_series(2), mr_image(np.ones((5, 4), np.uint16), position=(-8.8, 0, 0), instance=3)]
        with pytest.raises(Unsuitable, match="different matrices: 3 x 4 and 5 x 4"):
            stack(series)

    def test_truncated_pixel_data_names_the_instance(self) -> None:
        series = small_series(3)
        series[1].PixelData = series[1].PixelData[:-4]
        with pytest.raises(Unsuitable, match=rf"cut short: 20 of 24 bytes \(image {series[1].SOPInstanceUID}"):
            stack(series)

    @pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda uid: uid.name)
    def test_truncated_compressed_data_is_never_filled_up(self, syntax: str) -> None:
        pixels = np.random.default_rng(3).integers(0, 4096, (64, 64), np.uint16)
        series = mr_series(2, pixels=pixels)
        compress(series[1], syntax)
        whole = series[1].PixelData
        series[1].PixelData = encapsulate([whole[16 : len(whole) // 2]])
        with pytest.raises(Unsuitable, match=str(series[1].SOPInstanceUID)):
            stack(series)

    def test_pixel_data_that_is_no_code_stream(self) -> None:
        series = small_series(2)
        series[0].file_meta.TransferSyntaxUID = JPEGLosslessSV1
        series[0].PixelData = encapsulate([b"\xff\xd8 this is no JPEG \xff\xd9"])
        series[0]["PixelData"].VR = "OB"
        with pytest.raises(Unsuitable, match="cannot be decoded"):
            stack(series)

    def test_an_image_without_transfer_syntax(self) -> None:
        series = small_series(2)
        del series[0].file_meta.TransferSyntaxUID
        with pytest.raises(Unsuitable, match="transfer syntax"):
            stack(series)

    def test_an_empty_image(self) -> None:
        with pytest.raises(Unsuitable, match="every pixel has the same value"):
            stack(mr_series(3, pixels=np.zeros((3, 4), np.uint16)))

    def test_no_images(self) -> None:
        with pytest.raises(Unsuitable, match="no images"):
            stack([])

    def test_reasons_hold_no_name_and_no_patient_id(self) -> None:
        series = small_series(4, PatientName="Secret^Name", PatientID="SECRET-ID")
        del series[1]
        with pytest.raises(Unsuitable) as refused:
            stack(series)
        assert "secret" not in str(refused.value).lower()


HOSTILE = [
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("NumberOfFrames", "PhotometricInterpretation", "PlanarConfiguration", "RescaleSlope", "RescaleIntercept"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "PixelData"),
    *("SeriesDescription", "SOPInstanceUID", "TemporalPositionIdentifier", "SharedFunctionalGroupsSequence"),
]


class TestHostileHeaders:
    @settings(max_examples=100, deadline=None)
    @given(keyword=st.sampled_from(HOSTILE), garbage=st.binary(max_size=30), vr=st.sampled_from(["same", "UN", "DS"]))
    def test_any_bytes_give_a_volume_or_a_refusal(self, keyword: str, garbage: bytes, vr: str) -> None:
        series = small_series(3)
        poison(series[1], keyword, garbage, vr)
        told = _volume_or_refusal(series)
        if isinstance(told, str):
            assert told.endswith(".")
        else:
            assert np.isfinite(told.voxels).all()
            assert np.isfinite(told.voxel_to_patient).all()

    def test_a_slope_beyond_all_measure_is_refused(self) -> None:
        with pytest.raises(Unsuitable, match="rescale slope"):
            stack(small_series(3, RescaleSlope="1e300", RescaleIntercept="0"))


def _volume_or_refusal(series: list[Dataset]) -> SagittalVolume | str:
    try:
        return stack(series).volume
    except Unsuitable as refused:
        return str(refused)
