"""DICOM files read for grading: headers now, pixels when somebody asks for them.

A file that cannot be read is named with the reason and never stops the others. Reads disk only; knows no ledger.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node import inflated_file

DEFER_BYTES = 65536
"""Larger values than this stay in the file until they are asked for: pixels, in practice."""
UNREADABLE = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What pydicom raises for a file that is no DICOM file, or a broken or hostile one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreadableFile:
    """A file that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFiles:
    """What a set of files holds."""

    instances: tuple[pydicom.Dataset, ...]
    """Images with truncated pixels are among them: whoever needs those pixels finds out, the others do not care."""
    unreadable: tuple[UnreadableFile, ...]


def files_below(folder: Path) -> tuple[Path, ...]:
    """Every file below a folder in the order of their names; hidden ones and DICOMDIR left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "DICOMDIR")
    return tuple(sorted(path for path in found if not _is_hidden(path.relative_to(folder))))


def read(paths: Iterable[Path]) -> StudyFiles:
    """Read the headers of DICOM files; their pixels are read from the file on first use, which must still be there."""
    instances: list[pydicom.Dataset] = []
    unreadable: list[UnreadableFile] = []
    for path in paths:
        try:
            instance = _read_one(path)
        except UNREADABLE as error:
            unreadable.append(UnreadableFile(path=path, reason=_reason(error)))
            continue
        if "StudyInstanceUID" in instance and "SOPInstanceUID" in instance:
            instances.append(instance)
        else:
            unreadable.append(UnreadableFile(path=path, reason="it names no study or no instance (truncated?)"))
    return StudyFiles(instances=tuple(instances), unreadable=tuple(unreadable))


def _read_one(path: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unexpected end of the file: the missing elements speak for themselves
        if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return inflated_file.read_deflated(path, defer_bytes=DEFER_BYTES)
        return pydicom.dcmread(path, defer_size=DEFER_BYTES)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _reason(error: Exception) -> str:
    if isinstance(error, InvalidDicomError):
        return "not a DICOM file"
    if isinstance(error, inflated_file.CannotInflate):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory to read it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the file cannot be read ({type(error).__name__})"
