"""Other transfer syntaxes: without loss, under the same UIDs, and only where the object can have them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from node.encodings import BY_NAME, CannotEncode, candidates, encoded
from node.settings_delivery import ArchiveSettings
from tests.unit.node.outgoing_objects import capture, text_report

EVERY = tuple(BY_NAME.values())


def test_every_name_of_the_settings_is_known() -> None:
    named = ArchiveSettings.model_validate(
        {"name": "a", "stow_url": "http://127.0.0.1/x", "transfer_syntaxes": list(BY_NAME)}
    )
    assert named.transfer_syntaxes == tuple(BY_NAME)


def test_without_a_preference_it_goes_as_it_is_or_as_the_other_uncompressed_one(tmp_path: Path) -> None:
    path = text_report(tmp_path, 1)
    assert candidates(path, ExplicitVRLittleEndian, ()) == (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def test_what_is_compressed_already_is_left_as_it_is(tmp_path: Path) -> None:
    assert candidates(capture(tmp_path, 1), JPEG2000Lossless, [RLELossless, ImplicitVRLittleEndian]) == (
        JPEG2000Lossless,
    )


def test_a_preferred_one_comes_first_and_its_own_is_never_left_out(tmp_path: Path) -> None:
    wanted = [JPEG2000Lossless, DeflatedExplicitVRLittleEndian]
    assert candidates(capture(tmp_path, 1), ExplicitVRLittleEndian, wanted) == (
        JPEG2000Lossless,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )


def test_a_report_is_not_offered_as_a_picture(tmp_path: Path) -> None:
    assert candidates(text_report(tmp_path, 1), ExplicitVRLittleEndian, EVERY) == (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
    )


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("uid", EVERY, ids=list(BY_NAME))
def test_pixels_and_identity_are_the_same_in_each(uid: pydicom.uid.UID, bits: int, tmp_path: Path) -> None:
    path = capture(tmp_path, 1, bits=bits)
    before, after = pydicom.dcmread(path), pydicom.dcmread(BytesIO(encoded(path, uid)))
    assert after.file_meta.TransferSyntaxUID == uid
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID == before.SOPInstanceUID
    assert after.PatientName == "Doe^Jane"
    assert np.array_equal(after.pixel_array, before.pixel_array)
    assert "LossyImageCompression" not in after


def test_a_picture_of_bits_cannot_be_compressed_and_that_is_said(tmp_path: Path) -> None:
    item = pydicom.dcmread(capture(tmp_path, 1, bits=16))
    item.BitsAllocated = item.BitsStored = 1
    item.HighBit = 0
    item.PixelData = bytes(32 * 32 // 8)
    path = tmp_path / "bits.dcm"
    item.save_as(path)
    assert candidates(path, ExplicitVRLittleEndian, [RLELossless]) == (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    with pytest.raises(CannotEncode, match="RLE Lossless"):
        encoded(path, RLELossless)
