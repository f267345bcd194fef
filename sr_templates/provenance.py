"""Where a result comes from: repeating identifiers, the equipment, the time.

The same study, weights and time give byte-identical objects, so a repeated step stores nothing twice.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from inference.anatomy import DiscLevel
from inference.report import ModelIdentity
from sr_templates import codes
from sr_templates.source_study import SourceStudy, in_ascii, writable
from sr_templates.study_modules import STUDY_LEVEL_KEYWORDS

IMPLEMENTATION_VERSION_NAME = "SPINENODE_RESULT"
RESEARCH_USE_ONLY = "RESEARCH USE ONLY - not for diagnosis"


class OutputKind(StrEnum):
    """The kinds of objects, each a series of its own, numbered in this order."""

    MEASUREMENT_REPORT = "measurement_report"
    """SR, TID 1500."""
    TEXT_REPORT = "text_report"
    """Basic Text SR."""
    SECONDARY_CAPTURE = "secondary_capture"
    """RGB images: a summary, the source slices with outlines and evidence, the evidence of each disc."""
    DECLINED_REPORT = "declined_report"
    """Basic Text SR that says that the study was not graded, and why: all that a declined study gives."""
    SEGMENTATION = "segmentation"
    """Discs and vertebral bodies on their mid-slices."""
    PARAMETRIC_MAP = "parametric_map"
    """The evidence of each abnormal finding as numbers on the source slices."""
    PRESENTATION_STATE = "presentation_state"
    """GSPS: outlines and grades as graphics over the source slices."""
    ENCAPSULATED_PDF = "encapsulated_pdf"
    """The summary page."""
    KEY_OBJECT_SELECTION = "key_object_selection"
    """The source slices that matter."""
    REJECTION_NOTE = "rejection_note"
    """Key Object Selection that withdraws the study's earlier results; made where there are any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predecessor:
    """An earlier object about the same study that a new one replaces (of SR documents: PS3.3 C.17.2)."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


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
    predecessors: tuple[Predecessor, ...] = ()
    """SR documents about this study that this run's replace."""
    number: int = 1
    """Of the study's results in the order they were made: from the second on one replaces those before it."""
    replaced_at: datetime | None = None
    """Aware; when the newest result that this one replaces was made. None where there is none, or it does not say."""
    tracking_key: str = ""
    """Secret of the node: with it, Tracking UIDs of a patient's disc stay the same from study to study and tell
    nobody who the patient is. Without it they stay the same within the study only."""

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at must carry a time zone")

    @property
    def replaces_earlier(self) -> bool:
        return self.number > 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """One object for the archive, ready for ``dataset.save_as(path, enforce_file_format=True)``."""

    kind: OutputKind
    title: str
    """A few words without patient data, e.g. for progress lines and the names of demo files."""
    dataset: Dataset


def uid(*parts: str) -> str:
    """A UID that the same parts always give (PS3.5 B.2: UUID-derived under 2.25)."""
    digest = sha256("\x1f".join(parts).encode()).digest()
    return f"2.25.{UUID(bytes=digest[:16], version=5).int}"


def disc_tracking_uid(source: SourceStudy, run: Run, level: DiscLevel) -> str:
    """Identifies one disc of one patient over time, so that priors line up (IHE AIR tracking identifiers).

    A keyed hash: without the key nobody can try out Patient IDs against a UID that outlives de-identification.
    """
    patient_id = str(source.attributes.get("PatientID") or "")
    if not run.tracking_key or not patient_id.strip() or "PatientID" in source.mended:  # perhaps another one's now
        return uid("disc", source.attributes.StudyInstanceUID, level.value)
    issuer = str(source.attributes.get("IssuerOfPatientID") or "")
    patient = hmac.new(run.tracking_key.encode(), f"{issuer}\x1f{patient_id}".encode(), sha256).hexdigest()
    return uid("patient's disc", patient, level.value)


def tracking_uid_without_level(source: SourceStudy, run: Run, name: str) -> str:
    """Of a disc or body whose level is withheld: within this grading only, so that it lines up with no named one."""
    return uid("without level", source.attributes.StudyInstanceUID, run.study_digest, name)


def device_uid(model: ModelIdentity) -> str:
    """Identifies the algorithm; new weights are a new device (IHE AIR)."""
    return uid("device", model.sha256)


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
    Common (C.12.1). ``index`` counts the instances of the series from 1; ``description`` is a few words, see
    ``series_description``.
    """
    dataset = Dataset()
    dataset.update(source.attributes)
    series_parts = (source.attributes.StudyInstanceUID, run.study_digest, model.sha256, kind.value)
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = uid("instance", *series_parts, str(index))
    dataset.SeriesInstanceUID = uid("series", *series_parts)
    dataset.SeriesNumber = run.series_number_base + list(OutputKind).index(kind)
    dataset.SeriesDescription = series_description(description, run)
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


def series_description(what: str, run: Run) -> str:
    """At most 64 characters (VR LO). Research use comes first, for viewers cut what does not fit."""
    number = f", result {run.number}" if run.replaces_earlier else ""
    return f"{RESEARCH_USE_ONLY.partition(' - ')[0]} {what}"[: 64 - len(number)] + number


def dressed(content: Dataset, envelope_of: Dataset) -> Dataset:
    """What a library built (``content``) under our envelope, which wins wherever both say something.

    Patient and study are the source's own bytes, however malformed the library would find them.
    """
    whole = Dataset()
    whole.update({element.tag: element for element in content if element.keyword not in _ENVELOPE_ONLY})
    whole.update(envelope_of)
    whole.file_meta = envelope_of.file_meta
    return whole


_ENVELOPE_ONLY = frozenset((*STUDY_LEVEL_KEYWORDS, "SpecificCharacterSet", "InstitutionName", "StationName"))


def _versions(model: ModelIdentity, run: Run) -> list[str]:
    return [version[:64] for version in (run.software_version, f"weights {model.version}") if version]


def _add_times(dataset: Dataset, created_at: datetime) -> None:
    moment = in_source_zone(created_at, dataset)
    date, time = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
    dataset.SeriesDate = dataset.InstanceCreationDate = dataset.ContentDate = date
    dataset.SeriesTime = dataset.InstanceCreationTime = dataset.ContentTime = time


def in_source_zone(moment: datetime, attributes: Dataset) -> datetime:
    """``moment`` as a reader of the source's times expects it; as it is where the source states no zone."""
    zone = _stated_zone(attributes)
    return moment if zone is None else moment.astimezone(zone)


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
    item.Manufacturer = in_ascii(run.manufacturer)
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
