"""The study that the results join: what they copy from its headers, and how they refer to its images."""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_data_element

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
    """Keywords of source attributes that could not be written again (malformed values)."""
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
        attributes, dropped = _study_attributes(speaker)
    attributes.StudyInstanceUID = study_instance_uid or str(speaker.get("StudyInstanceUID", ""))
    return SourceStudy(
        attributes=attributes,
        dropped=dropped,
        instances=instances,
        frame_of_reference_uid=str(speaker.get("FrameOfReferenceUID") or ""),
    )


def _study_attributes(instance: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    attributes, dropped = Dataset(), []
    charset = _written(instance, "SpecificCharacterSet", None)
    if charset is not None:
        attributes.add(charset)
    encodings = _encodings(attributes)
    for keyword in STUDY_LEVEL_KEYWORDS:
        if keyword not in instance:
            continue
        element = _written(instance, keyword, encodings)
        if element is None:
            dropped.append(keyword)
        else:
            attributes.add(element)
    for keyword in TYPE_2_KEYWORDS:
        if keyword not in attributes:
            setattr(attributes, keyword, "")
    return attributes, tuple(dropped)


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


def _first_codec(attributes: Dataset) -> str:
    """What text is encoded with that needs no change of character set: ASCII where the source states none."""
    stated = attributes.get("SpecificCharacterSet") or ""
    first = stated if isinstance(stated, str) else stated[0]
    return "ascii" if first in ("", "ISO_IR 6", "ISO 2022 IR 6") else _encodings(attributes)[0]


def writable(text: str, attributes: Dataset) -> str:
    """``text`` as the source's character set can hold it: accents are spelt out or dropped, the rest becomes "?"."""
    if text.isascii():
        return text
    try:
        text.encode(_first_codec(attributes))
    except (UnicodeEncodeError, LookupError):
        return in_ascii(text)
    return text


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
