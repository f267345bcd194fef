"""Which studies are complete at a given moment, and why. Pure.

DICOM has no word for "that was the last image": time since the last one is the evidence there is. A study that never
falls quiet is closed all the same, so that a sender that repeats itself for ever cannot hold a patient's grading back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from node.records import OpenStudy


@dataclass(frozen=True, kw_only=True, slots=True)
class Closing:
    """A study to close, and why."""

    study_id: int
    reason: str
    last_received_at: datetime
    """What the decision rests on: an image that came later than this forbids the closing."""


def due(studies: Iterable[OpenStudy], *, quiet_s: float, maximum_wait_s: float, now: datetime) -> tuple[Closing, ...]:
    """The studies to close at ``now``: quiet for ``quiet_s``, or ``maximum_wait_s`` after their first image."""
    closings = []
    for study in studies:
        reason = _reason(study, quiet_s, maximum_wait_s, now)
        if reason:
            closing = Closing(study_id=study.study_id, reason=reason, last_received_at=study.last_received_at)
            closings.append(closing)
    return tuple(closings)


def _reason(study: OpenStudy, quiet_s: float, maximum_wait_s: float, now: datetime) -> str:
    images = f"{study.instance_count} image{'' if study.instance_count == 1 else 's'}"
    if now - study.last_received_at >= timedelta(seconds=quiet_s):
        return f"closed with {images}: no new image for {quiet_s:g} s"
    if now - study.first_received_at >= timedelta(seconds=maximum_wait_s):
        return f"closed with {images}: still receiving {maximum_wait_s:g} s after the first image"
    return ""
