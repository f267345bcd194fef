"""One image of the phantom as a complete MR Image Storage object (PS3.3 A.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from inference.phantom_tissues import Contrast
from inference.volume import FloatArray

IMPLEMENTATION_UID = UID("2.25.188763390279155826427498158113720581")
DATE = "20250102"
TIME = "101500"
WINDOW = ("420", "840")
"""Centre and width that suit the phantom's brightness."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """Where an image lies, LPS mm."""

    position_lps_mm: FloatArray
    """(3,) centre of the first pixel."""
    row_direction: FloatArray
    column_direction: FloatArray
    spacing_mm: float
    thickness_mm: float
    step_mm: float

    def points_lps_mm(self, size: int) -> FloatArray:
        """(size, size, 3) centres of all pixels."""
        along = np.arange(size) * self.spacing_mm
        points = (
            self.position_lps_mm + along[:, None, None] * self.column_direction + along[:, None] * self.row_direction
        )
        return np.asarray(points)


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """What all images of a series share."""

    number: int
    contrast: Contrast
    image_type: tuple[str, ...]
    uid: Callable[..., str]
    """``uid(*parts)`` gives the UID of a study, series or instance."""


def mr_image(pixels: NDArray[np.uint16], plane: Plane, series: Series, instance_number: int) -> Dataset:
    """One classic image of a series, with file meta information."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.FileMetaInformationVersion = b"\x00\x01"
    image.file_meta.MediaStorageSOPClassUID = MRImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = UID(series.uid("instance", series.number, instance_number))
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = list(series.image_type)
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID
    _patient_and_study(image, series.uid)
    _series(image, series)
    _acquisition(image, series.contrast, plane)
    image.InstanceNumber = instance_number
    image.AcquisitionNumber = 1
    _place(image, plane)
    _pixels(image, pixels)
    return image


def _patient_and_study(image: Dataset, uid: Callable[..., str]) -> None:
    image.PatientName = "Phantom^Lumbar"
    image.PatientID = "SPINENODE-DEMO"
    image.PatientBirthDate = "19700101"
    image.PatientSex = "O"
    image.PatientAge = "055Y"
    image.StudyInstanceUID = uid("study")
    image.StudyID = "1"
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = DATE
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = TIME
    image.StudyDescription = "Synthetic lumbar spine"
    image.AccessionNumber = "DEMO1"
    image.ReferringPhysicianName = ""
    image.FrameOfReferenceUID = uid("frame of reference")
    image.PositionReferenceIndicator = ""


def _series(image: Dataset, series: Series) -> None:
    image.Modality = "MR"
    image.Manufacturer = "spinenode"
    image.ManufacturerModelName = "phantom"
    image.SoftwareVersions = "1"
    image.InstitutionName = "spinenode demo"
    image.SeriesInstanceUID = series.uid("series", series.number)
    image.SeriesNumber = series.number
    image.SeriesDescription = series.contrast.name
    image.ProtocolName = series.contrast.name
    image.BodyPartExamined = "LSPINE"
    image.PatientPosition = "HFS"


def _acquisition(image: Dataset, contrast: Contrast, plane: Plane) -> None:
    inverted = contrast.inversion_time_ms is not None
    image.ScanningSequence = ["SE", "IR"] if inverted else "SE"
    image.SequenceVariant = "SK"
    image.ScanOptions = ""
    image.MRAcquisitionType = "2D"
    image.MagneticFieldStrength = "1.5"
    image.ImagedNucleus = "1H"
    image.ImagingFrequency = "63.87"
    image.EchoTime = f"{contrast.echo_time_ms:g}"
    image.RepetitionTime = f"{contrast.repetition_time_ms:g}"
    if contrast.inversion_time_ms is not None:
        image.InversionTime = f"{contrast.inversion_time_ms:g}"
    image.EchoTrainLength = 4 if contrast.echo_time_ms < 20 else 18
    image.EchoNumbers = 1
    image.NumberOfAverages = "2"
    image.FlipAngle = "150"
    image.SliceThickness = f"{plane.thickness_mm:g}"
    image.SpacingBetweenSlices = f"{plane.step_mm:g}"


def _place(image: Dataset, plane: Plane) -> None:
    image.ImagePositionPatient = [_decimal(value) for value in plane.position_lps_mm]
    image.ImageOrientationPatient = [_decimal(value) for value in (*plane.row_direction, *plane.column_direction)]
    image.PixelSpacing = [_decimal(plane.spacing_mm)] * 2
    normal = np.cross(plane.row_direction, plane.column_direction)
    image.SliceLocation = _decimal(float(plane.position_lps_mm @ normal))


def _decimal(value: float) -> str:
    """A Decimal String: at most 16 characters (PS3.5 6.2)."""
    return f"{value:.10f}".rstrip("0").rstrip(".")[:16]


def _pixels(image: Dataset, pixels: NDArray[np.uint16]) -> None:
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.WindowCenter, image.WindowWidth = WINDOW
    image.PixelData = pixels.astype("<u2").tobytes()
