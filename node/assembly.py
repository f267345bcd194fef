"""Which studies are complete at a given moment, and why. Pure.

DICOM has no word for "that was the last image". The archive that sends may know how many there are, once it has them
all itself: a scanner that pauses between two series leaves an archive with as many images as came, and not the study.
Else time since the last one is the evidence there is. A gap between the slices of the series to be graded speaks
against both. A study
that never falls quiet, or never becomes whole, is closed all the same, so that a sender that repeats itself for ever,
or a slice that was lost, cannot hold a patient's grading back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from node.records import ArchiveCounts, OpenStudy, SeriesCount

LAST_OF_ALL = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Closing:
    """A study to close, and why."""

    study_id: int
    reason: str
    last_received_at: datetime
    """What the decision rests on: an image that came later than this forbids the closing."""
    graded_series: str = ""
    """The series that this is all about, where the study is to start early; empty: all of it."""


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
    series_lacking: frozenset[str] = frozenset()
    """The series that lack images."""
    told_for_s: float = 0.0
    """For how long the archive has told these very counts while no image came; 0: it was asked once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Untold:
    """There is an archive to ask about a study, and nothing to compare with."""

    why: str
    """The closing tells it."""
    awaited: bool = False
    """The archive may still answer."""


def compare(received: Iterable[SeriesCount], archive: ArchiveCounts) -> Comparison | Untold:
    """Counts of the series that came beside the archive's.

    Images are missing as soon as the archive has more of one series; that none are missing it must have told of every
    series that came, or of as many images of the study as came. A number smaller than what came is none: the archive
    does not know all that there is.
    """
    came = {series.series_instance_uid: series.instance_count or 0 for series in received}
    missing = expected = not_begun = 0
    lacking, told = set(), set()
    for series in archive.series:
        if series.series_instance_uid not in came:
            not_begun += series.modality == "MR"
        elif series.instance_count is not None and series.instance_count >= came[series.series_instance_uid]:
            told.add(series.series_instance_uid)
            expected += series.instance_count
            missing += series.instance_count - came[series.series_instance_uid]
            if came[series.series_instance_uid] < series.instance_count:
                lacking.add(series.series_instance_uid)
    if not missing and (not came or told != set(came)):
        return _by_study(sum(came.values()), archive.study, not_begun)
    return Comparison(
        missing=missing, expected=expected, mr_series_not_begun=not_begun, series_lacking=frozenset(lacking)
    )


def _by_study(came: int, told: int | None, mr_series_not_begun: int) -> Comparison | Untold:
    """A study that is not told of by series. More of it than came may be what the archive does not send on."""
    if told is None or told < came or not came:
        return Untold(why="the sending archive tells no counts")
    if told > came:
        why = f"the sending archive has {told - came} more images of the study, and does not tell of which series"
        return Untold(why=why)
    return Comparison(missing=0, expected=told, mr_series_not_begun=mr_series_not_begun)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The series of a study that would be graded, as far as it has come."""

    series_instance_uid: str
    """Empty: none has come yet."""
    slices: int
    missing_slices: int
    """Between those that came."""
    last_received_at: datetime
    """When the last image of this series came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyStart:
    """When the series to be graded counts as whole while others still arrive."""

    series_quiet_s: float
    """No image of it came for this long."""
    minimum_slices: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How long a study is waited for."""

    quiet_s: float
    """It closes when no image came for this long ..."""
    quiet_s_of: Mapping[str, float] = field(default_factory=dict)
    """... or for as long as is set for the AE title that sends it, which pauses: no count closes it before ..."""
    count_confirmed_s: float
    """... or when the sending archive told for this long that it has no more than came, where that is sooner ..."""
    maximum_wait_s: float
    """... and at the latest this long after its first image."""
    early: EarlyStart | None = None
    """None: the whole study is waited for."""


def due(
    studies: Iterable[OpenStudy],
    rules: Rules,
    *,
    compared: Mapping[int, Comparison | Untold],
    seen: Mapping[int, Seen],
    now: datetime,
) -> tuple[Closing, ...]:
    """The studies to close at ``now``.

    Args:
        compared: for the studies (by ``study_id``) that have an archive to ask, what it said after their last image.
            One that is whole closes when the archive has told so for long enough, one that lacks images only when the
            maximum is over; one that there is no number for by the other rules, as soon as no answer is awaited.
        seen: for the studies whose images were looked at after the last of them came.
    """
    decided = (_decide(study, rules, compared.get(study.study_id), seen.get(study.study_id), now) for study in studies)
    return tuple(closing for closing in decided if closing is not None)


def waiting(
    studies: Iterable[OpenStudy], *, compared: Mapping[int, Comparison | Untold], seen: Mapping[int, Seen]
) -> tuple[Waiting, ...]:
    """The studies of which more is expected, in words for the operator."""
    lacks = ((study.study_id, _lacks(compared.get(study.study_id), seen.get(study.study_id))) for study in studies)
    return tuple(Waiting(study_id=study_id, reason=f"waits: {lack}") for study_id, lack in lacks if lack)


def _decide(
    study: OpenStudy, rules: Rules, known: Comparison | Untold | None, seen: Seen | None, now: datetime
) -> Closing | None:
    series = seen.series_instance_uid if seen is not None and rules.early is not None else ""
    lacking = known.series_lacking if isinstance(known, Comparison) else frozenset()
    if seen is not None and rules.early is not None and _may_start(study, seen, lacking, rules.early, now):
        quiet = f"{seen.slices} slices, none new for {rules.early.series_quiet_s:g} s"
        reason = f"the series to be graded is whole ({quiet}), the rest may still come"
        return _closing(study, reason, LAST_OF_ALL, series)
    if reason := _why_now(study, rules, known, seen, now):
        return _closing(study, reason, study.last_received_at, series)
    return None


def _may_start(study: OpenStudy, seen: Seen, lacking: Collection[str], early: EarlyStart, now: datetime) -> bool:
    # a later generation starts early only where it brings images of that series: else each further image would be one
    return (
        bool(seen.series_instance_uid)
        and seen.series_instance_uid not in lacking
        and not seen.missing_slices
        and seen.slices >= early.minimum_slices
        and seen.last_received_at >= study.first_received_at
        and now - seen.last_received_at >= timedelta(seconds=early.series_quiet_s)
    )


def _closing(study: OpenStudy, reason: str, last_received_at: datetime, series: str) -> Closing:
    images = f"{study.instance_count} image{'' if study.instance_count == 1 else 's'}"
    return Closing(
        study_id=study.study_id,
        reason=f"closed with {images}: {reason}",
        last_received_at=last_received_at,
        graded_series=series,
    )


def _why_now(
    study: OpenStudy, rules: Rules, known: Comparison | Untold | None, seen: Seen | None, now: datetime
) -> str:
    """Why the study is to be closed at ``now``; empty: it is not."""
    quiet_s, maximum_wait_s = rules.quiet_s_of.get(study.calling_ae_title, rules.quiet_s), rules.maximum_wait_s
    quiet = now - study.last_received_at >= timedelta(seconds=quiet_s)
    over = now - study.first_received_at >= timedelta(seconds=maximum_wait_s)
    untold = f"; {known.why}" if isinstance(known, Untold) else ""
    if lack := _lacks(known, seen):
        return f"{lack}, and {maximum_wait_s:g} s are over since the first image{untold}" if over else ""
    if isinstance(known, Comparison) and (reason := _why_by_count(study, rules, known, quiet_s, quiet)):
        return reason
    if quiet and (over or not _is_awaited(known)):
        return f"no new image for {quiet_s:g} s{untold}"
    if over:  # in the middle of a transfer the archive is not asked
        return f"still receiving {maximum_wait_s:g} s after the first image{'' if _is_awaited(known) else untold}"
    return ""


def _why_by_count(study: OpenStudy, rules: Rules, known: Comparison, quiet_s: float, quiet: bool) -> str:
    """Of a study that lacks nothing: the archive may be filling still, so its word counts when it stays the same."""
    if quiet and known.mr_series_not_begun:
        series = known.mr_series_not_begun
        return f"no new image for {quiet_s:g} s; {series} MR series of the sending archive did not come at all"
    if quiet:
        return f"no new image for {quiet_s:g} s; all that the sending archive has"
    may_be_sooner = study.calling_ae_title not in rules.quiet_s_of and not known.mr_series_not_begun
    if may_be_sooner and known.told_for_s >= rules.count_confirmed_s:
        return f"all that the sending archive has, and it told the same count for {known.told_for_s:.0f} s"
    return ""


def _is_awaited(known: Comparison | Untold | None) -> bool:
    return isinstance(known, Untold) and known.awaited


def _lacks(known: Comparison | Untold | None, seen: Seen | None) -> str:
    """What is missing: by the archive's count; else by the positions of slices: the archive may still fill."""
    if isinstance(known, Comparison) and known.missing:
        return f"{known.missing} of {known.expected} images that the sending archive has are missing"
    if seen is not None and seen.missing_slices:
        missing = "1 slice is" if seen.missing_slices == 1 else f"{seen.missing_slices} slices are"
        no_more = " (the sending archive has no more images either)" if isinstance(known, Comparison) else ""
        return f"{missing} missing between the {seen.slices} that came of the series to be graded{no_more}"
    return ""
