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
_LONGEST_PADDING_BYTES = 80
_DELIMITER_REST = re.compile(rb"(?:(?P<closing>--)[ \t]*(?:\r?\n|\Z)|(?P<padding>[ \t]*)\r\n)")
"""RFC 2046 section 5.1.1: what may stand behind a boundary."""


class NotAFile(Exception):
    """The bytes are no DICOM file."""


class Malformed(Exception):
    """The body does not parse to its closing boundary; the message holds nothing of it."""


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
    """Begin and end of the content of each part, up to the closing delimiter. None is passed over.

    Raises:
        Malformed: at the part that is not whole, or whose header or delimiter is not as it must be.
    """
    delimiter = b"\n--" + boundary
    begins_with_it = body[: len(delimiter) - 1] == delimiter[1:]
    begin = -1 if begins_with_it else body.find(delimiter)
    if begin < 0 and not begins_with_it:
        raise Malformed("the body does not hold its boundary")
    line_end, is_last = _delimiter_end(body, begin + len(delimiter))
    while not is_last:
        end = body.find(delimiter, line_end) - 1
        if end < 0:
            raise Malformed("the body ends before its closing boundary")
        if body[end : end + 1] != b"\r":
            raise Malformed("a boundary whose line does not begin after CRLF")
        next_line_end, is_last = _delimiter_end(body, end + 1 + len(delimiter))
        header_end = body.find(b"\r\n\r\n", line_end, min(end, line_end + _MOST_PART_HEADER_BYTES))
        if header_end < 0:
            raise Malformed(f"a part without an end of its header within {_MOST_PART_HEADER_BYTES} bytes")
        yield header_end + 4, end
        line_end = next_line_end


def _delimiter_end(body: mmap | bytes, after: int) -> tuple[int, bool]:
    """Where the line of a delimiter ends, before its line break, and whether it is the closing one.

    A boundary with anything but padding behind it is none of the sender's making, or lies inside an image: where the
    part ends cannot be told.
    """
    line = _DELIMITER_REST.match(body[after : after + _LONGEST_PADDING_BYTES])
    if line is None:
        raise Malformed("a boundary is not alone on its line, or its line does not end with CRLF")
    is_last = line["closing"] is not None
    return after + (0 if is_last else line.end("padding")), is_last


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
