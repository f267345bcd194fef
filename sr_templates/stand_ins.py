"""The source slices as highdicom wants to see them: geometry and identifiers, and nothing that a header may spoil.

Its classes copy patient and study from the images they are given; ours are copied by ``source_study`` instead, so
the stand-ins carry none, and a malformed or missing source attribute can break no object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from inference.report import Report
from inference.volume import SagittalVolume
from sr_templates import provenance
from sr_templates.source_study import SourceInstance, SourceStudy

_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)


def slices(report: Report, source: SourceStudy, indices: Sequence[int]) -> list[Dataset]:
    """A stand-in for each of the slices, of which every one has a source image of its own."""
    return [_single(report.volume, source, index) for index in indices]


def multiframe(report: Report, source: SourceStudy) -> Dataset:
    """A stand-in for the one Enhanced MR image whose frames the volume is made of, in the order of its frames."""
    volume = report.volume
    frames = {volume.sources[index].frame: index for index in range(len(volume.sources))}
    dataset = _described(volume, source, 0)
    dataset.NumberOfFrames = max(frames)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_pixel_measures(volume)]
    orientation = Dataset()
    orientation.ImageOrientationPatient = _orientation(volume)
    shared.PlaneOrientationSequence = [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for frame in range(1, max(frames) + 1):
        position = Dataset()
        # a frame that the volume left out (another echo, a duplicate) keeps its number; nothing refers to it
        position.ImagePositionPatient = _position(volume, frames.get(frame, 0))
        item = Dataset()
        item.PlanePositionSequence = [position]
        dataset.PerFrameFunctionalGroupsSequence.append(item)
    return dataset


def source_of(report: Report, source: SourceStudy, index: int) -> SourceInstance:
    """The source instance of one slice."""
    return source.instances[report.volume.sources[index].sop_instance_uid]


def frame_of_reference_uid(report: Report, source: SourceStudy) -> str:
    """The images' own, or one that stands for this series where they state none."""
    return source.frame_of_reference_uid or provenance.uid("frame of reference", report.volume.series_instance_uid)


def _single(volume: SagittalVolume, source: SourceStudy, index: int) -> Dataset:
    dataset = _described(volume, source, index)
    dataset.ImagePositionPatient = _position(volume, index)
    dataset.ImageOrientationPatient = _orientation(volume)
    measures = _pixel_measures(volume)
    dataset.PixelSpacing, dataset.SliceThickness = measures.PixelSpacing, measures.SliceThickness
    return dataset


def _described(volume: SagittalVolume, source: SourceStudy, index: int) -> Dataset:
    instance = source.instances[volume.sources[index].sop_instance_uid]
    dataset = Dataset()
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")
    dataset.StudyInstanceUID = source.attributes.StudyInstanceUID
    dataset.SeriesInstanceUID = instance.series_instance_uid
    dataset.SOPClassUID, dataset.SOPInstanceUID = instance.sop_class_uid, instance.sop_instance_uid
    dataset.FrameOfReferenceUID = source.frame_of_reference_uid or provenance.uid(
        "frame of reference", volume.series_instance_uid
    )
    dataset.Modality = "MR"
    dataset.Rows, dataset.Columns = volume.voxels.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.LossyImageCompression = "00"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _pixel_measures(volume: SagittalVolume) -> Dataset:
    slice_mm, row_mm, column_mm = volume.spacing_mm
    measures = Dataset()
    measures.PixelSpacing = [round(row_mm, 6), round(column_mm, 6)]
    measures.SliceThickness = measures.SpacingBetweenSlices = round(slice_mm, 6)
    return measures


def _orientation(volume: SagittalVolume) -> list[float]:
    axes = volume.voxel_to_patient[:3, :3] / volume.spacing_mm
    return [round(float(value), 8) for value in (*axes[:, 2], *axes[:, 1])]


def _position(volume: SagittalVolume, index: int) -> list[float]:
    return [round(float(value), 6) for value in volume.voxel_to_patient[:3] @ (index, 0.0, 0.0, 1.0)]


def for_highdicom(
    report: Report, source: SourceStudy, indices: Sequence[int], planes: NDArray[np.generic]
) -> dict[str, Any]:
    """``source_images``, ``pixel_array`` and geometry for planes (one for each index) that lie on source slices."""
    volume = report.volume
    if not source_of(report, source, indices[0]).is_multiframe:
        return {"source_images": slices(report, source, indices), "pixel_array": planes}
    frames = {volume.sources[index].frame: place for place, index in enumerate(indices)}
    image = multiframe(report, source)
    whole = np.zeros((image.NumberOfFrames, *planes.shape[1:]), planes.dtype)
    for frame, place in frames.items():
        whole[frame - 1] = planes[place]
    return {"source_images": [image], "pixel_array": whole}


def identity(envelope: Dataset) -> dict[str, Any]:
    """What every class of highdicom asks for and the envelope says already."""
    return {
        "series_instance_uid": envelope.SeriesInstanceUID,
        "series_number": envelope.SeriesNumber,
        "sop_instance_uid": envelope.SOPInstanceUID,
        "instance_number": envelope.InstanceNumber,
        "manufacturer": "spinenode",
        "manufacturer_model_name": envelope.ManufacturerModelName,
        "software_versions": "-",  # a tuple, its documented alternative, makes pydicom warn; the envelope has them
        "device_serial_number": envelope.DeviceSerialNumber,
    }
