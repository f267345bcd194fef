"""Which studies are complete at a given moment, and why. Pure.

DICOM has no word for "that was the last image". The archive that sends may know how many there are; else time since the
last one is the evidence there is. A study that never falls quiet, or never becomes whole, is closed all the same, so
that a sender that repeats itself for ever, or a slice that was lost, cannot hold a patient's grading back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from node.records import OpenStudy, SeriesCount


@dataclass(frozen=True, kw_only=True, slots=True)
class Closing:
    """A study to close, and why."""

    study_id: int
    reason: str
    last_received_at: datetime
    """What the decision rests on: an image that came later than this forbids the closing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A study that is kept open, and for what."""

    study_id: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What the sending archive holds of a study, beside what came."""

    missing: int
    """Images that the series which have begun still lack."""
    expected: int
    """Images that the archive has in these series."""
    mr_series_not_begun: int
    """Of a study of which the archive sends only some series, these never come."""


def compare(received: Iterable[SeriesCount], archive: Iterable[SeriesCount]) -> Comparison:
    """Counts of the series that came beside the archive's; series whose number the archive does not tell are whole."""
    came = {series.series_instance_uid: series.instance_count or 0 for series in received}
    missing = expected = not_begun = 0
    for series in archive:
        if series.series_instance_uid not in came:
            not_begun += series.modality == "MR"
        elif series.instance_count is not None:
            expected += series.instance_count
            missing += max(0, series.instance_count - came[series.series_instance_uid])
    return Comparison(missing=missing, expected=expected, mr_series_not_begun=not_begun)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How long a study is waited for."""

    quiet_s: float
    """It closes when no image came for this long ..."""
    quiet_s_of: Mapping[str, float] = field(default_factory=dict)
    """... or for as long as is set for the AE title that sends it ..."""
    maximum_wait_s: float
    """... and at the latest this long after its first image."""


def due(
    studies: Iterable[OpenStudy], rules: Rules, *, compared: Mapping[int, Comparison], now: datetime
) -> tuple[Closing, ...]:
    """The studies to close at ``now``.

    Args:
        compared: for the studies (by ``study_id``) whose archive was asked after their last image. One that is whole
            closes at once, one that lacks images only when the maximum is over.
    """
    decided = (_decide(study, rules, compared.get(study.study_id), now) for study in studies)
    return tuple(closing for closing in decided if closing is not None)


def waiting(studies: Iterable[OpenStudy], compared: Mapping[int, Comparison]) -> tuple[Waiting, ...]:
    """The studies that the archive has more images of, in words for the operator."""
    return tuple(
        Waiting(study_id=study.study_id, reason=f"waits: {_lack(compared[study.study_id])}")
        for study in studies
        if study.study_id in compared and compared[study.study_id].missing
    )


def _decide(study: OpenStudy, rules: Rules, known: Comparison | None, now: datetime) -> Closing | None:
    quiet_s, maximum_wait_s = rules.quiet_s_of.get(study.calling_ae_title, rules.quiet_s), rules.maximum_wait_s
    images = f"{study.instance_count} image{'' if study.instance_count == 1 else 's'}"
    quiet = now - study.last_received_at >= timedelta(seconds=quiet_s)
    over = now - study.first_received_at >= timedelta(seconds=maximum_wait_s)
    if known is not None and known.missing:
        reason = f"{_lack(known)}, and {maximum_wait_s:g} s are over since the first image" if over else ""
    elif known is not None and not known.mr_series_not_begun:
        reason = "all that the sending archive has"
    elif quiet and known is not None:
        series = known.mr_series_not_begun
        reason = f"no new image for {quiet_s:g} s; {series} MR series of the sending archive did not come at all"
    elif quiet:
        reason = f"no new image for {quiet_s:g} s"
    else:
        reason = f"still receiving {maximum_wait_s:g} s after the first image" if over else ""
    if not reason:
        return None
    return Closing(
        study_id=study.study_id,
        reason=f"closed with {images}: {reason}",
        last_received_at=study.last_received_at,
    )


def _lack(known: Comparison) -> str:
    return f"{known.missing} of {known.expected} images that the sending archive has are missing"
