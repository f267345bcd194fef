"""Small DICOM files to send: a report without pixels, a capture with some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

TEXT_SR = UID("1.2.840.10008.5.1.4.1.1.88.11")
SECONDARY_CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7")


def text_report(folder: Path, number: int, study: str = "2.25.99") -> Path:
    """``<study>.<number>``, a Basic Text SR without a tree: nobody reads it here."""
    item = _object(TEXT_SR, "SR", number, study)
    return _written(item, folder)


def capture(folder: Path, number: int, study: str = "2.25.99", rows: int = 32, bits: int = 8) -> Path:
    """``<study>.<number>``, a picture of ramps and noise; 8 bits are RGB, 16 grey."""
    item = _object(SECONDARY_CAPTURE, "OT", number, study)
    samples = 3 if bits == 8 else 1
    noise = np.random.default_rng(number).integers(0, 2**bits, (rows, rows, samples))
    noise[: rows // 2] = np.arange(rows)[None, :, None]
    item.Rows = item.Columns = rows
    item.SamplesPerPixel = samples
    item.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        item.PlanarConfiguration = 0
    item.BitsAllocated = item.BitsStored = bits
    item.HighBit, item.PixelRepresentation = bits - 1, 0
    item.PixelData = noise.astype(np.uint8 if bits == 8 else np.uint16).tobytes()
    return _written(item, folder)


def _object(sop_class: UID, modality: str, number: int, study: str) -> Dataset:
    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = sop_class
    item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = f"{study}.{number}"
    item.StudyInstanceUID, item.SeriesInstanceUID = study, f"{study}.99"
    item.PatientName, item.PatientID, item.Modality = "Doe^Jane", "12345", modality
    item.StudyDate, item.StudyTime, item.AccessionNumber = "20260301", "120000", ""
    item.ReferringPhysicianName, item.StudyID, item.SeriesNumber, item.InstanceNumber = "", "1", 1, number
    return item


def _written(item: Dataset, folder: Path) -> Path:
    path = folder / f"{item.SOPInstanceUID}.dcm"
    item.save_as(path, enforce_file_format=True)
    return path
