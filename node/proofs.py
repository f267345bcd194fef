"""What proof of a delivery is, and what follows from an archive's words about it. Pure.

Storage commitment is PS3.4 annex J: a request (N-ACTION) under a Transaction UID of its own, and a report
(N-EVENT-REPORT) about that transaction, at any time and on any association.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal

ProofWanted = Literal["auto", "commitment", "query", "none"]
"""``archives.proof``."""
Way = Literal["commitment", "query"]

SUCCESSFUL, FAILURES_EXIST = 1, 2
"""Event types of the report (PS3.4 table J.3-2)."""
NO_SUCH_OBJECT = 0x0112
FAILURE_REASONS: Mapping[int, str] = {
    0x0110: "processing failure",
    0x0112: "no such object",
    0x0119: "class-instance conflict",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
"""Failure Reason (0008,1197): PS3.3 section C.14.1.1."""
_ASK_AGAIN = frozenset({0x0131, 0x0213})
"""Reasons that say nothing about the object: asking later may do, sending it again would not help."""

ASKED_BEFORE_QUERY = 2
"""``auto``: so many requests may go without an answer before a query is tried instead."""
LOOKS_BEFORE_SENT_AGAIN = 5
"""A query that does not find an object may have come before the archive's index; the looks take 20 minutes in all."""
FIRST_LOOK_AGAIN_S = 5.0
LOOKS_GROW_BY = 6.0
FURTHEST_GROWTH = 16


class CommitmentState(StrEnum):
    """Where a request stands."""

    ASKING = "asking"
    """Written down; whether it was sent is not known yet."""
    REQUESTED = "requested"
    """The archive has taken it and owes a report."""
    ANSWERED = "answered"
    OVERDUE = "overdue"
    """No report came in time: its objects are asked about again, under another Transaction UID."""
    REFUSED = "refused"
    """The archive answered the request itself with a failure."""


class Filed(StrEnum):
    """What the ledger made of a report."""

    ANSWER = "answer"
    AGAIN = "again"
    """Its transaction was answered already: nothing changed."""
    LATE = "late"
    """Its objects have been asked about again meanwhile; what it found is the truth all the same."""
    UNKNOWN = "unknown"
    """No such transaction is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unproven:
    """A result that an archive took, and has not proved to hold."""

    delivery_id: int
    study_id: int
    study_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    path: Path
    """Relative to the spool."""
    proof_attempts: int
    """How often it was asked about, since it arrived, without an answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What an archive reports about one request."""

    transaction_uid: str
    held: frozenset[str]
    """SOP Instance UIDs that it commits itself to keep."""
    failed: Mapping[str, int]
    """SOP Instance UID -> Failure Reason, of those that it does not."""


def new_transaction_uid() -> str:
    """A UID that nobody can guess, so that nobody else can report about it (PS3.5 section B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def way(wanted: ProofWanted, *, commits: bool, answers_queries: bool, asked: int) -> Way | None:
    """How to ask an archive that accepts these services; None where there is none that is wanted.

    Args:
        asked: how often it was asked for its commitment without an answer.
    """
    may_commit = commits and wanted in ("auto", "commitment")
    may_query = answers_queries and wanted in ("auto", "query")
    if may_commit and not (may_query and asked >= ASKED_BEFORE_QUERY):
        return "commitment"
    return "query" if may_query else None


def is_asked_again(reason: int) -> bool:
    """Whether a failed reference is to be asked about again; else the object is sent again."""
    return reason in _ASK_AGAIN


def failure_text(reason: int) -> str:
    """E.g. ``0x0112 no such object``."""
    return f"0x{reason:04X} {FAILURE_REASONS.get(reason, 'unknown reason')}"


def look_again_at(now: datetime, looks: int) -> datetime:
    """When to query again for an object that was not found; ``looks``: how many found nothing before this one."""
    return now + timedelta(seconds=FIRST_LOOK_AGAIN_S * LOOKS_GROW_BY ** min(looks, FURTHEST_GROWTH))


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long an archive is waited for, and how often what it does not hold is sent to it again."""

    first_s: float
    """After the first request that brought nothing; doubles with each."""
    longest_s: float
    most_sent_again: int
    """What is missing once more is a dead letter."""

    def again_after(self, now: datetime) -> Callable[[int], datetime]:
        """How often it was asked in vain before -> when to ask again."""
        return lambda asked: (
            now + timedelta(seconds=min(self.longest_s, self.first_s * 2.0 ** min(asked, FURTHEST_GROWTH)))
        )
