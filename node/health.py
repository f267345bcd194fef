"""Is the promise at risk? Each check with its reason in words. Pure.

The promise: what was acknowledged is kept, what is whole is graded, what is made reaches its archives. Red is what an
operator should look at now; a dead letter or a failed study waits for the operator, but puts nothing else at risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from node.lifesigns import Sign
from node.settings import Settings
from node.words import ago, count, moment, span

CLOSED, OPEN = "closed", "open"
"""The breaker of an archive that answers, and of one that is left alone."""
WELL_ABOVE = 1.1
"""Times the disk's watermark: there low is over. Between the two it comes and goes."""
MANY_STARTS = 5
STARTS_WITHIN_S = 600.0
"""A part that was started so often in so long dies again and again, though it lives at the moment."""


class About(StrEnum):
    """What a check looks at."""

    NODE = "node"
    DISK = "disk"
    ARCHIVE = "archive"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One look at one thing."""

    name: str
    about: About
    is_red: bool | None
    """None: cannot be told now."""
    reason: str
    """What is wrong, or how well it is."""
    is_near: bool = False
    """Not red, but so near to it that nobody should be told that it is over."""
    is_of_machine: bool = True
    """False: it looks at what all machines share that work for this ledger, and each of them sees the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveSeen:
    """How an archive stands in the ledger."""

    name: str
    breaker: str
    since: datetime
    """When the breaker came into its state."""
    down_since: datetime | None
    """The first failure, or refusal for now, since it last took something; None while it takes what is sent."""
    failures: int
    """In a row."""
    last_answer: str
    last_success_at: datetime | None
    probe_at: datetime | None
    """It is left alone until then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backlog:
    """What waits, as the ledger has it."""

    queued: int
    """Studies that are whole and not graded yet."""
    oldest_queued_at: datetime | None
    """When the one that has waited longest was closed."""
    oldest_receiving_at: datetime | None
    """First image of the oldest study that is not closed."""
    oldest_due_at: Mapping[str, datetime]
    """For each archive when the result that has waited longest was listed."""
    archives: Sequence[ArchiveSeen]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """All that the judgement is made of."""

    backlog: Backlog | None
    """None: the ledger could not be read."""
    ledger_trouble: str
    """Why; empty when it could be."""
    free_bytes: int | None
    """None: the data directory cannot be looked at."""
    parts: Sequence[Sign]
    up_s: float
    """How long the node has run: parts that start are not missing yet."""


def judge(seen: Seen, settings: Settings, now: datetime) -> tuple[Check, ...]:
    """Every check, in an order that puts the causes before what follows from them."""
    return (
        _database(seen),
        _disk(seen, settings),
        *_parts(seen, settings),
        _queue(seen.backlog, settings, now),
        _deliveries(seen.backlog, settings, now),
        *_archives(seen.backlog, settings, now),
    )


def is_red(checks: Sequence[Check]) -> bool:
    return any(check.is_red for check in checks)


def disk_watermark_mb(settings: Settings) -> int:
    """Less free disk than this is red."""
    return settings.monitoring.disk_low_mb or settings.receiver.minimum_free_mb


def _database(seen: Seen) -> Check:
    if seen.ledger_trouble:
        return _node("database", True, f"the ledger cannot be used, so nothing is received: {seen.ledger_trouble}")
    if seen.backlog is None:
        return _node("database", None, "the ledger has not been read yet")
    return _node("database", False, "the ledger answers")


def _disk(seen: Seen, settings: Settings) -> Check:
    name, least = "disk", disk_watermark_mb(settings)
    if seen.free_bytes is None:
        return Check(name=name, about=About.DISK, is_red=True, reason="the data directory cannot be looked at")
    free_mb = seen.free_bytes // 2**20
    if free_mb < least:
        refuses = free_mb < settings.receiver.minimum_free_mb
        so = "; images are refused until there is room" if refuses else ""
        return Check(
            name=name, about=About.DISK, is_red=True, reason=f"{free_mb} MB are free, fewer than {least} MB{so}"
        )
    reason = f"{free_mb} MB are free (red below {least} MB)"
    is_near = free_mb < least * WELL_ABOVE
    return Check(name=name, about=About.DISK, is_red=False, reason=reason, is_near=is_near)


def _parts(seen: Seen, settings: Settings) -> tuple[Check, ...]:
    limit_s = settings.monitoring.silent_after_s
    checks = [_part(part, limit_s) for part in seen.parts]
    if seen.up_s > limit_s:
        there = tuple(part.name for part in seen.parts)
        checks += [
            _node(name, True, "has not started")
            for name in settings.node.parts
            if not any(n.startswith(name) for n in there)
        ]
    return tuple(checks)


def _part(part: Sign, limit_s: float) -> Check:
    if part.age_s > limit_s:
        return _node(part.name, True, f"no sign of life for {span(part.age_s)}: it hangs, or is dead")
    starts = sum(started_s < STARTS_WITHIN_S for started_s in part.started_s_ago)
    if starts >= MANY_STARTS:
        return _node(part.name, True, f"started {starts} times in {span(STARTS_WITHIN_S)}: it dies again and again")
    return _node(part.name, False, "gives signs of life")


def _queue(backlog: Backlog | None, settings: Settings, now: datetime) -> Check:
    if backlog is None:
        return _node("queue", None, "not known while the ledger cannot be read")
    limit = timedelta(seconds=settings.monitoring.queue_too_old_s)
    latest_closing = limit + timedelta(seconds=settings.assembly.maximum_wait_s)
    if backlog.oldest_queued_at is not None and now - backlog.oldest_queued_at > limit:
        age = ago(backlog.oldest_queued_at, now)
        return _node("queue", True, f"a study that was whole {age} is not graded yet; {backlog.queued} wait")
    if backlog.oldest_receiving_at is not None and now - backlog.oldest_receiving_at > latest_closing:
        came = ago(backlog.oldest_receiving_at, now)
        return _node("queue", True, f"a study whose first image came {came} is still open")
    waits = f"{count(backlog.queued, 'study')} to grade"
    if backlog.oldest_queued_at is not None:
        waits += f", the oldest whole for {span((now - backlog.oldest_queued_at).total_seconds())}"
    return _node("queue", False, f"{waits} (red after {span(limit.total_seconds())})")


def _deliveries(backlog: Backlog | None, settings: Settings, now: datetime) -> Check:
    if backlog is None:
        return _node("deliveries", None, "not known while the ledger cannot be read")
    limit_s = settings.monitoring.delivery_too_old_s
    waits_s = {name: (now - at).total_seconds() for name, at in backlog.oldest_due_at.items()}
    late = [f"{name} for {span(wait_s)}" for name, wait_s in sorted(waits_s.items()) if wait_s > limit_s]
    if late:
        return _node("deliveries", True, f"results wait for {', '.join(late)}")
    return _node("deliveries", False, f"no result has waited longer than {span(limit_s)}")


def _archives(backlog: Backlog | None, settings: Settings, now: datetime) -> tuple[Check, ...]:
    seen = {archive.name: archive for archive in backlog.archives} if backlog else {}
    return tuple(_archive(item.name, backlog, seen.get(item.name), settings, now) for item in settings.archives)


def _archive(name: str, backlog: Backlog | None, seen: ArchiveSeen | None, settings: Settings, now: datetime) -> Check:
    limit = timedelta(seconds=settings.monitoring.archive_down_after_s)
    is_down: bool | None = False
    if backlog is None:
        is_down, reason = None, "not known while the ledger cannot be read"
    elif seen is None or seen.down_since is None:
        reason = "answers" if seen is not None and seen.last_success_at else "nothing was sent to it yet"
    else:
        awaited = seen.breaker == OPEN or name in backlog.oldest_due_at
        is_down = awaited and now - seen.down_since > limit
        reason = f"takes nothing since {moment(seen.down_since)} ({ago(seen.down_since, now)}): {seen.last_answer}"
    return Check(name=f"archive {name}", about=About.ARCHIVE, is_red=is_down, reason=reason, is_of_machine=False)


def _node(name: str, is_red: bool | None, reason: str) -> Check:
    is_of_machine = name not in ("queue", "deliveries")
    return Check(name=name, about=About.NODE, is_red=is_red, reason=reason, is_of_machine=is_of_machine)
