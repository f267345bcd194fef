"""What happened to a study and how long each stage took, from what the ledger wrote down. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from node.records import ARRIVED, DeliveryEvent, DeliveryState, StudyRecord, StudyState

STAGES = (
    "receiving",
    "closing",
    "waiting",
    "reading",
    "grading",
    "rendering",
    "storing",
    "working",
    "delivering",
    "proving",
)
"""In order: first to last image; to the decision that it is whole; to a worker; in the worker: images read, graded,
results made, results kept, and all of these together; to the last archive; to the last proof."""

_STEPS = {"read": "reading", "graded": "grading", "rendered": "rendering", "stored": "storing"}
"""What the worker notes -> the stage that ends there."""
_ENDS_OF_WORK = frozenset({StudyState.GRADED, StudyState.DECLINED, StudyState.UNCHANGED, StudyState.FAILED})
_WORDS = {
    StudyState.RECEIVING: "received",
    StudyState.QUEUED: "complete",
    StudyState.GRADING: "started",
    StudyState.GRADED: "results listed",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of a study's history."""

    number: int
    """Grows with time over all studies."""
    at: datetime
    state: StudyState
    reason: str
    steps: tuple[tuple[str, datetime], ...]
    """When each step of the attempt that ended here was done, in order: read, graded, rendered, stored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sending:
    """One result on its way to one archive, with all that became of it."""

    delivery_id: int
    archive: str
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    state: DeliveryState
    attempts: int
    not_before: datetime
    last_status: str
    listed_at: datetime | None
    arrived_at: datetime | None
    proven_at: datetime | None
    proof_attempts: int
    events: tuple[DeliveryEvent, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """Everything the ledger knows of one generation of a study."""

    study: StudyRecord
    calling_ae_title: str
    """Of the newest image."""
    conflicts: int
    images_deleted_at: datetime | None
    """When retention had the files of all images; None while any of them is there."""
    results_deleted_at: datetime | None
    history: tuple[Entry, ...]
    sendings: tuple[Sending, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Something that happened."""

    at: datetime
    what: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stretch of a study's way that is over."""

    name: str
    began: datetime
    ended: datetime
    entry: int
    """Number of the history's entry that ended it."""

    @property
    def seconds(self) -> float:
        return max(0.0, (self.ended - self.began).total_seconds())


def moments(life: Life) -> tuple[Moment, ...]:
    """What happened, in order: to the study itself, and at each archive."""
    found = [*_of_archives(life.sendings), *_of_study(life), *_of_files(life)]  # of one instant, the cause goes first
    return tuple(sorted(found, key=lambda moment: moment.at))


def stages(history: Sequence[Entry], last_received_at: datetime) -> tuple[Stage, ...]:
    """Every stage that is over, in order; a study that was tried again has some of them twice."""
    found: list[Stage] = []
    for before, entry in pairwise(history):
        found += _between(before, entry, last_received_at)
    return tuple(found)


def turnaround_s(history: Sequence[Entry], last_received_at: datetime) -> float | None:
    """Seconds from the last image until every archive had every result for the first time; None before."""
    arrived = next((entry.at for entry in history if entry.state is StudyState.DELIVERED), None)
    return None if arrived is None else max(0.0, (arrived - last_received_at).total_seconds())


def _between(before: Entry, entry: Entry, last_received_at: datetime) -> Iterator[Stage]:
    def stage(name: str, began: datetime, ended: datetime) -> Stage:
        return Stage(name=name, began=began, ended=ended, entry=entry.number)

    if entry.state is StudyState.QUEUED and before.state is StudyState.RECEIVING:
        last = min(max(last_received_at, before.at), entry.at)
        yield stage("receiving", before.at, last)
        yield stage("closing", last, entry.at)
    elif entry.state is StudyState.GRADING and before.state is StudyState.QUEUED:
        yield stage("waiting", before.at, entry.at)
    elif entry.state in _ENDS_OF_WORK and before.state is StudyState.GRADING:
        began = before.at
        for step, at in entry.steps:
            if step in _STEPS:
                yield stage(_STEPS[step], began, at)
            began = at
        yield stage("working", before.at, entry.at)
    elif _is_proof(before, entry):
        yield stage("proving", before.at, entry.at)
    elif entry.state is StudyState.DELIVERED and before.state is StudyState.GRADED:
        yield stage("delivering", before.at, entry.at)


def _is_proof(before: Entry, entry: Entry) -> bool:
    """A study stays in its state when its last delivery is proven."""
    return before.state is entry.state and entry.state in (StudyState.DELIVERED, StudyState.DECLINED)


def _of_study(life: Life) -> Iterator[Moment]:
    before: Entry | None = None
    for entry in life.history:
        if before is not None and before.state is StudyState.RECEIVING and entry.state is StudyState.QUEUED:
            images = f"{life.study.instance_count} images"
            yield Moment(at=min(life.study.last_received_at, entry.at), what="last image", detail=images)
        yield from (Moment(at=at, what=step, detail="") for step, at in entry.steps)
        yield Moment(at=entry.at, what=_word(before, entry), detail=entry.reason)
        before = entry
    if before is not None and before.state is StudyState.RECEIVING:
        images = f"{life.study.instance_count} images so far"
        yield Moment(at=life.study.last_received_at, what="last image", detail=images)


def _word(before: Entry | None, entry: Entry) -> str:
    if before is None:
        return "received"
    if _is_proof(before, entry):
        return "proven"
    if entry.state is StudyState.QUEUED and before.state is not StudyState.RECEIVING:
        return "queued again"
    if entry.state is StudyState.GRADED and before.state is not StudyState.GRADING:
        return "sent again"
    return _WORDS.get(entry.state, entry.state.value)


def _of_files(life: Life) -> Iterator[Moment]:
    if life.images_deleted_at is not None:
        yield Moment(at=life.images_deleted_at, what="images deleted", detail="their time was over (retention)")
    if life.results_deleted_at is not None:
        yield Moment(at=life.results_deleted_at, what="results deleted", detail="their time was over (retention)")


def _of_archives(sendings: Sequence[Sending]) -> Iterator[Moment]:
    """When an archive had everything, and when it had proved so."""
    for archive in sorted({sending.archive for sending in sendings}):
        counted = [
            item
            for item in sendings
            if item.archive == archive and item.state not in (DeliveryState.REPLACED, DeliveryState.DISCARDED)
        ]
        arrivals = [item.arrived_at for item in counted if item.state in ARRIVED and item.arrived_at is not None]
        proofs = [
            item.proven_at for item in counted if item.state is DeliveryState.PROVEN and item.proven_at is not None
        ]
        if arrivals and len(arrivals) == len(counted):
            yield Moment(at=max(arrivals), what=f"{archive} has it", detail=f"{len(counted)} results")
        if proofs and len(proofs) == len(counted):
            yield Moment(at=max(proofs), what=f"{archive} proved it", detail=f"{len(counted)} results")
