"""Files are read for grading: what is no image is named, what is large stays in its file until it is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from node import study_files
from node.study_files import UnreadableFile

PIXELS = np.arange(256 * 256, dtype=np.uint16).reshape(256, 256)


def write_image(path: Path, transfer_syntax: str = ExplicitVRLittleEndian) -> Path:
    """An MR image of 256 x 256 pixels: 131072 bytes, more than what is read at once."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "2.25.11"
    image.StudyInstanceUID, image.SeriesInstanceUID = "2.25.1", "2.25.2"
    image.Modality = "MR"
    image.Rows, image.Columns = PIXELS.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.PixelData = PIXELS.tobytes()
    if transfer_syntax == RLELossless:
        image.compress(RLELossless)
    else:
        image.file_meta.TransferSyntaxUID = transfer_syntax
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    "transfer_syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless],
)
def test_pixels_come_out_whole_in_every_kind_of_encoding(tmp_path: Path, transfer_syntax: str) -> None:
    path = write_image(tmp_path / "image", transfer_syntax)
    (image,) = study_files.read([path]).instances
    assert np.array_equal(image.pixel_array, PIXELS)


def test_pixels_are_not_read_before_somebody_asks(tmp_path: Path) -> None:
    (image,) = study_files.read([write_image(tmp_path / "image")]).instances
    assert image.get_item("PixelData", keep_deferred=True).value is None
    assert image.Rows == 256


def test_a_text_file_is_named_and_the_images_beside_it_are_read(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.dcm")
    text = tmp_path / "notes.txt"
    text.write_text("not an image", encoding="utf-8")
    found = study_files.read([text, image])
    assert len(found.instances) == 1
    assert found.unreadable == (UnreadableFile(path=text, reason="not a DICOM file"),)


def test_an_empty_file_and_a_missing_one_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    found = study_files.read([tmp_path / "empty", tmp_path / "missing"])
    assert [file.path.name for file in found.unreadable] == ["empty", "missing"]
    assert found.unreadable[1].reason == "No such file or directory"


@pytest.mark.parametrize("kept", [140, 200, 300, 400, 500])
def test_a_file_cut_off_in_its_header_never_crashes(tmp_path: Path, kept: int) -> None:
    path = write_image(tmp_path / "image")
    path.write_bytes(path.read_bytes()[:kept])
    found = study_files.read([path])
    assert len(found.instances) + len(found.unreadable) == 1


def test_a_file_cut_off_before_its_uids_is_named(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"MR") - 8])
    found = study_files.read([path])
    assert found.instances == ()
    assert [file.reason for file in found.unreadable] == ["it names no study or no instance (truncated?)"]


def test_an_image_cut_off_in_its_pixels_keeps_its_header(tmp_path: Path) -> None:
    """Whoever stacks the pixels finds out; a localizer that nobody needs must not stop the study."""
    path = write_image(tmp_path / "image")
    path.write_bytes(path.read_bytes()[:-1000])
    (image,) = study_files.read([path]).instances
    assert image.SeriesInstanceUID == "2.25.2"
    with pytest.raises((ValueError, EOFError)):
        _ = image.pixel_array


def test_files_are_found_in_folders_below_in_the_order_of_their_names(tmp_path: Path) -> None:
    second = write_image(tmp_path / "b" / "1")
    first = write_image(tmp_path / "a" / "9")
    assert study_files.files_below(tmp_path) == (first, second)


def test_hidden_files_and_the_dicomdir_are_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "DICOMDIR")
    write_image(tmp_path / ".cache" / "image")
    (tmp_path / ".DS_Store").touch()
    assert study_files.files_below(tmp_path) == ()
