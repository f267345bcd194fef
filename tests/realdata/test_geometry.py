"""One acquisition as Enhanced multi-frame and as classic images must be one geometry; real volumes survive DICOM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from inference.selection import choose
from inference.stacking import stack
from tests import dicom_factories

pytestmark = pytest.mark.realdata

ANNOTATED_SLICE = 62
"""One slice bears a burned-in label, at another place in each encoding; its pixels are at the top of the range."""


@pytest.fixture(scope="module")
def enhanced(data_root: Path) -> list[Dataset]:
    return [pydicom.dcmread(data_root / "enhanced_vs_classic" / "enhanced.dcm")]


@pytest.fixture(scope="module")
def classic(data_root: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in (data_root / "enhanced_vs_classic" / "classic").glob("*.dcm")]


def test_both_encodings_give_the_same_geometry(enhanced: list[Dataset], classic: list[Dataset]) -> None:
    multi, single = stack(enhanced).volume, stack(classic).volume
    assert multi.voxels.shape == single.voxels.shape == (63, 86, 86)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(multi.voxels.shape) - 1)
    assert np.abs(multi.to_patient(corners) - single.to_patient(corners)).max() < 1e-6
    assert multi.spacing_mm == pytest.approx((2.2, 2.23256, 2.23256))


def test_both_encodings_give_the_same_pixels(enhanced: list[Dataset], classic: list[Dataset]) -> None:
    multi, single = stack(enhanced).volume.voxels, stack(classic).volume.voxels
    different = multi != single
    assert np.flatnonzero(different.any(axis=(1, 2))).tolist() == [ANNOTATED_SLICE]
    assert different.sum() == 56
    assert np.maximum(multi, single)[different].min() == 4095


def test_each_frame_has_its_classic_twin(enhanced: list[Dataset], classic: list[Dataset]) -> None:
    by_uid = {image.SOPInstanceUID: image for image in classic}
    multi, single = stack(enhanced).volume, stack(classic).volume
    for frame, twin in zip(multi.sources, single.sources, strict=True):
        source = by_uid[twin.sop_instance_uid].ConversionSourceAttributesSequence[0]
        assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == (frame.sop_instance_uid, frame.frame)


def test_a_brain_is_declined_in_both_encodings(enhanced: list[Dataset], classic: list[Dataset]) -> None:
    for series in (enhanced, classic):
        assert choose(series).reason == (
            "No sagittal T2-weighted series of the lumbar spine: "
            "the header says brain, not lumbar spine; echo-planar (TE 30 ms, TR 1500 ms)."
        )


def test_a_real_volume_written_as_dicom_is_read_back_where_it_was(data_root: Path, tmp_path: Path) -> None:
    original = sitk.ReadImage(str(data_root / "lumbar_t2" / "t2_lumbar.nii.gz"))
    images = [pydicom.dcmread(path) for path in dicom_factories.write_lumbar_t2(tmp_path, data_root)]
    choice = choose(images)
    assert choice.reason is None
    volume = stack(choice.instances).volume
    assert volume.voxels.shape == (38, 201, 257)
    for voxel in ((0, 0, 0), (37, 200, 256), (20, 100, 130)):
        place = volume.to_patient(np.array(voxel))
        index = original.TransformPhysicalPointToIndex(place.tolist())
        assert original[index] == volume.voxels[voxel]


@pytest.mark.parametrize(("thick_mm", "slices", "step_mm"), [(None, 23, 1.0), (4.0, 5, 4.0)])
def test_a_spider_stack_written_as_dicom_is_chosen_and_stacked(
    data_root: Path, tmp_path: Path, thick_mm: float | None, slices: int, step_mm: float
) -> None:
    paths = dicom_factories.write_spider_stack(tmp_path, data_root, 110, thick_mm=thick_mm)
    choice = choose([pydicom.dcmread(path) for path in paths])
    volume = stack(choice.instances).volume
    assert volume.voxels.shape == (slices, 640, 512)
    assert volume.spacing_mm == pytest.approx((step_mm, 0.469, 0.469), abs=1e-6)
