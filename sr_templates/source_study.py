"""The study that the results join: what they copy from its headers, and how they refer to its images."""

from __future__ import annotations

import struct
import unicodedata
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_data_element
from pydicom.valuerep import TEXT_VR_DELIMS

from sr_templates.character_sets import UNSTATED, read_as_utf8, unstated_character_set
from sr_templates.header_values import fitting, without_controls
from sr_templates.study_modules import STUDY_LEVEL_KEYWORDS, TYPE_2_KEYWORDS


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceInstance:
    """What a reference to a source image needs."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    is_multiframe: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceStudy:
    """The study that the results join: its patient and study attributes, and its instances by SOP UID."""

    attributes: Dataset
    dropped: tuple[str, ...]
    """Keywords of source attributes whose values are malformed: left out, or empty where an object must have them."""
    mended: tuple[str, ...]
    """Keywords of source attributes whose malformed values were copied as far as a valid value allows."""
    instances: Mapping[str, SourceInstance]
    frame_of_reference_uid: str
    """Of the graded images; empty where they state none."""


def read_source(source: Sequence[Dataset], study_instance_uid: str, graded: Collection[str] = ()) -> SourceStudy:
    """Collect what the results copy from the source headers.

    The first of the ``graded`` images (SOP Instance UIDs) speaks for patient and study; without one, the first
    instance. Objects without the identifiers that a reference needs are passed over.
    """
    instances = {
        str(instance.SOPInstanceUID): SourceInstance(
            sop_class_uid=str(instance.SOPClassUID),
            sop_instance_uid=str(instance.SOPInstanceUID),
            series_instance_uid=str(instance.SeriesInstanceUID),
            is_multiframe="NumberOfFrames" in instance or "PerFrameFunctionalGroupsSequence" in instance,
        )
        for instance in source
        if all(keyword in instance for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"))
    }
    if not source or not instances.keys() >= set(graded):
        raise ValueError("the source instances do not hold the images that the report refers to")
    speaker = next((item for item in source if str(item.get("SOPInstanceUID")) in graded), source[0])
    with disable_value_validation():  # its warnings would put the patient's values into logs
        attributes, dropped, mended = _study_attributes(speaker)
    attributes.StudyInstanceUID = study_instance_uid or str(speaker.get("StudyInstanceUID", ""))
    return SourceStudy(
        attributes=attributes,
        dropped=dropped,
        mended=mended,
        instances=instances,
        frame_of_reference_uid=str(speaker.get("FrameOfReferenceUID") or ""),
    )


def _study_attributes(instance: Dataset) -> tuple[Dataset, tuple[str, ...], tuple[str, ...]]:
    attributes, dropped, mended = Dataset(), [], []
    charset = _written(instance, "SpecificCharacterSet", None)
    if charset is not None:
        attributes.add(charset)
    encodings = _encodings(attributes)
    found = {keyword: _written(instance, keyword, encodings) for keyword in STUDY_LEVEL_KEYWORDS if keyword in instance}
    if encodings == UNSTATED:
        unstated = unstated_character_set(element for element in found.values() if element is not None)
        if unstated is not None:
            attributes.SpecificCharacterSet = unstated
            mended.append("SpecificCharacterSet")
        if unstated == "ISO_IR 192":
            found = {keyword: None if e is None else read_as_utf8(e) for keyword, e in found.items()}
    for keyword, element in found.items():
        fit = None if element is None else fitting(element)
        if fit is None:
            dropped.append(keyword)
            continue
        attributes.add(fit)
        if fit is not element:
            mended.append(keyword)
    for keyword in TYPE_2_KEYWORDS:
        if keyword not in attributes:
            setattr(attributes, keyword, "")
    return attributes, tuple(dropped), tuple(mended)


_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, OverflowError, NotImplementedError, struct.error)
"""What pydicom raises on reading or writing values that are not what their VR says."""


def _written(instance: Dataset, keyword: str, encodings: list[str] | None) -> DataElement | None:
    """The element as it can be written again, or None where it is absent or malformed.

    Only a trial tells: headers from the field carry values that can be read but not written.
    """
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in instance:
        return None
    try:
        element = instance[tag]
        vr = dictionary_VR(tag)
        if vr != element.VR:
            element = DataElement(tag, vr, element.value)
        trial = DicomFileLike(BytesIO())
        trial.is_little_endian, trial.is_implicit_VR = True, False
        write_data_element(trial, element, encodings)
    except _MALFORMED:
        return None
    return element


def _encodings(attributes: Dataset) -> list[str]:
    encodings: list[str] = convert_encodings(attributes.get("SpecificCharacterSet") or "ISO_IR 6")
    return encodings


_SPELT_OUT = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "ø": "o", "ł": "l", "Ł": "L"}
)


def in_ascii(text: str) -> str:
    """``text`` in the default repertoire (PS3.5 6.1.1)."""
    apart = unicodedata.normalize("NFKD", text.translate(_SPELT_OUT))
    return "".join(c for c in apart if not unicodedata.combining(c)).encode("ascii", "replace").decode("ascii")


def _holds(text: str, attributes: Dataset) -> bool:
    """Whether the text is read again as it was meant: codes that end with a line (PS3.5 6.1.2.5.3) may not be."""
    codecs = _encodings(attributes)
    if codecs[0] == "iso8859" and any("\x7f" < c < "\u0100" for c in text):
        return False  # the default repertoire is ASCII, which pydicom reads and writes as Latin-1
    if not all(any(_encodes(c, codec) for codec in codecs) for c in text):
        return False
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is the answer
        return decode_bytes(encode_string(text, codecs), codecs, TEXT_VR_DELIMS) == text


def _encodes(character: str, codec: str) -> bool:
    try:
        return character.encode(codec).decode(codec) == character
    except (UnicodeError, LookupError):
        return False


def writable(text: str, attributes: Dataset) -> str:
    """``text`` as the source's character set can hold it, without control characters other than line breaks.

    Of other characters accents are spelt out or dropped, the rest becomes "?".
    """
    text = without_controls(text, keep="\r\n")
    if text.isascii():
        return text
    if _holds(text, attributes):
        return text
    near = "".join(c if _holds(c, attributes) else in_ascii(c) for c in text)
    return near if _holds(near, attributes) else in_ascii(text)


def referenced_evidence(instances: Sequence[SourceInstance], study_instance_uid: str) -> list[Dataset]:
    """Items of a Current Requested Procedure Evidence Sequence (PS3.3 C.17.2), each instance once."""
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = []
    by_series: dict[str, dict[str, SourceInstance]] = {}
    for instance in instances:
        by_series.setdefault(instance.series_instance_uid, {})[instance.sop_instance_uid] = instance
    for series_instance_uid, members in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_instance_uid
        series.ReferencedSOPSequence = [sop_reference(member) for member in members.values()]
        study.ReferencedSeriesSequence.append(series)
    return [study]


def sop_reference(instance: SourceInstance) -> Dataset:
    """SOP Instance Reference macro (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return item
