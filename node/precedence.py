"""Whose turn it is: studies of a higher priority first, and none waits for ever. Pure.

Each step of priority counts as if a study had waited ``head_start_s`` longer. So the order of two studies never depends
on when one looks, and a study of low priority is overtaken only by those that come within a known time after it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
LAST_IN_LINE = 2**31 - 1
"""The largest number that the job queue takes for a priority."""


def place(priority: int, since: datetime, head_start_s: float) -> datetime:
    """Its place in the line; the earliest is served first.

    Args:
        priority: the higher, the earlier.
        since: aware; when the study began to wait.
        head_start_s: what a step of priority is worth.
    """
    return since - timedelta(seconds=priority * head_start_s)


def number_in_line(at: datetime) -> int:
    """A place as a number from 1 to ``LAST_IN_LINE``, in seconds; the smallest is served first."""
    return min(max(1, int((at - _EPOCH).total_seconds())), LAST_IN_LINE)
