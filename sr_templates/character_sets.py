"""Names in a source that does not say how they are written: without a Specific Character Set only ASCII is valid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue

UNSTATED = ["iso8859"]
"""What pydicom reads with where the source states no character set, or one that nobody knows: as Latin-1."""

_TEXT = frozenset({"LO", "SH", "PN", "LT", "ST", "UT", "UC"})


def unstated_character_set(elements: Iterable[DataElement]) -> str | None:
    """The character set that keeps every byte as the source has it; None where all is ASCII.

    What is valid UTF-8 throughout is hardly ever anything else; any bytes are valid Latin-1.
    """
    words = [word for element in elements for word in _words(element) if not word.isascii()]
    if not words:
        return None
    try:
        for word in words:
            _as_utf8(word)
    except UnicodeError:
        return "ISO_IR 100"
    return "ISO_IR 192"


def read_as_utf8(element: DataElement) -> DataElement:
    """The element with its texts, which were read as Latin-1, read as UTF-8."""
    if all(word.isascii() for word in _words(element)):
        return element
    if element.VR == "SQ":
        return DataElement(element.tag, "SQ", [_item_as_utf8(item) for item in element.value])
    values = [_as_utf8(word) for word in _words(element)]
    return DataElement(element.tag, element.VR, values if len(values) > 1 else values[0], validation_mode=0)


def _item_as_utf8(item: Dataset) -> Dataset:
    copied = Dataset()
    for part in item:
        copied.add(read_as_utf8(part))
    return copied


def _words(element: DataElement) -> Iterator[str]:
    if element.VR == "SQ":
        for item in element.value:
            for part in item:
                yield from _words(part)
    elif element.VR in _TEXT and not element.is_empty:
        for value in element.value if isinstance(element.value, MultiValue) else [element.value]:
            yield str(value)


def _as_utf8(word: str) -> str:
    return word.encode("latin-1").decode("utf-8")
