"""12-bit JPEG Extended (process 4), which GDCM decodes and pydicom will not ask it to.

That GDCM is right about it is held by a test against DCMTK's decoder.
"""

from __future__ import annotations

import gdcm
import numpy as np
from pydicom.uid import UID, JPEGExtended12Bit

from inference.volume import FloatArray


def is_extended(transfer_syntax: UID, bits_stored: int) -> bool:
    """Whether pixel data of this kind has to be decoded here."""
    return bool(transfer_syntax == JPEGExtended12Bit) and 8 < bits_stored <= 12


def decode(code_stream: bytes, rows: int, columns: int, bits_stored: int) -> FloatArray:
    """(rows, columns) unsigned stored values of one grey-scale frame. Raises ``ValueError`` where GDCM gives less."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(code_stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, bits_stored, bits_stored - 1, 0))
    # GDCM's Python binding hands bytes over as text
    values = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), "<u2")
    if values.size != rows * columns:
        raise ValueError(f"{values.size} pixels decoded of {rows * columns}")
    return np.asarray(values.reshape(rows, columns), np.float64)
