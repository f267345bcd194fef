"""How times and counts are said to the operator."""

from __future__ import annotations

from datetime import datetime

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def span(seconds: float) -> str:
    """A length of time in at most two units: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``6 d 3 h``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return _two(whole, _MINUTE_S, "min", 1, "s")
    if whole < _DAY_S:
        return _two(whole, _HOUR_S, "h", _MINUTE_S, "min")
    return _two(whole, _DAY_S, "d", _HOUR_S, "h")


def ago(then: datetime, now: datetime) -> str:
    """How long before ``now``, e.g. ``3 min ago``."""
    return f"{span((now - then).total_seconds())} ago"


def moment(at: datetime) -> str:
    """A UTC time to the second, e.g. ``2026-11-23 11:02:10Z``."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def count(number: int, what: str) -> str:
    """``1 study``, ``2 studies``, ``3 results``."""
    if number == 1:
        return f"1 {what}"
    return f"{number} {what[:-1]}ies" if what.endswith("y") else f"{number} {what}s"


def images_purged(number: int, since: datetime) -> str:
    """Why a study cannot be graded again: retention has had its images."""
    verb = "was" if number == 1 else "were"
    return (
        f"{count(number, 'image')} of it {verb} deleted on {since:%Y-%m-%d}, after the archives had proved that they "
        "hold its results: send the whole study again"
    )


def _two(whole: int, large: int, large_name: str, small: int, small_name: str) -> str:
    first, rest = divmod(whole, large)
    second = rest // small
    return f"{first} {large_name} {second} {small_name}" if second else f"{first} {large_name}"
