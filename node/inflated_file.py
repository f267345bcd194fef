"""Deflated DICOM files (PS3.5 section A.5), read without ever holding what they inflate to.

A deflated file of half a megabyte can hold 400 MB, and as many elements as fit. What is read for the header, in bytes
and in steps, is bounded, and so is what the file inflates to at all; large values are passed over, piece by piece, and
read from the file when somebody asks for them, as with every other file.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble

MOST_INFLATED_BYTES = 2**28
"""256 MB: 500 frames of 512 x 512 pixels."""
MOST_HEADER_BYTES = 2**24
"""Of values that are read at once."""
MOST_HEADER_READS = 300_000
"""About two for each element or item: these weigh hundreds of bytes once they are read."""
MOST_PARSED_BYTES = 2**20
"""Of one value that is read when it is asked for, and then taken apart: a sequence, a list."""
_WHOLE_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW"})
"""Not taken apart."""
_PIECE_BYTES = 2**16
_META_GROUP = 2


class CannotInflate(ValueError):
    """The file is broken, or becomes too large; the message says which, and names no one."""


class InflatedFile:
    """The inflated data set of a file, for reading; positions count from its beginning.

    A piece is held at a time. Going back beyond it begins anew, and counts.
    """

    def __init__(
        self, path: str, mode: str = "rb", *, most_read_bytes: int | None = None, most_reads: int | None = None
    ) -> None:
        """``mode`` is that of ``open``, which pydicom passes when it comes back for a value."""
        self.name = path
        self._most_read_bytes = most_read_bytes
        self._most_reads = most_reads
        self._reads = self._read_bytes = self._inflated_bytes = 0
        self._position = 0
        self._file = cast(BinaryIO, open(path, mode))  # noqa: PTH123, SIM115 - closed by ``close``
        try:
            self.preamble, self.meta = _meta_of(self._file)
        except BaseException:
            self._file.close()
            raise
        self._data_set_at = self._file.tell()
        self._from_the_beginning()

    def close(self) -> None:
        self._file.close()
        self._piece = b""

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Nothing is inflated before something is read there."""
        self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position

    def read(self, count: int) -> bytes:
        """So many bytes, or as many as there are.

        Raises:
            CannotInflate: too many in all, or broken.
        """
        self._count(count)
        if self._position < self._begin:
            self._from_the_beginning()
        parts = []
        while count:
            while self._begin + len(self._piece) <= self._position and self._inflate():
                pass
            part = self._piece[self._position - self._begin :][:count]
            if not part:
                break
            parts.append(part)
            count -= len(part)
            self._position += len(part)
        return b"".join(parts)

    def _count(self, count: int) -> None:
        self._reads += 1
        self._read_bytes += count
        if self._most_reads is not None and self._reads > self._most_reads:
            raise CannotInflate("its deflated header holds too many elements")
        if self._most_read_bytes is not None and self._read_bytes > self._most_read_bytes:
            raise CannotInflate("its deflated header inflates to too many bytes")

    def _from_the_beginning(self) -> None:
        self._file.seek(self._data_set_at)
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._begin = 0
        self._piece = b""

    def _inflate(self) -> bool:
        """The next piece in place of all but the end of the last one; False at the end."""
        piece = b""
        while not piece and not self._inflater.eof:
            fed = self._inflater.unconsumed_tail or self._file.read(_PIECE_BYTES)
            try:
                piece = self._inflater.decompress(fed, _PIECE_BYTES)
            except zlib.error as error:
                raise CannotInflate("it cannot be inflated") from error
            if not fed and not piece and not self._inflater.eof:
                raise CannotInflate("it cannot be inflated to its end (truncated?)")
        self._inflated_bytes += len(piece)
        if self._inflated_bytes > MOST_INFLATED_BYTES:
            raise CannotInflate(f"it inflates to more than {MOST_INFLATED_BYTES // 2**20} MB")
        if piece:
            self._begin += max(0, len(self._piece) - _PIECE_BYTES)
            self._piece = self._piece[-_PIECE_BYTES:] + piece
        return bool(piece)


def read_deflated(path: Path, *, defer_bytes: int) -> FileDataset:
    """A deflated file's data set; values longer than ``defer_bytes`` are read from the file on first use.

    Raises:
        CannotInflate: it holds more than is ever read, or is broken.
    """
    source = InflatedFile(str(path), most_read_bytes=MOST_HEADER_BYTES, most_reads=MOST_HEADER_READS)
    try:
        elements = read_dataset(
            cast(BinaryIO, source), is_implicit_VR=False, is_little_endian=True, defer_size=defer_bytes
        )
    finally:
        source.close()
    for element in elements._dict.values():  # the public ways read the values
        if isinstance(element, RawDataElement) and element.value is None and _is_taken_apart(element):
            raise CannotInflate("a value of its deflated header inflates to too many bytes")
    item = FileDataset(
        str(path), elements, source.preamble, FileMetaDataset(source.meta), is_implicit_VR=False, is_little_endian=True
    )
    item.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=elements._character_set)
    item.fileobj_type = InflatedFile
    return item


def _is_taken_apart(element: RawDataElement) -> bool:
    return element.length > MOST_PARSED_BYTES and element.VR not in _WHOLE_VRS


def _meta_of(file: BinaryIO) -> tuple[bytes | None, Dataset]:
    """Preamble and file meta information, behind which the file stands then."""
    preamble = read_preamble(file, force=False)
    return preamble, read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != _META_GROUP)
