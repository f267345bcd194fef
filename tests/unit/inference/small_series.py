"""A sagittal series of few small slices whose every pixel is known."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless

from tests.dicom_factories import mr_series

SMALL = np.arange(12, dtype=np.uint16).reshape(3, 4)


def small_series(count: int = 5, **headers: object) -> list[Dataset]:
    """Slices of 3 x 4 pixels; slice i holds i * 100 + 0..11."""
    series = mr_series(count, pixels=SMALL, **headers)
    for index, image in enumerate(series):
        image.PixelData = (SMALL + np.uint16(index * 100)).tobytes()
    return series


def compress(image: Dataset, syntax: str) -> None:
    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls", reason="pyjpegls encodes JPEG-LS; decoding needs only gdcm")
    image.compress(syntax, generate_instance_uid=False)
