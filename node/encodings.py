"""The transfer syntaxes that an object can go out in, without loss, and the object in one of them.

What cannot be encoded honestly is not offered: pictures are compressed only where their samples are whole bytes, and
what was compressed is read back and compared before it goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

BY_NAME = {
    "explicit_vr_little_endian": ExplicitVRLittleEndian,
    "implicit_vr_little_endian": ImplicitVRLittleEndian,
    "deflated_explicit_vr_little_endian": DeflatedExplicitVRLittleEndian,
    "rle_lossless": RLELossless,
    "jpeg_2000_lossless": JPEG2000Lossless,
}
"""``archives.transfer_syntaxes`` -> UID."""
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_UNCOMPRESSED = (*NATIVE, DeflatedExplicitVRLittleEndian)
_COMPRESSED = (RLELossless, JPEG2000Lossless)
UNREADABLE = (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError)
"""What pydicom raises for a file that is no DICOM file, or a broken one."""


class CannotEncode(Exception):
    """The object cannot have this transfer syntax without loss."""


def candidates(path: Path, own: UID, preferred: Sequence[UID]) -> tuple[UID, ...]:
    """The transfer syntaxes that the object of a file may go out in: the preferred ones, then its own, then, for an
    uncompressed one, the other uncompressed ones.
    """
    possible = [uid for uid in preferred if uid == own or (own in _UNCOMPRESSED and _possible(path, uid))]
    last = (own, *(uid for uid in NATIVE if own in _UNCOMPRESSED))
    return tuple(dict.fromkeys((*possible, *last)))


def _possible(path: Path, uid: UID) -> bool:
    if uid in _UNCOMPRESSED:
        return True
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        samples, bits = int(header.get("SamplesPerPixel", 0)), int(header.get("BitsAllocated", 0))
    except UNREADABLE:
        return False
    return uid in _COMPRESSED and samples in (1, 3) and bits in (8, 16)


def encoded(path: Path, uid: UID) -> bytes:
    """The object of a file as a whole file (PS3.10) in another transfer syntax.

    Raises:
        CannotEncode: not without loss, or not at all.
        OSError, InvalidDicomError: the file cannot be read.
    """
    item = pydicom.dcmread(path)
    if uid in _COMPRESSED:
        _compress(item, uid)
    item.file_meta.TransferSyntaxUID = uid
    whole = BytesIO()
    item.save_as(whole, implicit_vr=uid == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True)
    return whole.getvalue()


def _compress(item: Dataset, uid: UID) -> None:
    try:
        before = item.pixel_array
        item.compress(uid, generate_instance_uid=False)
        after = pydicom.dcmread(BytesIO(_written(item))).pixel_array
    except (*UNREADABLE, RuntimeError, TypeError) as error:
        raise CannotEncode(f"{uid.name}: {type(error).__name__}") from error
    if before.shape != after.shape or not np.array_equal(before, after):
        raise CannotEncode(f"{uid.name}: what was read back is not what was there")


def _written(item: Dataset) -> bytes:
    whole = BytesIO()
    item.save_as(whole, enforce_file_format=True)
    return whole.getvalue()
