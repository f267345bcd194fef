"""How the node and its studies stand, gathered for `spinenode status`: from the ledger, the disk and the processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from node import health, lifesigns
from node.health import Backlog, Check
from node.ledger import Ledger, UnknownStudy
from node.ledger_figures import Counts, Figures
from node.ledger_notices import Notices
from node.lifesigns import Sign
from node.notices import Notice, NoticeState
from node.overview import opened
from node.records import Delivery, DeliveryState, Recorded, StudyOverview
from node.room import free_bytes
from node.settings import Settings
from node.timeline import Life
from node.words import count

__all__ = ["NodeStatus", "UnknownStudy", "dead_letters", "of_node", "of_study"]

UNDELIVERED_SHOWN = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeStatus:
    """What the operator asked of the node."""

    at: datetime
    parts: Sequence[Sign]
    silent_after_s: float
    checks: Sequence[Check]
    free_bytes: int | None
    watermark_mb: int
    counts: Counts
    backlog: Backlog
    archives: Sequence[str]
    """Of the settings, in their order."""
    conflicts: int
    studies: Sequence[StudyOverview]
    """The newest."""
    undelivered: Sequence[Delivery]
    notices: Mapping[tuple[str, NoticeState], int]
    waiting_notice: Notice | None
    """The oldest that its channel has not taken."""

    @property
    def running(self) -> Sequence[Sign]:
        """The processes that give signs of life."""
        return [part for part in self.parts if part.age_s <= self.silent_after_s]

    @property
    def model(self) -> Mapping[str, str] | None:
        """Name, version and sha256 of the weights that grade; None while no worker says so."""
        return next((part.facts["model"] for part in self.running if "model" in part.facts), None)

    @property
    def refused(self) -> Mapping[str, int]:
        """How often the receiver has turned somebody away since it started, and why."""
        return next((part.facts["refused"] for part in self.running if "refused" in part.facts), {})


def of_node(settings: Settings, *, limit: int) -> NodeStatus:
    """How the node stands, with its newest studies.

    Shown to the operator on request only; logs never hold a Study Instance UID.

    Raises:
        SettingsError: no node has run with these settings.
    """
    now = datetime.now(UTC)
    parts = lifesigns.read(settings.node.data_dir)
    with opened(settings) as database:
        ledger, figures, notices = Ledger(database), Figures(database), Notices(database)
        backlog = figures.backlog()
        seen = health.Seen(
            backlog=backlog,
            ledger_trouble="",
            free_bytes=free_bytes(settings),
            parts=parts,
            up_s=0.0,  # what has not started is told by the list of processes
        )
        return NodeStatus(
            at=now,
            parts=parts,
            silent_after_s=settings.monitoring.silent_after_s,
            checks=health.judge(seen, settings, now),
            free_bytes=seen.free_bytes,
            watermark_mb=health.disk_watermark_mb(settings),
            counts=figures.counts(),
            backlog=backlog,
            archives=tuple(archive.name for archive in settings.archives),
            conflicts=ledger.received_counts()[Recorded.CONFLICT],
            studies=ledger.study_overview(limit=limit),
            undelivered=ledger.undelivered(limit=UNDELIVERED_SHOWN),
            notices=notices.counts(),
            waiting_notice=notices.oldest_waiting(),
        )


def of_study(settings: Settings, study: str) -> Sequence[Life]:
    """Everything that happened to a study: a generation by its number, or all of them by the Study Instance UID.

    Raises:
        UnknownStudy: the ledger holds no such study; says where all that came of it was kept beside others.
        SettingsError: no node has run with these settings.
    """
    with opened(settings) as database:
        timelines = Ledger(database).timelines
        lives = timelines.of(study)
        beside = {} if lives else timelines.kept_beside(study)
    if beside:
        raise UnknownStudy(_nothing_of_its_own(study, beside))
    if not lives:
        raise UnknownStudy(f"no study {study}; `spinenode status` lists what is known")
    return lives


def _nothing_of_its_own(study: str, beside: Mapping[str, int]) -> str:
    claimed = "; ".join(f"{number} by study {uid}" for uid, number in sorted(beside.items()))
    objects = count(sum(beside.values()), "object")
    return (
        f"study {study} has no image of its own, so it is not graded: {objects} came of it and are kept beside, "
        f"for their SOP Instance UIDs are claimed already: {claimed}. "
        "The sender must give the copies UIDs of their own (see deploy/runbook.md)"
    )


def dead_letters(counts: Counts) -> Mapping[str, int]:
    """How many dead letters each archive has, of those that have any."""
    found = {archive: states.get(DeliveryState.DEAD, 0) for archive, states in sorted(counts.deliveries.items())}
    return {archive: count for archive, count in found.items() if count}
