"""What the operator is told without asking, and when. Pure.

An outage is told once when it begins and once when it is over, however long it lasts and however often the node starts
in between: what was told last about a subject stands in the ledger. Dead letters are gathered. No notice holds anything
of a patient: studies go by their numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from node.health import About, Check
from node.words import count

FAILED_STUDIES = "failed studies"
_AT = " @"
MOST_NAMED = 10
"""Studies that a notice names; the others are counted."""
FIRST_DELAY_S = 10.0
LONGEST_DELAY_S = 900.0
GIVE_UP_AFTER = timedelta(days=7)


class Event(StrEnum):
    """What a notice is about; the second of a pair tells the end of the first."""

    DEAD_LETTER = "dead_letter"
    STUDY_FAILED = "study_failed"
    ARCHIVE_DOWN = "archive_down"
    ARCHIVE_UP = "archive_up"
    DISK_LOW = "disk_low"
    DISK_OK = "disk_ok"
    HEALTH_RED = "health_red"
    HEALTH_GREEN = "health_green"


class NoticeState(StrEnum):
    """Where a notice stands."""

    DUE = "due"
    SENT = "sent"
    GIVEN_UP = "given_up"
    """Its channel did not take it for a week."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoticeToRaise:
    """Something to tell to one channel."""

    occasion: str
    """Names what happened: the same occasion is never told twice to a channel."""
    subject: str
    event: Event
    text: str
    channel: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A notice in the ledger."""

    notice_id: int
    occasion: str
    subject: str
    event: str
    text: str
    channel: str
    state: NoticeState
    attempts: int
    not_before: datetime
    last_status: str
    made_at: datetime
    sent_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Casualties:
    """Dead letters of one archive, or failed studies, that nobody has been told of."""

    newest: int
    """Grows with each; the ledger's number of the change."""
    studies: tuple[int, ...]
    """Their numbers, ascending."""
    count: int
    """How many results or studies."""
    why: str
    """Of the newest."""


_PAIRS = {
    About.ARCHIVE: (Event.ARCHIVE_DOWN, Event.ARCHIVE_UP),
    About.DISK: (Event.DISK_LOW, Event.DISK_OK),
    About.NODE: (Event.HEALTH_RED, Event.HEALTH_GREEN),
}


class NoticeText(NamedTuple):
    """What is said about a subject."""

    subject: str
    event: Event
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """A channel, and what it wants to hear."""

    channel: str
    machine: str
    """Whose disk and processes it hears of; several machines may share a ledger."""
    events: Collection[str]
    gather_s: float
    """Dead letters of an archive, and failed studies, are told at most this often."""
    alarm_after_s: float
    """The node's health is told when it has been red for this long."""


def of_check(check: Check, red_for_s: float, last: Notice | None, listener: Listener) -> NoticeToRaise | None:
    """What to tell a listener about one check of the health, if anything.

    Who does not hear of disks or archives by themselves hears of them as of the node's health.

    Args:
        red_for_s: how long it has been red.
        last: the newest notice about it to this listener.
    """
    begun, over = _PAIRS[check.about]
    if begun not in listener.events:
        begun, over = _PAIRS[About.NODE]
    if begun not in listener.events:
        return None
    is_told = last is not None and last.event == begun
    if check.is_red is None or check.is_red == is_told or (is_told and check.is_near):
        return None
    if check.is_red and check.about is About.NODE and red_for_s < listener.alarm_after_s:
        return None
    event = begun if check.is_red else over
    subject = subject_of(check, listener.machine)
    return NoticeToRaise(
        occasion=f"{subject} {event} {last.notice_id if last else 0}",
        subject=subject,
        event=event,
        text=f"{check.name}: {check.reason}",
        channel=listener.channel,
    )


def subject_of(check: Check, machine: str) -> str:
    """Under which subject the ledger remembers what was told about a check."""
    return f"{check.name}{_AT}{machine}" if check.is_of_machine else check.name


def said_subject(subject: str) -> str:
    """The subject as it is told: whose it is stands beside it."""
    return subject.partition(_AT)[0]


def of_dead_letters(
    archive: str, dead: Casualties, last: Notice | None, listener: Listener, now: datetime
) -> NoticeToRaise | None:
    """What to tell about results that an archive will not get, if it is time."""
    text = (
        f"{count(dead.count, 'result')} of {_named(dead.studies)} did not reach the archive {archive}: {dead.why}. "
        "Nothing is lost: `spinenode dead-letters` lists them."
    )
    return _gathered(dead, last, listener, now, NoticeText(f"dead letters of {archive}", Event.DEAD_LETTER, text))


def of_failed_studies(
    failed: Casualties, last: Notice | None, listener: Listener, now: datetime
) -> NoticeToRaise | None:
    """What to tell about studies that could not be graded for a fault, if it is time."""
    text = (
        f"{_named(failed.studies)} failed: {failed.why}. "
        "Nothing is lost: `spinenode status STUDY` tells more, `spinenode retry STUDY` tries again."
    )
    return _gathered(failed, last, listener, now, NoticeText(FAILED_STUDIES, Event.STUDY_FAILED, text))


def told_until(last: Notice | None) -> int:
    """Up to which change a listener has been told of casualties."""
    return 0 if last is None else int(last.occasion.rsplit(" ", 1)[1])


def next_try(attempts: int, now: datetime) -> datetime:
    """When to try a channel again that has failed; ``attempts`` before this one."""
    return now + timedelta(seconds=min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempts, 20)))


def _gathered(
    casualties: Casualties, last: Notice | None, listener: Listener, now: datetime, said: NoticeText
) -> NoticeToRaise | None:
    if said.event not in listener.events or casualties.newest <= told_until(last):
        return None
    if last is not None and now - last.made_at < timedelta(seconds=listener.gather_s):
        return None
    return NoticeToRaise(
        occasion=f"{said.subject} {casualties.newest}",
        subject=said.subject,
        event=said.event,
        text=said.text,
        channel=listener.channel,
    )


def _named(studies: Sequence[int]) -> str:
    named = ", ".join(map(str, studies[:MOST_NAMED]))
    more = f" and {len(studies) - MOST_NAMED} more" if len(studies) > MOST_NAMED else ""
    return f"{'study' if len(studies) == 1 else 'studies'} {named}{more}"
