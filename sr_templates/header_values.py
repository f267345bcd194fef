"""What of a source header may stand in a result: values that are valid for their VR, and words that cannot mislead.

A value that no object may hold (PS3.5 6.2) would make every result invalid; control characters and line breaks
could forge a line of a report or clear the terminal that it is read in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import date

from pydicom import DataElement
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM
from pydicom.multival import MultiValue
from pydicom.valuerep import MAX_VALUE_LEN, PersonName, validate_value

IDENTITY_KEYWORDS = frozenset({"PatientName", "PatientID"})
"""Kept as far as a valid value can keep them, so that results are filed with their patient. Anything else that is no
valid value is not copied."""

QUOTED_CHARACTERS = 64

_TEXT = frozenset({"LO", "SH", "PN", "LT", "ST", "UT", "UC"})
_OF_SEVERAL_LINES = frozenset({"LT", "ST", "UT"})
_CHECKED = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
_NO_RANGE = frozenset({"DA", "TM"})
"""A date or time with a hyphen is a range, which only queries have."""

_ALLOWED: dict[str, frozenset[str]] = {
    "PatientSex": frozenset({"M", "F", "O"}),
    "PatientSexNeutered": frozenset({"ALTERED", "UNALTERED"}),
    "PatientIdentityRemoved": frozenset({"YES", "NO"}),
    "QualityControlSubject": frozenset({"YES", "NO"}),
    "SmokingStatus": frozenset({"YES", "NO", "UNKNOWN"}),
    "PregnancyStatus": frozenset({"1", "2", "3", "4"}),
}
"""Enumerated values (PS3.3 C.7.1.1, C.7.2.2): no other is valid."""

_ZONE = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_SPLITTING = frozenset("\t\n\v\f\r\x85\u2028\u2029")
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: controls, directions and other marks without a shape, halves of characters, line separators."""


def fitting(element: DataElement) -> DataElement | None:
    """The element if a result may hold it, else one that says the same as far as it can, else None.

    Control characters are taken out of texts. Of a name or identifier of the patient that is too long or
    that has too many values as much is kept as is valid. A sequence is kept whole or not at all.
    """
    if element.VR == "SQ":
        nested = (fitting(part) is part for item in element.value for part in item)
        return element if all(nested) else None
    if element.is_empty:
        return element
    several = isinstance(element.value, (MultiValue, list, tuple))
    values = [str(value) for value in (element.value if several else [element.value])]
    kept_by_force = element.keyword in IDENTITY_KEYWORDS
    fit = _fitting_values(element, values, kept_by_force)
    if fit is None:
        return None
    if fit == values and not (element.VR == "PN" and _has_doubtful_bytes(element)):
        return element
    return DataElement(element.tag, element.VR, fit if len(fit) > 1 else fit[0], validation_mode=0)


def without_controls(text: str, keep: str = "") -> str:
    """``text`` with spaces for line breaks and tabulators and without other control characters."""
    told = ((" " if c in _SPLITTING else "") if unicodedata.category(c) == "Cc" and c not in keep else c for c in text)
    return "".join(told)


def in_one_line(text: str) -> str:
    """``text`` without anything that a reader cannot see and that changes how the rest is seen."""
    spaced = "".join(" " if c in _SPLITTING else c for c in text)
    return " ".join("".join(c for c in spaced if unicodedata.category(c) not in _UNSEEN).split())


def quoted(text: str) -> str:
    """Words of a source header within words of ours: in quotation marks, in one line, of bounded length."""
    words = in_one_line(text).replace('"', "'")
    if len(words) > QUOTED_CHARACTERS:
        words = f"{words[: QUOTED_CHARACTERS - 3].rstrip()}..."
    return f'"{words}"'


def _fitting_values(element: DataElement, values: Sequence[str], kept_by_force: bool) -> list[str] | None:
    if len(values) > 1 and dictionary_VM(element.tag) == "1":
        if not kept_by_force:
            return None
        values = [" ".join(value for value in values if value)]
    if element.VR in _TEXT:
        keep = "\r\n\f" if element.VR in _OF_SEVERAL_LINES else ""
        values = [without_controls(value, keep) for value in values]
        if kept_by_force:
            values = [_cut(element.VR, value) for value in values]
    return list(values) if all(_is_valid(element, value) for value in values) else None


def _is_valid(element: DataElement, value: str) -> bool:
    keyword, vr = element.keyword, element.VR
    if not value:
        return True
    if keyword in _ALLOWED and value not in _ALLOWED[keyword]:
        return False
    if keyword == "TimezoneOffsetFromUTC" and not _ZONE.fullmatch(value):
        return False
    if vr in _NO_RANGE and "-" in value:
        return False
    if vr not in _TEXT | _CHECKED:
        return True
    try:
        validate_value(vr, value, RAISE)
        if vr == "DA":
            date.fromisoformat(value.strip())
    except ValueError:
        return False
    return True


def _cut(vr: str, value: str) -> str:
    if vr == "PN":
        return "=".join(map(_cut_name, value.split("=")[:3]))
    return value[: MAX_VALUE_LEN[vr]]


def _cut_name(group: str) -> str:
    """At most 64 characters of a name, with something of each of its components."""
    components = group.split("^")
    while len("^".join(components)) > 64 and any(components):
        longest = max(range(len(components)), key=lambda index: len(components[index]))
        components[longest] = components[longest][:-1]
    return "^".join(components)[:64]


def _has_doubtful_bytes(element: DataElement) -> bool:
    """Whether a name keeps bytes, which would be written again, that its character set cannot read."""
    names = element.value if isinstance(element.value, MultiValue) else [element.value]
    return any(isinstance(name, PersonName) and _is_doubtful(name) for name in names)


def _is_doubtful(name: PersonName) -> bool:
    written = name.original_string
    escapes = isinstance(written, bytes) and b"\x1b" in written
    return "\ufffd" in str(name) or (escapes and len(name.encodings or ()) < 2)
