"""The body of a STOW-RS request: its parts, and what the File Meta Information of each says. Pure.

PS3.18 section 10.5 (Store transaction), RFC 2046 section 5.1 (multipart), PS3.10 section 7.1 (files).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from mmap import mmap

_PREAMBLE_BYTES = 128
_LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010
_MOST_PART_HEADER_BYTES = 8192


class NotAFile(Exception):
    """The bytes are no DICOM file."""


class NotMultipart(Exception):
    """The request is not multipart/related of application/dicom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileMeta:
    """Of one file (PS3.10 section 7.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_at: int
    """Offset of the data set in the file."""


def boundary_of(content_type: str) -> bytes:
    """The boundary in a Content-Type header.

    Raises:
        NotMultipart
    """
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_param("boundary")
    kind = str(header.get_param("type", "application/dicom")).lower()
    if header.get_content_type() != "multipart/related" or not isinstance(boundary, str) or kind != "application/dicom":
        raise NotMultipart("multipart/related; type=application/dicom with a boundary is taken, and nothing else")
    if not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise NotMultipart("a boundary has 1 to 70 ASCII characters")
    return boundary.encode("ascii")


def parts(body: mmap | bytes, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of the content of each part; parts without an end of their header or content are left out."""
    delimiter = b"--" + boundary
    position = body.find(delimiter)
    while position >= 0:
        after = position + len(delimiter)
        if body[after : after + 2] == b"--":
            return
        end = body.find(b"\r\n" + delimiter, after)
        if end < 0:
            return
        header_end = body.find(b"\r\n\r\n", after, min(end, after + _MOST_PART_HEADER_BYTES))
        if header_end >= 0:
            yield header_end + 4, end
        position = end + 2


def file_meta(file: memoryview) -> FileMeta:
    """The File Meta Information of a file.

    Raises:
        NotAFile: without anything of its content in the text.
    """
    if bytes(file[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4]) != b"DICM":
        raise NotAFile("no DICOM file: the prefix DICM is missing")
    values: dict[int, str] = {}
    position = _PREAMBLE_BYTES + 4
    try:
        while struct.unpack_from("<H", file, position)[0] == 2:
            number, vr = struct.unpack_from("<H2s", file, position + 2)
            if vr in _LONG_VRS:
                (length,) = struct.unpack_from("<L", file, position + 8)
                value_at = position + 12
            else:
                (length,) = struct.unpack_from("<H", file, position + 6)
                value_at = position + 8
            position = value_at + length
            if number in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX):
                values[number] = re.sub(
                    r"[\0 ]+$", "", bytes(file[value_at : min(position, value_at + 130)]).decode("latin-1")
                )
    except struct.error as error:
        raise NotAFile("no DICOM file: it ends inside its File Meta Information") from error
    return FileMeta(
        sop_class_uid=values.get(_SOP_CLASS, ""),
        sop_instance_uid=values.get(_SOP_INSTANCE, ""),
        transfer_syntax_uid=values.get(_TRANSFER_SYNTAX, ""),
        dataset_at=position,
    )
