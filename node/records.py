"""The node's records as they stand in the ledger, and the states they go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path


class StudyState(StrEnum):
    """Where one generation of a study stands.

    Ends: DELIVERED, DECLINED, UNCHANGED, FAILED, and GRADED where no archive is set.
    """

    RECEIVING = "receiving"
    """Images are coming, or may still come."""
    QUEUED = "queued"
    """Closed: no image came for the quiet time. Waits for the worker."""
    GRADING = "grading"
    """A worker has it."""
    GRADED = "graded"
    """Results are spooled and their deliveries listed."""
    DELIVERED = "delivered"
    """Every archive answered success for every result."""
    DECLINED = "declined"
    """Cannot be graded; the reason is recorded and told."""
    UNCHANGED = "unchanged"
    """The images are those of an earlier generation whose results stand: nothing new was made."""
    FAILED = "failed"
    """A fault of the node or a study that kills its worker: waits for the operator (`spinenode retry`)."""


class Recorded(StrEnum):
    """What the ledger made of an instance that was received."""

    NEW = "new"
    SAME_AGAIN = "same_again"
    """The same SOP Instance UID with the same bytes: success, nothing changed, the second copy is not needed."""
    CONFLICT = "conflict"
    """The same SOP Instance UID with other bytes, series or study: kept beside and flagged, never graded by itself."""
    OWN_RESULT = "own_result"
    """One of our own results, sent back by an auto-routing archive: kept, but opens no study."""


class DeliveryState(StrEnum):
    """Where one result stands on its way to one archive."""

    DUE = "due"
    """To be sent at ``not_before``."""
    DELIVERED = "delivered"
    """The archive answered success or a warning (kept in ``last_status``)."""
    PROVEN = "proven"
    """The archive has proved that it holds it: storage commitment, or a query that found it."""
    DEAD = "dead"
    """A dead letter: refused for good, too old, or given up by the operator, who alone can set it going again."""
    REPLACED = "replaced"
    """The archive takes no object of this SOP class: another form of the result goes there instead."""
    DISCARDED = "discarded"
    """The operator took it off the list of dead letters, or sent it to another archive; why is in ``last_status``."""


ARRIVED = frozenset({DeliveryState.DELIVERED, DeliveryState.PROVEN})
"""The archive has it."""
SETTLED = ARRIVED | {DeliveryState.REPLACED, DeliveryState.DISCARDED}
"""Nothing is left to send."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedInstance:
    """One object as it came over the network, already durable under its final name."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str
    calling_ae_title: str
    path: Path
    """Relative to the spool."""
    sha256: str
    """Of the file, hexadecimal."""
    size_bytes: int
    received_at: datetime
    """UTC."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenStudy:
    """A study that still receives, as far as the decision to close it needs it."""

    study_id: int
    study_instance_uid: str
    calling_ae_title: str
    """Who sent its newest image."""
    first_received_at: datetime
    last_received_at: datetime
    instance_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesCount:
    """How many images a series has: here, or at an archive."""

    series_instance_uid: str
    modality: str
    instance_count: int | None
    """None where an archive does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveCounts:
    """How many images of a study an archive says that it has."""

    series: tuple[SeriesCount, ...]
    study: int | None = None
    """Of the whole study; asked for only where it does not tell of every series."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecord:
    """One generation of a study. ``study_id`` is the only name of it that jobs and logs use."""

    study_id: int
    study_instance_uid: str
    generation: int
    state: StudyState
    reason: str
    """Why it is in this state, in words: why it was closed, declined, or failed."""
    digest: str
    """sha256 over the sorted (SOP Instance UID, file sha256) of its images; empty while it receives."""
    attempts: int
    """How often a worker has taken it in this round."""
    round: int
    """Goes up by one each time the operator retries it, so that every retry is a job of its own."""
    instance_count: int
    first_received_at: datetime
    last_received_at: datetime
    closed_at: datetime | None
    changed_at: datetime
    priority: int = 0
    """The higher is served first; see ``node/precedence.py``."""
    proven_at: datetime | None = None
    """When the last archive had proved that it holds every result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultObject:
    """One DICOM object that we made, durable in the spool."""

    sop_instance_uid: str
    sop_class_uid: str
    kind: str
    path: Path
    """Relative to the spool."""
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One result on its way to one archive."""

    delivery_id: int
    study_id: int
    archive: str
    """Name of the archive in the settings."""
    sop_instance_uid: str
    sop_class_uid: str
    path: Path
    state: DeliveryState
    attempts: int
    not_before: datetime
    last_status: str
    """What the archive (or the network) said last, e.g. ``0x0000`` or ``association refused``."""
    due_since: datetime | None
    """When it was listed, or last set going again: from then on its time to give up counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryEvent:
    """One change of a delivery."""

    at: datetime
    state: DeliveryState
    status: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryEntry:
    """One change of a study's state."""

    at: datetime
    state: StudyState
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyOverview:
    """What `spinenode status` shows of one generation of a study."""

    study: StudyRecord
    deliveries: Mapping[DeliveryState, int]
    """How many of its deliveries stand in each state; states without any are left out."""
    conflicts: int
    """Objects kept beside the study because they claim a SOP Instance UID with other bytes."""
    closed_because: str
    """Why it was held to be complete; empty while it receives."""
