"""What to do about an object that an archive did not take: try again, when, or never. Pure.

The DIMSE statuses are those of C-STORE (PS3.4 table B.2-1, PS3.7 annex C). Only what cannot change by waiting ends a
delivery; everything that an operator or the archive itself may mend is tried again for days.
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
    WARNED = "warned"
    """Stored, and the archive has something to say about it."""
    LATER = "later"
    """Not this object now; others may go."""
    FULL = "full"
    """Nothing at all now."""
    NEVER = "never"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an object is not in the archive: what was answered (or what the network did), and whether for good."""

    what: str
    permanent: bool
    class_refused: bool = False
    """The archive takes no object of this SOP class."""
    content_refused: bool = False
    """The archive does not take this object."""
    of_archive: bool = False
    """It is the archive that does not work, whatever the object: the next one would fare no better now."""
    tried: bool = True
    """False: the object was not sent at all, since the archive had failed before its turn."""
    local: bool = False
    """It is the file here: the archive was not asked."""
    out_of_reach: bool = False
    """No association (or connection) came about."""
    retry_after_s: float = 0.0
    """What the archive asked for."""

    @property
    def form_refused(self) -> bool:
        """Another form of the result may do."""
        return self.class_refused or self.content_refused


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
    0x0001: (Verdict.WARNED, "warning: requested optional attributes are not supported"),
    0x0105: (Verdict.LATER, "no such attribute"),
    0x0106: (Verdict.LATER, "invalid attribute value"),
    0x0107: (Verdict.WARNED, "warning: attribute list error"),
    0x0110: (Verdict.LATER, "processing failure"),
    0x0111: (Verdict.STORED, "the archive has this object already"),
    0x0116: (Verdict.WARNED, "warning: attribute value out of range"),
    0x0117: (Verdict.NEVER, "invalid object instance"),
    0x0122: (Verdict.NEVER, "SOP class not supported"),
    0x0124: (Verdict.LATER, "not authorized"),
    0x0210: (Verdict.LATER, "duplicate invocation"),
    0x0211: (Verdict.NEVER, "unrecognized operation"),
    0x0212: (Verdict.NEVER, "mistyped argument"),
    0x0213: (Verdict.FULL, "resource limitation"),
    0xB000: (Verdict.WARNED, "warning: stored, with data elements coerced"),
    0xB006: (Verdict.WARNED, "warning: stored, with data elements discarded"),
    0xB007: (Verdict.WARNED, "warning: stored, though the data set does not match its SOP class"),
}
"""Statuses of PS3.7 annex C that a C-STORE may be answered with. Our UIDs repeat, so "duplicate" is a success."""

_BY_RANGE = (
    (0xA700, 0xA7FF, Verdict.FULL, "refused: out of resources"),
    (0xA900, 0xA9FF, Verdict.NEVER, "data set does not match SOP class"),
    (0xB000, 0xBFFF, Verdict.WARNED, "warning: stored with changes"),
    (0xC000, 0xCFFF, Verdict.NEVER, "cannot understand"),
)


def judge(status: int) -> tuple[Verdict, str]:
    """What a C-STORE status means, and its text, e.g. ``(Verdict.FULL, "0xA700 refused: out of resources")``.

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
    """How the delays grow: the first, doubled at each failure, up to the longest; and for how long in all."""

    first_s: float
    longest_s: float
    give_up_after_s: float


def delay_s(failures: int, pace: Pace, chance: float) -> float:
    """How long to wait after a failure.

    Args:
        failures: how many there were before this one; 0 at the first.
        pace: of the delays.
        chance: 0-1, takes up to a quarter off the delay (never below the first).
    """
    longest_s = max(pace.first_s, pace.longest_s)
    doubled_s = min(longest_s, pace.first_s * 2.0 ** min(failures, FURTHEST_DOUBLING))
    return max(pace.first_s, doubled_s * (1.0 - JITTER_SHARE * chance))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tries:
    """What has been done for a delivery so far."""

    attempts: int
    """How often it was tried before; 0 at the first."""
    due_since: datetime
    """Aware; from when its time to give up counts. A last attempt is made at its end."""


def decide(failure: Failure, tries: Tries, now: datetime, *, pace: Pace, chance: float) -> At | Never:
    """When to try again after a failure.

    Args:
        failure: what happened.
        tries: before this failure.
        now: aware.
        pace: of the delays.
        chance: 0-1, as in ``delay_s``.
    """
    if failure.permanent:
        return Never(reason=failure.what)
    deadline = tries.due_since + timedelta(seconds=pace.give_up_after_s)
    if now >= deadline:
        return Never(reason=too_old(pace.give_up_after_s, failure.what))
    wait_s = max(delay_s(tries.attempts, pace, chance), min(failure.retry_after_s, pace.longest_s))
    return At(not_before=min(now + timedelta(seconds=wait_s), deadline))


def too_old(give_up_after_s: float, last_status: str) -> str:
    """Why a delivery ended, e.g. ``not delivered within 7 days: 0xA700 refused: out of resources``."""
    days = give_up_after_s / 86400
    span = f"{days:g} days" if days >= 1 else f"{give_up_after_s:g} s"
    return f"not delivered within {span}: {last_status or 'never tried'}"
