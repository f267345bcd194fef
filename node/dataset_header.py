"""The few attributes by which an encoded data set is filed, read without decoding anything else of it.

The data set comes from the network. Whatever it holds, this walks over it once, follows no nesting by recursion,
copies no values but the five it looks for, and ends with a ``DatasetHeader`` or ``Unreadable``. A deflated one is
inflated piece by piece, as far as its header goes: however big it is, or becomes, a piece of it is held at a time.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple, Protocol

_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_MODALITY = 0x00080060
_STUDY_INSTANCE_UID = 0x0020000D
_SERIES_INSTANCE_UID = 0x0020000E
_WANTED = (_SOP_CLASS_UID, _SOP_INSTANCE_UID, _MODALITY, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID)

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED_LENGTH = 0xFFFFFFFF
_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split(),
)
"""VRs whose explicit length has two bytes; all others, even those yet to come, have four (PS3.5 section 7.1.2)."""
_IMPLICIT_VR = "1.2.840.10008.1.2"
_BIG_ENDIAN = frozenset({"1.2.840.10008.1.2.2"})
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
_MOST_INFLATED_BYTES = 2**24
"""How much of a deflated data set is inflated to find its header: no small file may cost time without end."""
_PIECE_BYTES = 2**14
"""Fed at a time; what it becomes is bounded, too."""
_LONGEST_HEAD_BYTES = 12
"""Of tag, VR and length."""
_LONGEST_VALUE_BYTES = 130
"""Room for every value that could be right; longer ones are wrong whatever they hold."""
_MOST_ELEMENTS = 200_000
"""Steps before the header is given up: seconds of work, and far more than any real object has there."""
_UID = re.compile(r"[0-9][0-9.]{0,63}")
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")


class Unreadable(Exception):
    """The bytes are no data set in this transfer syntax, or end before its header does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetHeader:
    """What the data set says of itself; an empty text for what it does not say, or says in a forbidden way."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str


def read_header(dataset: bytes | memoryview, transfer_syntax_uid: str) -> DatasetHeader:
    """The filing attributes of a data set encoded in a transfer syntax (PS3.5 sections 7 and 10, annex A).

    Transfer syntaxes that are not known, private ones too, are taken for Explicit VR Little Endian, as PS3.5 section
    A.4 demands of every encapsulated one.

    Raises:
        Unreadable: without any identifier in its text.
    """
    if transfer_syntax_uid in _DEFLATED:
        return _read_deflated(dataset)
    level = _Level(
        implicit=transfer_syntax_uid == _IMPLICIT_VR, byte_order=">" if transfer_syntax_uid in _BIG_ENDIAN else "<"
    )
    return _read(_Walk(_Plain(memoryview(dataset))), level)


def uid_or_empty(value: str) -> str:
    """The value where it can be a UID: 1 to 64 digits and dots (PS3.5 section 9.1; leading zeros occur, and pass)."""
    return value if _UID.fullmatch(value) else ""


@dataclass(frozen=True, slots=True)
class _Level:
    """How the elements of one level of nesting are encoded."""

    implicit: bool
    byte_order: str
    is_sequence: bool = False


class _Element(NamedTuple):  # one is made for each element: a frozen dataclass takes three times as long
    tag: int
    vr: bytes
    length: int
    value_at: int


def _read_deflated(dataset: bytes | memoryview) -> DatasetHeader:
    return _read(_Walk(_Inflated(memoryview(dataset))), _Level(implicit=False, byte_order="<"))


class _Source(Protocol):
    """The bytes of a data set, asked for from its beginning to its end."""

    def at(self, position: int, count: int) -> bytes:
        """So many bytes, or as many as there are."""
        ...

    def reaches(self, position: int) -> bool:
        """Whether the data set has at least so many bytes; all but the last of them may be gone afterwards."""
        ...


class _Plain:
    def __init__(self, dataset: memoryview) -> None:
        self._dataset = dataset

    def at(self, position: int, count: int) -> bytes:
        return bytes(self._dataset[position : position + count])

    def reaches(self, position: int) -> bool:
        return position <= len(self._dataset)


class _Inflated:
    """A deflated data set (PS3.5 section A.5), of which the piece at hand is held, and no more."""

    def __init__(self, deflated: memoryview) -> None:
        self._deflated = deflated
        self._fed = 0
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._begin = 0
        self._piece = b""

    def at(self, position: int, count: int) -> bytes:
        while self._end < position + count and self._inflate(position):
            pass
        offset = position - self._begin
        return self._piece[offset : offset + count]

    def reaches(self, position: int) -> bool:
        while self._end < position and self._inflate(position - 1):
            pass
        return position <= self._end

    @property
    def _end(self) -> int:
        return self._begin + len(self._piece)

    def _inflate(self, position: int) -> bool:
        """Takes another piece, and lets go of what is before a position; False at the end."""
        if self._end >= _MOST_INFLATED_BYTES:
            raise Unreadable("too many bytes before the Series Instance UID")
        inflated = b""
        while not inflated and not self._inflater.eof:
            fed = self._inflater.unconsumed_tail
            if not fed:
                fed = bytes(self._deflated[self._fed : self._fed + _PIECE_BYTES])
                self._fed += len(fed)
            try:
                inflated = self._inflater.decompress(fed, _PIECE_BYTES)
            except zlib.error as error:
                raise Unreadable("the deflated data set cannot be inflated") from error
            if not fed:
                break  # the last of what was fed before has come
        gone = min(position - self._begin, len(self._piece))
        self._piece = self._piece[gone:] + inflated
        self._begin += gone
        return bool(inflated)


class _Walk:
    """Steps from element to element of a data set, a bounded number of times."""

    def __init__(self, dataset: _Source) -> None:
        self.dataset = dataset
        self._steps = 0

    def element(self, position: int, level: _Level) -> _Element:
        """The tag, VR and length at a position (PS3.5 section 7.1)."""
        self._steps += 1
        if self._steps > _MOST_ELEMENTS:
            raise Unreadable("too many elements before the Series Instance UID")
        try:
            return self._element(position, level)
        except struct.error as error:
            raise Unreadable("the data set ends inside an element") from error

    def _element(self, position: int, level: _Level) -> _Element:
        head = self.dataset.at(position, _LONGEST_HEAD_BYTES)
        group, number = struct.unpack_from(f"{level.byte_order}HH", head)
        tag = group << 16 | number
        if level.implicit or group == 0xFFFE:
            (length,) = struct.unpack_from(f"{level.byte_order}L", head, 4)
            return _Element(tag, b"", length, position + 8)
        vr = head[4:6]
        if vr in _SHORT_VRS:
            (length,) = struct.unpack_from(f"{level.byte_order}H", head, 6)
            return _Element(tag, vr, length, position + 8)
        if not (vr.isalpha() and vr.isupper()):
            raise Unreadable("an element has no value representation")
        (length,) = struct.unpack_from(f"{level.byte_order}L", head, 8)
        return _Element(tag, vr, length, position + 12)


def _read(walk: _Walk, level: _Level) -> DatasetHeader:
    values: dict[int, str] = {}
    position = 0
    while walk.dataset.reaches(position + 1):
        element = walk.element(position, level)
        if element.tag > _SERIES_INSTANCE_UID:
            break
        if element.length == _UNDEFINED_LENGTH:
            position = _after_sequence(walk, element.value_at, _inside(element, level))
            continue
        if element.tag in _WANTED:
            values[element.tag] = _text(walk.dataset.at(element.value_at, min(element.length, _LONGEST_VALUE_BYTES)))
        position = element.value_at + element.length
        if not walk.dataset.reaches(position):
            raise Unreadable("the data set ends inside an element")
    modality = values.get(_MODALITY, "")
    return DatasetHeader(
        sop_class_uid=uid_or_empty(values.get(_SOP_CLASS_UID, "")),
        sop_instance_uid=uid_or_empty(values.get(_SOP_INSTANCE_UID, "")),
        study_instance_uid=uid_or_empty(values.get(_STUDY_INSTANCE_UID, "")),
        series_instance_uid=uid_or_empty(values.get(_SERIES_INSTANCE_UID, "")),
        modality=modality if _CODE_STRING.fullmatch(modality) else "",
    )


def _text(value: bytes) -> str:
    return value.decode("latin-1").rstrip("\0 ").lstrip(" ")


def _inside(element: _Element, level: _Level) -> _Level:
    """How the items of a value of undefined length are encoded; always implicit in UN (PS3.5 section 6.2.2)."""
    if element.vr == b"UN":
        return _Level(implicit=True, byte_order="<", is_sequence=True)
    return _Level(implicit=level.implicit, byte_order=level.byte_order, is_sequence=True)


def _after_sequence(walk: _Walk, position: int, sequence: _Level) -> int:
    """The position behind a value of undefined length whose first item is at ``position`` (PS3.5 section 7.5)."""
    levels = [sequence]
    while levels:
        level = levels[-1]
        element = walk.element(position, level)
        if element.tag == (_SEQUENCE_END if level.is_sequence else _ITEM_END):
            levels.pop()
            position = element.value_at
        elif level.is_sequence and element.tag != _ITEM:
            raise Unreadable("a sequence holds something that is no item")
        elif element.length != _UNDEFINED_LENGTH:
            position = element.value_at + element.length
        else:
            item = _Level(implicit=level.implicit, byte_order=level.byte_order)
            levels.append(item if level.is_sequence else _inside(element, level))
            position = element.value_at
    return position
