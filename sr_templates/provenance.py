"""Where a result comes from: repeating identifiers, the equipment, and the study it belongs to.

The same study, weights and time give byte-identical objects, so a repeated step stores nothing twice.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from hashlib import sha256
from io import BytesIO
from uuid import UUID

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_data_element
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from inference.report import ModelIdentity
from sr_templates import codes
from sr_templates.study_modules import STUDY_LEVEL_KEYWORDS, TYPE_2_KEYWORDS

IMPLEMENTATION_VERSION_NAME = "SPINENODE_RESULT"
RESEARCH_USE_ONLY = "RESEARCH USE ONLY - not for diagnosis"


class OutputKind(StrEnum):
    """The kinds of objects, each a series of its own. A declined study gives the last one only."""

    MEASUREMENT_REPORT = "measurement_report"
    """Comprehensive 3D SR, TID 1500."""
    TEXT_REPORT = "text_report"
    """Basic Text SR."""
    SECONDARY_CAPTURE = "secondary_capture"
    """RGB images: a summary and the source slices with outlines and saliency."""
    DECLINED_REPORT = "declined_report"
    """Basic Text SR that says that the study was not graded, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One grading of one study by this node."""

    study_digest: str
    """Digest of the study's instances: another digest gives other UIDs."""
    created_at: datetime
    """Aware; every date and time that the objects carry of their own."""
    software_version: str = ""
    """Of this program, not of the weights."""
    manufacturer: str = "spinenode"
    station_name: str = ""
    institution_name: str = ""
    series_number_base: int = 9000

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at must carry a time zone")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """One object for the archive, ready for ``dataset.save_as(path, enforce_file_format=True)``."""

    kind: OutputKind
    title: str
    """A few words without patient data, e.g. for progress lines and the names of demo files."""
    dataset: Dataset


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


def uid(*parts: str) -> str:
    """A UID that the same parts always give (PS3.5 B.2: UUID-derived under 2.25)."""
    digest = sha256("\x1f".join(parts).encode()).digest()
    return f"2.25.{UUID(bytes=digest[:16], version=5).int}"


def device_uid(model: ModelIdentity) -> str:
    """Identifies the algorithm; new weights are a new device (IHE AIR)."""
    return uid("device", model.sha256)


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
    return SourceStudy(attributes=attributes, dropped=dropped, instances=instances)


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


def writable(text: str, attributes: Dataset) -> str:
    """``text`` as the source's character set can hold it: accents are dropped and the rest becomes "?"."""
    if text.isascii():
        return text
    try:
        text.encode(_encodings(attributes)[0])
    except (UnicodeEncodeError, LookupError):
        return unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode("ascii")
    return text


def envelope(  # noqa: PLR0913 - one argument for each thing that differs between the objects
    *,
    kind: OutputKind,
    index: int,
    sop_class_uid: str,
    description: str,
    source: SourceStudy,
    model: ModelIdentity,
    run: Run,
) -> Dataset:
    """A dataset with file meta and the modules that all results share.

    Patient and study (copied), General Series, General and Enhanced General Equipment (PS3.3 C.7.5.1-2), SOP
    Common (C.12.1). ``index`` counts the instances of the series from 1.
    """
    dataset = Dataset()
    dataset.update(source.attributes)
    series_parts = (source.attributes.StudyInstanceUID, run.study_digest, model.sha256, kind.value)
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = uid("instance", *series_parts, str(index))
    dataset.SeriesInstanceUID = uid("series", *series_parts)
    dataset.SeriesNumber = run.series_number_base + list(OutputKind).index(kind)
    dataset.SeriesDescription = description
    dataset.InstanceNumber = index
    _add_times(dataset, run.created_at)
    dataset.Manufacturer = writable(run.manufacturer, dataset)
    dataset.ManufacturerModelName = model.name[:64]
    dataset.DeviceSerialNumber = model.sha256[:64]
    dataset.SoftwareVersions = _versions(model, run)
    if run.station_name:
        dataset.StationName = writable(run.station_name, dataset)[:16]
    if run.institution_name:
        dataset.InstitutionName = writable(run.institution_name, dataset)[:64]
    dataset.ContributingEquipmentSequence = [_contributing_equipment(model, run)]
    dataset.CodingSchemeIdentificationSequence = [_coding_scheme()]
    dataset.file_meta = _file_meta(dataset)
    return dataset


def _versions(model: ModelIdentity, run: Run) -> list[str]:
    return [version[:64] for version in (run.software_version, f"weights {model.version}") if version]


def _add_times(dataset: Dataset, created_at: datetime) -> None:
    zone = _stated_zone(dataset)
    moment = created_at if zone is None else created_at.astimezone(zone)
    date, time = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
    dataset.SeriesDate = dataset.InstanceCreationDate = dataset.ContentDate = date
    dataset.SeriesTime = dataset.InstanceCreationTime = dataset.ContentTime = time


def _stated_zone(dataset: Dataset) -> timezone | None:
    """The zone that all times of the source are in (PS3.3 C.12.1.1.8); None where it says none that can be read."""
    text = str(dataset.get("TimezoneOffsetFromUTC", ""))
    if len(text) != 5 or text[0] not in "+-" or not text[1:].isdigit():
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:])
    return timezone(timedelta(minutes=minutes if text[0] == "+" else -minutes))


def _contributing_equipment(model: ModelIdentity, run: Run) -> Dataset:
    """The algorithm as equipment, with a Device UID that changes with its weights (IHE AIR; CID 7005)."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.PROCESSING_EQUIPMENT)]
    item.Manufacturer = unicodedata.normalize("NFKD", run.manufacturer).encode("ascii", "replace").decode("ascii")
    item.ManufacturerModelName = model.name[:64]
    item.SoftwareVersions = _versions(model, run)
    item.DeviceUID = device_uid(model)
    item.ContributionDescription = "Automatic grading, research use only, not verified"
    return item


def _coding_scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = codes.SCHEME
    item.CodingSchemeName = codes.SCHEME_NAME
    item.CodingSchemeResponsibleOrganization = "spinenode"
    return item


def code_item(code: Code) -> Dataset:
    """A concept as the item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(uid("implementation", "spinenode"))
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


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
