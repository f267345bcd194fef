"""MR images for tests: small ones with any header, and the real lumbar volumes written as DICOM series."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
"""ImageOrientationPatient: rows run backwards, columns run down."""
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

KEPT_IN_ENHANCED = (
    *("StudyInstanceUID", "SeriesInstanceUID", "Modality", "ImageType", "Rows", "Columns", "SamplesPerPixel"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)

T2_TIMES = {"EchoTime": "102", "RepetitionTime": "3800"}
T1_TIMES = {"EchoTime": "11", "RepetitionTime": "560"}


def uid(*parts: object) -> UID:
    """The same UID for the same parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def mr_image(
    pixels: NDArray[Any] | None = None,
    *,
    position: Sequence[float] = (0.0, 0.0, 0.0),
    orientation: Sequence[float] = SAGITTAL,
    spacing: Sequence[float] = (0.8, 0.8),
    series: str = "series",
    instance: int = 1,
    study: str = "study",
    **headers: Any,
) -> Dataset:
    """One classic MR image, T2-weighted unless ``headers`` (attribute keyword -> value, None deletes) say otherwise."""
    if pixels is None:
        pixels = np.arange(400 * 300, dtype=np.uint16).reshape(400, 300) % 1000
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.FileMetaInformationVersion = b"\x00\x01"
    image.file_meta.MediaStorageSOPClassUID = MRImageStorage
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.ImplementationClassUID = uid("tests")
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid(study, series, instance)
    image.StudyInstanceUID, image.SeriesInstanceUID = uid(study), uid(study, series)
    image.FrameOfReferenceUID = uid(study, "frame of reference")
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20250301", "120000", "1", "A1"
    image.SeriesDate = image.ContentDate = "20250301"
    image.SeriesTime = image.ContentTime = "120000"
    image.ReferringPhysicianName = image.PositionReferenceIndicator = ""
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Test^Lumbar", "T1", "19700101", "O"
    image.Modality, image.Manufacturer, image.PatientPosition = "MR", "tests", "HFS"
    image.SeriesNumber, image.InstanceNumber, image.AcquisitionNumber = 1, instance, 1
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions, image.MRAcquisitionType = "SE", "SK", "", "2D"
    image.EchoTrainLength, image.SliceThickness, image.SpacingBetweenSlices = 18, "4", "4.4"
    image.EchoTime, image.RepetitionTime = T2_TIMES["EchoTime"], T2_TIMES["RepetitionTime"]
    image.ImagePositionPatient = [f"{value:.8g}" for value in position]
    image.ImageOrientationPatient = [f"{value:.8g}" for value in orientation]
    image.PixelSpacing = [f"{value:.8g}" for value in spacing]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    bits = pixels.dtype.itemsize * 8
    image.BitsAllocated, image.BitsStored, image.HighBit = bits, bits, bits - 1
    image.PixelRepresentation = int(pixels.dtype.kind == "i")
    image.WindowCenter, image.WindowWidth = "500", "1000"
    image.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    for keyword, value in headers.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    return image


def mr_series(
    count: int = 15,
    *,
    step_mm: float = 4.4,
    pixels: NDArray[Any] | None = None,
    orientation: Sequence[float] = SAGITTAL,
    start: Sequence[float] = (0.0, 0.0, 0.0),
    series: str = "series",
    **headers: Any,
) -> list[Dataset]:
    """``count`` images along the normal of ``orientation``, the first at ``start``."""
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        mr_image(
            pixels,
            position=np.asarray(start) + index * step_mm * normal,
            orientation=orientation,
            series=series,
            instance=index + 1,
            **headers,
        )
        for index in range(count)
    ]


def poison(image: Dataset, keyword: str, value: bytes, vr: str = "same") -> None:
    """Put any bytes into an attribute, as a broken or hostile file would; "same" keeps the attribute's own VR."""
    tag = Tag(int(tag_for_keyword(keyword) or 0))
    kind = dictionary_VR(tag) if vr == "same" else vr
    image._dict[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)


def enhanced(classic: Sequence[Dataset]) -> Dataset:
    """The same images as one Enhanced multi-frame object (PS3.3 A.36.2), with the attributes that geometry needs."""
    first = classic[0]
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.update(first.file_meta)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = EnhancedMRImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid(first.SOPInstanceUID, "enhanced")
    for keyword in KEPT_IN_ENHANCED:
        setattr(image, keyword, first[keyword].value)
    image.NumberOfFrames = len(classic)
    image.EchoPulseSequence = "SPIN"
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([_only(first, "PixelSpacing", "SliceThickness", "SpacingBetweenSlices")])
    shared.MRTimingAndRelatedParametersSequence = Items([_only(first, "RepetitionTime")])
    image.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for item in classic:
        groups, echo, transformation = Dataset(), Dataset(), Dataset()
        groups.PlanePositionSequence = Items([_only(item, "ImagePositionPatient")])
        groups.PlaneOrientationSequence = Items([_only(item, "ImageOrientationPatient")])
        echo.EffectiveEchoTime = float(item.EchoTime)
        groups.MREchoSequence = Items([echo])
        transformation.RescaleSlope = item.get("RescaleSlope", "1")
        transformation.RescaleIntercept = item.get("RescaleIntercept", "0")
        groups.PixelValueTransformationSequence = Items([transformation])
        frames.append(groups)
    image.PerFrameFunctionalGroupsSequence = Items(frames)
    image.PixelData = b"".join(item.PixelData for item in classic)
    return image


def write_lumbar_t2(directory: Path, data_root: Path, *, thick_mm: float | None = None) -> list[Path]:
    """The healthy volunteer's T2 volume (38 slices of 1 mm) as a sagittal MR series; L5/S1 is out of view."""
    volume = data_root / "lumbar_t2" / "t2_lumbar.nii.gz"
    headers = {"EchoTime": "120", "RepetitionTime": "1500", "SeriesDescription": "T2 SPACE SAG", "StudyID": "SCT"}
    return _write(directory, sitk.ReadImage(str(volume)), "lumbar_t2", thick_mm, headers)


def write_spider_stack(
    directory: Path, data_root: Path, patient: int | str, *, thick_mm: float | None = None
) -> list[Path]:
    """One SPIDER T2-SPACE stack (1 mm slices, 0.469 mm pixels) as a sagittal MR series.

    ``thick_mm`` averages neighbouring slices to about that thickness, as clinical series have (3-5 mm).
    """
    volume = data_root / "spider" / "stacks" / f"{patient}_t2_SPACE.nii.gz"
    headers = {"EchoTime": "124", "RepetitionTime": "1000", "SeriesDescription": "T2_space_sag_c4"}
    return _write(directory, sitk.ReadImage(str(volume)), f"spider_{patient}", thick_mm, headers)


def _write(
    directory: Path, volume: sitk.Image, name: str, thick_mm: float | None, headers: dict[str, str]
) -> list[Path]:
    voxels, origin, axes = _sagittal(volume)
    if thick_mm is not None:
        together = max(1, round(thick_mm / float(np.linalg.norm(axes[0]))))
        count = len(voxels) // together
        voxels = voxels[: count * together].reshape(count, together, *voxels.shape[1:]).mean(axis=1)
        origin, axes = origin + axes[0] * (together - 1) / 2, [axes[0] * together, *axes[1:]]
    steps_mm = [float(np.linalg.norm(axis)) for axis in axes]
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, slice_voxels in enumerate(voxels):
        image = mr_image(
            np.rint(slice_voxels).astype(np.uint16),
            position=origin + index * axes[0],
            orientation=[*(axes[2] / steps_mm[2]), *(axes[1] / steps_mm[1])],
            spacing=steps_mm[1:],
            series=name,
            study=name,
            instance=index + 1,
            PatientName=f"Test^{name}",
            PatientID=name,
            BodyPartExamined="LSPINE",
            SliceThickness=f"{steps_mm[0]:.6g}",
            SpacingBetweenSlices=f"{steps_mm[0]:.6g}",
            MRAcquisitionType="3D",
            WindowCenter=f"{np.percentile(voxels, 99) / 2:.0f}",
            WindowWidth=f"{max(np.percentile(voxels, 99), 1):.0f}",
            **headers,
        )
        path = directory / f"{name}_{index + 1:03d}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _sagittal(volume: sitk.Image) -> tuple[NDArray[Any], NDArray[np.float64], list[NDArray[np.float64]]]:
    """Voxels (slice, row, column), LPS of the first one, LPS steps of the axes: rows run down, columns backwards."""
    voxels = sitk.GetArrayFromImage(volume).transpose(2, 1, 0)  # SimpleITK's arrays are in reverse order of its axes
    directions = np.array(volume.GetDirection()).reshape(3, 3) * np.array(volume.GetSpacing())
    order = [int(np.argmax(np.abs(directions[body_axis]))) for body_axis in (0, 2, 1)]
    voxels, axes = voxels.transpose(order), [directions[:, axis] for axis in order]
    origin = np.array(volume.GetOrigin())
    for axis, wanted in ((1, (0, 0, -1)), (2, (0, 1, 0))):
        if axes[axis] @ np.array(wanted) < 0:
            origin = origin + axes[axis] * (voxels.shape[axis] - 1)
            voxels, axes[axis] = np.flip(voxels, axis), -axes[axis]
    return voxels, origin, axes


def _only(dataset: Dataset, *keywords: str) -> Dataset:
    part = Dataset()
    for keyword in keywords:
        part[keyword] = dataset[keyword]
    return part
