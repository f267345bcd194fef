"""Small MR images, encoded as they go over the network."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage


def mr_image(number: int, *, study: str = "1.2.3", series: str = "1.2.3.1") -> Dataset:
    """Image 1.2.3.1.<number> of a made-up patient whose name must be found in no log."""
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = f"1.2.3.1.{number}"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.Modality = "MR"
    dataset.PatientName = "SECRET^NAME"
    dataset.PatientID = "SECRET-ID"
    dataset.InstanceNumber = number
    dataset.Rows = dataset.Columns = 2
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes([number % 256] * 8)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def encoded(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set without preamble and file meta information, in one of the two common little endian encodings."""
    stream = DicomBytesIO()
    stream.is_implicit_VR = transfer_syntax == ImplicitVRLittleEndian
    stream.is_little_endian = True
    body = Dataset({tag: dataset[tag] for tag in dataset.keys()})  # noqa: SIM118 - keys of a data set, not its elements
    write_dataset(stream, body)
    return stream.getvalue()
