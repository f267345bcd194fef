"""The same disc through DICOM and through the training path gives the same tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from inference import detection, discs, labelling, selection, stacking
from inference.training import spider
from inference.volume import SagittalVolume
from inference.weights import load_localiser

pytestmark = pytest.mark.realdata


def as_dicom(volume: SagittalVolume) -> list[Dataset]:
    """One MR image object per slice, as a scanner sends them; in reverse order."""
    spacing_mm = volume.spacing_mm
    axes = volume.voxel_to_patient[:3, :3] / spacing_mm
    instances = []
    for index, plane in enumerate(volume.voxels):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, f"2.25.9.{index + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.7", "2.25.8"
        dataset.Modality, dataset.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
        dataset.ScanningSequence, dataset.EchoTime, dataset.RepetitionTime = "SE", 100.0, 3500.0
        dataset.SliceThickness, dataset.PixelSpacing = spacing_mm[0], [f"{s:.10g}" for s in spacing_mm[1:]]
        dataset.ImageOrientationPatient = [f"{v:.10g}" for v in (*axes[:, 2], *axes[:, 1])]
        dataset.ImagePositionPatient = [f"{v:.10g}" for v in volume.to_patient(np.array([index, 0.0, 0.0]))]
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
        assert (plane == np.rint(plane)).all()
        assert 0 <= plane.min() <= plane.max() < 65536
        dataset.PixelData = plane.astype(np.uint16).tobytes()
        instances.append(dataset)
    return instances[::-1]


@pytest.mark.parametrize("kind", ["mid-sagittal", "stack"])
def test_dicom_and_training_cut_the_same_tensors(data_root: Path, kind: str) -> None:
    root = data_root / "spider"
    if kind == "stack":
        volume = spider.read_stack(root, spider.stack_patients(root)[0])
    else:
        volume = spider.read_midsagittal(root, next(i for i in spider.midsagittal_images(root) if i.weighting == "t2"))
    spine = labelling.name(detection.find(volume, load_localiser("cpu")))
    choice = selection.choose(as_dicom(volume))
    arrived = stacking.stack_frames(choice.frames).volume
    trained, graded = discs.cut(volume, spine), discs.cut(arrived, spine)
    assert len(graded) == len(trained) >= 5
    for one, other in zip(trained, graded, strict=True):
        # the stacked order of slices may be the other one; the network's slices are symmetric about the mid-slice
        voxels = other.voxels if np.array_equal(one.slice_present, other.slice_present) else other.voxels[::-1]
        same = min(np.abs(one.voxels - voxels).max(), np.abs(one.voxels - other.voxels[::-1]).max())
        assert same < 1e-4  # positions are written in decimals; voxels are 0-1
        np.testing.assert_array_equal(one.zones, other.zones)
        np.testing.assert_allclose(one.features, other.features, atol=1e-3, equal_nan=True)
