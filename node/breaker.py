"""The circuit breaker of an archive: when results are sent to it, when it is only probed, and when it is left alone.
Pure.

    closed ---------- failures in a row, or no association at all ---------> open
    open ------------ after a delay that grows: a probe is answered -------> half open
    half open ------- an object is answered -------------------------------> closed
    half open ------- another failure of the archive ----------------------> open

A failure is one of the archive, not of an object: nobody answers, the association breaks, it is full. An answer about
an object, be it a refusal, shows that the archive works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from node.retry import Failure, Pace, delay_s


class BreakerState(StrEnum):
    """What an archive gets."""

    CLOSED = "closed"
    """Results, as they come."""
    OPEN = "open"
    """Nothing but a probe at ``Health.not_before``."""
    HALF_OPEN = "half_open"
    """It answered a probe: results, until one of them shows whether it works."""


class Move(StrEnum):
    """What to do with an archive now."""

    SEND = "send"
    PROBE = "probe"
    WAIT = "wait"


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How an archive stands; the row of the ledger's ``archive`` table."""

    state: BreakerState
    since: datetime
    """When it entered the state."""
    failures: int
    """In a row."""
    not_before: datetime | None
    """It is left alone until then."""
    last_answer: str
    """What it, or the network, said last."""
    last_success_at: datetime | None
    """When it last answered about an object."""
    down_since: datetime | None = None
    """The first failure, or refusal for now, since it last took an object; none while it takes them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """When a breaker opens, and how long it waits."""

    failures: int
    """In a row, after which it opens."""
    pace: Pace


def unknown(now: datetime) -> Health:
    """Of an archive that nothing was ever sent to: results go there."""
    return Health(
        state=BreakerState.CLOSED, since=now, failures=0, not_before=None, last_answer="", last_success_at=None
    )


def next_move(health: Health, now: datetime) -> Move:
    """Whether results are sent, the archive is probed, or nothing is done."""
    if health.not_before is not None and now < health.not_before:
        return Move.WAIT
    return Move.PROBE if health.state is BreakerState.OPEN else Move.SEND


def failed(health: Health, failure: Failure, now: datetime, *, rules: Rules, chance: float) -> Health:
    """After a failure of the archive. It is left alone for a delay that doubles with each, and for at least as long as
    it asked for (HTTP Retry-After), up to the longest delay.

    Args:
        health: before it.
        failure: no association at all opens the breaker at once.
        now: aware.
        rules: of the breaker.
        chance: 0-1, as in ``retry.delay_s``.
    """
    failures = health.failures + 1
    opens = failure.out_of_reach or health.state is not BreakerState.CLOSED or failures >= rules.failures
    state = BreakerState.OPEN if opens else BreakerState.CLOSED
    asked_s = min(failure.retry_after_s, rules.pace.longest_s)
    return Health(
        state=state,
        since=health.since if state is health.state else now,
        failures=failures,
        not_before=now + timedelta(seconds=max(delay_s(health.failures, rules.pace, chance), asked_s)),
        last_answer=failure.what,
        last_success_at=health.last_success_at,
        down_since=health.down_since or now,
    )


def answered(health: Health, what: str, now: datetime, *, failure: Failure | None = None) -> Health:
    """After an answer about an object: it was taken, or refused with ``failure``. What is refused for good says nothing
    about how the archive takes others.
    """
    down_since = None
    if failure is not None:
        down_since = health.down_since or (None if failure.permanent else now)
    return Health(
        state=BreakerState.CLOSED,
        since=health.since if health.state is BreakerState.CLOSED else now,
        failures=0,
        not_before=None,
        last_answer=what,
        last_success_at=now,
        down_since=down_since,
    )


def probed(health: Health, what: str, now: datetime) -> Health:
    """After a probe that was answered. Its failures stand: an archive that is full answers a C-ECHO too."""
    return replace(health, state=BreakerState.HALF_OPEN, since=now, not_before=None, last_answer=what)
