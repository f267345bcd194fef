"""Pixel values of one frame, out of any transfer syntax that the permissively licensed decoders read."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

from inference import jpeg_extended
from inference.frames import UNREADABLE, Frame, number, value, words
from inference.volume import FloatArray, Unsuitable, VoxelArray

UNDECODABLE = (*UNREADABLE, RuntimeError)
"""What pydicom and its decoder plugins raise for pixel data they cannot read."""


def modality_values(frame: Frame) -> VoxelArray:
    """(rows, columns) float32: slope * stored + intercept (PS3.3 C.11.1), bright always high.

    MR has no absolute unit. MONOCHROME1, where low values are shown bright, is turned round. Raises ``Unsuitable``
    for colour images, and for pixel data that is absent, cut short or cannot be decoded.
    """
    photometric = " ".join(words(frame.instance, "PhotometricInterpretation"))
    if photometric not in {"MONOCHROME1", "MONOCHROME2"} or number(frame.instance, "SamplesPerPixel") not in {1, None}:
        raise Unsuitable(f"The images are not grey-scale images ({_where(frame)}).")
    stored = _stored_values(frame)
    if photometric == "MONOCHROME1":
        bits = int(number(frame.instance, "BitsStored") or 16)
        signed = number(frame.instance, "PixelRepresentation") == 1
        # subtracting from lowest + highest storable value turns dark into bright and stays in range
        stored = (-1.0 if signed else 2.0**bits - 1) - stored
    slope = 1.0 if frame.slope is None or frame.slope == 0 else frame.slope  # a slope of 0 would erase the image
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.asarray(stored * slope + (frame.intercept or 0.0), np.float32)
    if not np.isfinite(values).all():
        raise Unsuitable(f"The rescale slope or intercept is unusable ({_where(frame)}).")
    return values


def _stored_values(frame: Frame) -> FloatArray:
    """(rows, columns) stored values, unused bits removed and sign extended (PS3.5 8.1.1; pydicom does both)."""
    _require_whole(frame)
    try:
        with warnings.catch_warnings():  # e.g. of a padding byte too many: the shape below is what counts
            warnings.simplefilter("ignore")
            decoded = _decoded(frame)
    except UNDECODABLE as error:
        raise Unsuitable(f"The pixel data cannot be decoded ({_where(frame)}: {type(error).__name__}).") from error
    if decoded.shape != (frame.rows, frame.columns):
        found = " x ".join(str(size) for size in decoded.shape)
        raise Unsuitable(
            f"The pixel data is {found} where the header says {frame.rows} x {frame.columns} ({_where(frame)})."
        )
    return np.asarray(decoded, np.float64)


def _decoded(frame: Frame) -> NDArray[Any]:
    instance, bits = frame.instance, int(number(frame.instance, "BitsStored") or 16)
    if jpeg_extended.is_extended(instance.file_meta.TransferSyntaxUID, bits):
        return jpeg_extended.decode(_code_stream(frame), frame.rows, frame.columns, bits)
    return pixel_array(instance, index=frame.number - 1)


def _code_stream(frame: Frame) -> bytes:
    count = int(number(frame.instance, "NumberOfFrames") or 1)
    return get_frame(frame.instance.PixelData, frame.number - 1, number_of_frames=count)


def _require_whole(frame: Frame) -> None:
    """Refuses pixel data that ends early: some decoders fill the rest with grey and say nothing."""
    instance = frame.instance
    data = value(instance, "PixelData")
    if not isinstance(data, bytes) or not data:
        raise Unsuitable(f"An image has no pixel data ({_where(frame)}).")
    syntax = value(getattr(instance, "file_meta", None), "TransferSyntaxUID")
    if syntax is None:
        raise Unsuitable(f"An image does not say its transfer syntax ({_where(frame)}).")
    count = int(number(instance, "NumberOfFrames") or 1)
    if not syntax.is_encapsulated:
        needed = frame.rows * frame.columns * count * int(number(instance, "BitsAllocated") or 16) // 8
        if len(data) < needed:
            raise Unsuitable(f"The pixel data is cut short: {len(data)} of {needed} bytes ({_where(frame)}).")
    elif syntax != RLELossless:  # RLE carries its lengths, its decoder checks them
        try:
            code_stream = _code_stream(frame)
        except UNDECODABLE as error:
            raise Unsuitable(f"The compressed pixel data is broken ({_where(frame)}).") from error
        # JPEG, JPEG-LS and JPEG 2000 all close with the marker FFD9; padding may follow
        if not code_stream.rstrip(b"\x00").endswith(b"\xff\xd9"):
            raise Unsuitable(f"The compressed pixel data is cut short ({_where(frame)}).")


def _where(frame: Frame) -> str:
    return f"image {frame.sop_instance_uid}, frame {frame.number}"
