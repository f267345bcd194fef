"""What to do about an object that an archive did not take: try again, when, or never. Pure.

The DIMSE statuses are those of C-STORE (PS3.4 table B.2-1, PS3.7 annex C). Only what cannot change by waiting ends a
delivery; everything that an operator or the archive itself may mend is tried again for as long as it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

FURTHEST_DOUBLING = 32
"""2^32 times any first delay is beyond any maximum delay: keeps the power within a float."""
JITTER_SHARE = 0.25
"""Share of a delay that chance takes off, so that the objects of one outage do not all come back in one instant."""


class Verdict(StrEnum):
    """What an archive's answer to a C-STORE means for the delivery."""

    STORED = "stored"
    LATER = "later"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an object is not in the archive: what was answered (or what the network did), and whether for good."""

    what: str
    permanent: bool
    class_refused: bool = False
    """The archive takes no object of this SOP class; one of another class may do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class At:
    """Try again then."""

    not_before: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Never:
    """Give up; the operator decides."""

    reason: str


_BY_STATUS = {
    0x0000: (Verdict.STORED, "success"),
    0x0001: (Verdict.STORED, "warning: requested optional attributes are not supported"),
    0x0105: (Verdict.LATER, "no such attribute"),
    0x0106: (Verdict.LATER, "invalid attribute value"),
    0x0107: (Verdict.STORED, "warning: attribute list error"),
    0x0110: (Verdict.LATER, "processing failure"),
    0x0111: (Verdict.STORED, "the archive has this object already"),
    0x0116: (Verdict.STORED, "warning: attribute value out of range"),
    0x0117: (Verdict.NEVER, "invalid object instance"),
    0x0122: (Verdict.NEVER, "SOP class not supported"),
    0x0124: (Verdict.LATER, "not authorized"),
    0x0213: (Verdict.LATER, "resource limitation"),
}
"""Statuses of PS3.7 annex C that a C-STORE may be answered with. Our UIDs repeat, so "duplicate" is a success."""

_BY_RANGE = (
    (0xA700, 0xA7FF, Verdict.LATER, "refused: out of resources"),
    (0xA900, 0xA9FF, Verdict.NEVER, "data set does not match SOP class"),
    (0xB000, 0xBFFF, Verdict.STORED, "warning: stored with changes"),
    (0xC000, 0xCFFF, Verdict.NEVER, "cannot understand"),
)


def judge(status: int) -> tuple[Verdict, str]:
    """What a C-STORE status means, and its text, e.g. ``(Verdict.LATER, "0xA700 refused: out of resources")``.

    A status that the Standard does not know is tried again: it proves nothing about the object.
    """
    if status in _BY_STATUS:
        verdict, text = _BY_STATUS[status]
        return verdict, f"0x{status:04X} {text}"
    for first, last, verdict, text in _BY_RANGE:
        if first <= status <= last:
            return verdict, f"0x{status:04X} {text}"
    return Verdict.LATER, f"0x{status:04X} unknown status"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How the delays grow: the first, doubled at each failure, up to the longest."""

    first_s: float
    longest_s: float


def decide(failure: Failure, attempts: int, now: datetime, *, pace: Pace, chance: float) -> At | Never:
    """When to try again after a failure.

    Args:
        failure: what happened.
        attempts: how often it was tried before this failure; 0 at the first.
        now: aware.
        pace: of the delays.
        chance: 0-1, takes up to a quarter off the delay (never below the first).
    """
    if failure.permanent:
        return Never(reason=failure.what)
    longest_s = max(pace.first_s, pace.longest_s)
    doubled_s = min(longest_s, pace.first_s * 2.0 ** min(attempts, FURTHEST_DOUBLING))
    delay_s = max(pace.first_s, doubled_s * (1.0 - JITTER_SHARE * chance))
    return At(not_before=now + timedelta(seconds=delay_s))
