"""Which series of a study is the sagittal T2-weighted lumbar one, and why each other one is not.

Physics first: modality, orientation, echo/repetition/inversion time, spacing, coverage, image type. Words last: the
name of another body part is a veto, and between series that physics cannot tell apart they decide. Reasons hold
numbers and fixed words only, never text out of the headers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from inference.body_part import disagrees, foreign_body_part, names_lumbar, names_thoracic
from inference.contrast import Contrast, Weighting, contrast_of
from inference.coverage import field_mm, is_above, sagittal_frames, wrong_coverage
from inference.frames import Frame, number, read_frames, words
from inference.image_type import component_of, derived, why_not_an_original
from inference.report import RejectedSeries

MR_IMAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.4",
}
"""MR, Enhanced MR and Legacy Converted Enhanced MR Image Storage (PS3.4 B.5)."""
SAME_ECHO_MS = 5.0
"""Echo times nearer than this are one echo: multi-echo spin echo protocols separate theirs by 10 ms and more."""
FULL_FIELD_MM = 220.0
"""Along the body: holds L1 to S1 with a margin in tall adults."""
FEW_SLICES = 7
"""Fewer slices than this (at 4 mm) do not reach across the canal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The series to grade, or none and the reason; and every series that was not taken."""

    frames: tuple[Frame, ...]
    """The chosen frames, in the order received; empty where nothing is suitable."""
    why: str
    """Why this series was taken, one sentence; empty where nothing is suitable."""
    reason: str | None
    """None, or the sentence that says why nothing is suitable."""
    notes: tuple[str, ...]
    """What a reader should know of the choice."""
    rejected: tuple[RejectedSeries, ...]

    @property
    def series_instance_uid(self) -> str | None:
        return self.frames[0].series_instance_uid if self.frames else None

    @property
    def instances(self) -> tuple[Dataset, ...]:
        """The objects that the chosen frames are in, each once."""
        return tuple({id(frame.instance): frame.instance for frame in self.frames}.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """Frames of one series that belong together (one echo, one component), judged."""

    frames: tuple[Frame, ...]
    part: str
    """What sets it apart within its series, e.g. "echo time 12 ms: "; empty for a whole series."""
    contrast: Contrast
    notes: tuple[str, ...]
    fault: str | None
    """Why it cannot be graded; None for a suitable one."""


def choose(instances: Sequence[Dataset]) -> Choice:
    """Choose among all objects of one study, of any kind. Never raises for what a header holds."""
    candidates = [_judge(frames, part) for frames, part in _parts_of_series(read_frames(instances))]
    suitable = [candidate for candidate in candidates if candidate.fault is None]
    if not suitable:
        rejected = tuple(_rejected(candidate, candidate.fault or "") for candidate in candidates)
        return Choice(frames=(), why="", reason=_nothing_suitable(rejected), notes=(), rejected=rejected)
    best = min(suitable, key=lambda candidate: _rank(candidate, suitable))
    return Choice(
        frames=best.frames,
        why=_describe(best),
        reason=None,
        notes=best.notes,
        rejected=tuple(
            _rejected(candidate, candidate.fault or _why_second(candidate, best, suitable))
            for candidate in candidates
            if candidate is not best
        ),
    )


def _parts_of_series(frames: Sequence[Frame]) -> list[tuple[tuple[Frame, ...], str]]:
    """Frames that belong together, in the order in which their series arrived."""
    by_series: dict[str, list[Frame]] = {}
    for frame in frames:
        by_series.setdefault(frame.series_instance_uid, []).append(frame)
    return [part for series in by_series.values() for part in _split(series)]


def _split(series: list[Frame]) -> list[tuple[tuple[Frame, ...], str]]:
    """One part for each echo, kind of image and matrix: multi-echo and Dixon series share a Series Instance UID."""
    echoes = _echoes(series)
    parts: dict[tuple[int, str, str], list[Frame]] = {}
    for frame in series:
        echo = next((i for i, longest in enumerate(echoes) if (frame.echo_time_ms or 0.0) <= longest), 0)
        kind = why_not_an_original(frame) or component_of(frame)
        parts.setdefault((echo, kind, f"{frame.rows} x {frame.columns}"), []).append(frame)
    result = []
    for (_echo, kind, matrix), frames in parts.items():
        differs = []
        if len({key[0] for key in parts}) > 1:
            differs.append(f"echo time {frames[0].echo_time_ms or 0:.0f} ms")
        if len({key[1] for key in parts}) > 1 and kind != why_not_an_original(frames[0]):
            differs.append(f"{kind} images")
        if len({key[2] for key in parts}) > 1:
            differs.append(f"{matrix} pixels")
        result.append((tuple(frames), f"{', '.join(differs)}: " if differs else ""))
    return result


def _echoes(series: list[Frame]) -> list[float]:
    """The longest echo time of each cluster of echo times, ascending, ms."""
    times = sorted({frame.echo_time_ms or 0.0 for frame in series})
    ends = [shorter for shorter, longer in itertools.pairwise(times) if longer - shorter > SAME_ECHO_MS]
    return [*ends, times[-1]]


def _judge(frames: tuple[Frame, ...], part: str) -> _Candidate:
    fault = _not_an_image(frames) or why_not_an_original(frames[0])
    notes: list[str] = []
    contrast = contrast_of(frames[0])
    if fault is None:
        frames, fault = sagittal_frames(frames, notes)
        fault = fault or _wrong_contrast(contrast, notes) or wrong_coverage(frames)
        elsewhere = _wrong_body_part(frames[0], notes)
        fault = "; ".join(part for part in (elsewhere, fault) if part) or None
    if fault is None and derived(frames[0]):
        notes.append("The images are marked as derived: they were processed after acquisition.")
    return _Candidate(frames=frames, part=part, contrast=contrast, notes=tuple(notes), fault=fault)


def _not_an_image(frames: Sequence[Frame]) -> str | None:
    first = frames[0]
    if first.modality != "MR":
        known = {"CT", "SR", "PR", "KO", "SEG", "OT", "CR", "DX", "US", "PT", "NM", "XA", "DOC", "REG", "RTSTRUCT"}
        return f"not MR but {first.modality}" if first.modality in known else "not MR"
    kinds = words(first.instance, "SOPClassUID")
    if kinds and kinds[0] not in MR_IMAGE_CLASSES:
        return "not an MR image object"
    if first.rows < 1 or first.columns < 1:
        return "no image in it"
    return None


def _wrong_contrast(contrast: Contrast, notes: list[str]) -> str | None:
    if contrast.weighting not in {Weighting.T2, Weighting.T2_FAT_SUPPRESSED}:
        return str(contrast)
    if contrast.by_name:
        notes.append("Echo or repetition time is missing: the series was taken as T2-weighted by its name only.")
    if contrast.weighting is Weighting.T2_FAT_SUPPRESSED:
        notes.append("The images are fat-suppressed; the grades were learned on T2 images without fat suppression.")
    return None


def _wrong_body_part(frame: Frame, notes: list[str]) -> str | None:
    foreign = foreign_body_part(frame)
    if foreign is not None:
        return f"the header says {foreign}, not lumbar spine"
    if disagrees(frame):
        notes.append("The header names the lumbar spine and another body part.")
    if names_thoracic(frame):
        notes.append("The header names the thoracic spine only: check the levels.")
    return None


def _rank(candidate: _Candidate, suitable: Sequence[_Candidate]) -> tuple[object, ...]:
    """Smallest is best. Coverage and resolution count in coarse steps, so that trifles do not decide."""
    first = candidate.frames[0]
    pixel_mm = max(first.spacing_mm or (0.0,))
    return (
        candidate.contrast.weighting is not Weighting.T2,
        candidate.contrast.by_name,
        derived(first),
        names_thoracic(first),
        any(is_above(candidate.frames, other.frames) for other in suitable),
        len(candidate.frames) < FEW_SLICES,
        field_mm(first) < FULL_FIELD_MM,
        round(pixel_mm / 0.25),
        not names_lumbar(first),
        -len(candidate.frames),
        pixel_mm,
        # of two alike the later one: a series is repeated when the first was spoilt
        -(number(first.instance, "SeriesNumber") or 0.0),
        first.series_instance_uid,
    )


def _why_second(candidate: _Candidate, best: _Candidate, suitable: Sequence[_Candidate]) -> str:
    reasons = (
        f"{candidate.contrast}; a series without fat suppression was taken",
        "weighting known by name only; a series with echo and repetition time was taken",
        "derived images; an original series was taken",
        "the header says thoracic spine; another series was taken",
        "shows a higher part of the spine than the series taken",
        f"only {len(candidate.frames)} slice(s); a fuller series was taken",
        f"shows {field_mm(candidate.frames[0]):.0f} mm along the body; a larger field was taken",
        f"coarser pixels ({_pixel(candidate)}) than the series taken ({_pixel(best)})",
        "the header does not name the lumbar spine; that of the series taken does",
        f"fewer slices ({len(candidate.frames)}) than the series taken ({len(best.frames)})",
        f"coarser pixels ({_pixel(candidate)}) than the series taken ({_pixel(best)})",
        "like the series taken, but acquired before it",
    )
    ranks = zip(_rank(candidate, suitable), _rank(best, suitable), reasons, strict=False)
    return next((reason for theirs, ours, reason in ranks if theirs != ours), "like the series taken")


def _pixel(candidate: _Candidate) -> str:
    return f"{max(candidate.frames[0].spacing_mm or (0.0,)):.2f} mm"


def _describe(candidate: _Candidate) -> str:
    first = candidate.frames[0]
    return (
        f"sagittal, {candidate.contrast}, {len(candidate.frames)} slices, {field_mm(first):.0f} mm along the body, "
        f"pixels of {_pixel(candidate)}"
    )


def _rejected(candidate: _Candidate, reason: str) -> RejectedSeries:
    return RejectedSeries(
        series_instance_uid=candidate.frames[0].series_instance_uid, reason=f"{candidate.part}{reason}"
    )


def _nothing_suitable(rejected: Sequence[RejectedSeries]) -> str:
    if not rejected:
        return "There are no images in the study."
    reasons = "; ".join(dict.fromkeys(series.reason for series in rejected))
    return f"No sagittal T2-weighted series of the lumbar spine: {reasons}."
