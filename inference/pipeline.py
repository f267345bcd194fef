"""The door of inference: the images of one study in, a Report or Declined out.

Reads as the story of a study: choose the series, stack it, find the spine, name its levels, cut the discs,
grade them, measure them, say where each grade comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pydicom

from inference import (
    detection,
    discs,
    evidence,
    grading,
    image_quality,
    labelling,
    measurements,
    plausibility,
    remarks,
    segments,
    selection,
    stacking,
)
from inference.anatomy import Spine
from inference.brightness import from_zero
from inference.grades import Finding, Grades
from inference.report import Declined, DiscGrading, EvidenceMap, RejectedSeries, Report
from inference.volume import SagittalVolume, Unsuitable
from inference.weights import Models

Clock = Callable[[], float]
"""Seconds from an arbitrary start, e.g. ``time.perf_counter``: the core has no clock of its own."""

SINGLE_SLICE = "Only one slice: findings beside the midline cannot be seen."


def grade(  # noqa: PLR0913 - what a node sets
    instances: Sequence[pydicom.Dataset],
    models: Models,
    *,
    clock: Clock,
    minimum_slices: int = 1,
    with_evidence: bool = True,
    withhold_levels_below: float = 0.0,
) -> Report | Declined:
    """Grade every disc of one study.

    Args:
        instances: all objects of the study, of any modality; pixels may be read lazily.
        models: from ``inference.weights.load_models``.
        clock: gives the seconds in ``Report.timing_s``.
        minimum_slices: a series with fewer slices is declined; 1 grades a lone mid-sagittal slice, with a warning.
        with_evidence: whether to compute the maps; without them every ``DiscGrading.evidence`` is empty.
        withhold_levels_below: discs whose level confidence (0-1) is lower are numbered instead of named.
    """
    stopwatch = _Stopwatch(clock)
    choice, stacked = _choose_and_stack(instances, minimum_slices)
    if stacked is None:
        return _declined(instances, choice.reason or "", choice.rejected, models)
    volume, brightness_notes = from_zero(stacked.volume)
    stopwatch.lap("load")
    try:
        looked = detection.look(volume, models.localiser)
        found = detection.find_in(looked)
        spine = labelling.name(found)
        doubts = plausibility.doubts_about(found, volume)
        _require_discs(spine)
    except Unsuitable as unsuitable:
        return _declined(instances, str(unsuitable), choice.rejected, models)
    stopwatch.lap("localise")
    measured = measurements.measure(volume, spine)
    discs_graded = remarks.with_levels_withheld(
        _grade_discs(volume, spine, measured, models, with_evidence, stopwatch), withhold_levels_below
    )
    segmented = segments.segment(volume, looked.seen, looked.marks, spine)
    stopwatch.lap("segment")
    quality = [*choice.notes, *stacked.notes, *brightness_notes, *image_quality.remarks_on(volume)]
    quality += [*doubts, *spine.doubts, *remarks.of_levels(discs_graded)]
    if volume.voxels.shape[0] == 1:
        quality.append(SINGLE_SLICE)
    quality.extend(remarks.of_missing_grades(discs_graded))
    quality.extend(remarks.of_grades_at_odds(discs_graded))
    quality.extend(remarks.of_left_out(measured.left_out, discs_graded))
    quality.extend((*remarks.of_contrast(discs_graded), *remarks.of_contradictions(discs_graded)))
    return Report(
        study_instance_uid=str(choice.instances[0].StudyInstanceUID),
        volume=volume,
        spine=spine,
        discs=discs_graded,
        segments=segmented,
        quality=tuple(dict.fromkeys(quality)),
        rejected=choice.rejected,
        model=models.identity,
        timing_s=stopwatch.laps_s(),
        measurements=_of_named_spine(measured.spine, discs_graded),
    )


def _choose_and_stack(
    instances: Sequence[pydicom.Dataset], minimum_slices: int
) -> tuple[selection.Choice, stacking.Stacked | None]:
    """The best series that is whole, as a volume; None with the reason in the choice when there is none.

    A spoilt series does not cost the study where a repeat of it exists: it joins the rejected ones, with its sentence.
    """
    choice = selection.choose(instances)
    uid = choice.series_instance_uid
    if uid is None:
        return choice, None
    try:
        stacked = stacking.stack_frames(choice.frames)
        _require_slices(stacked.volume, minimum_slices)
    except Unsuitable as unsuitable:
        spoilt = RejectedSeries(series_instance_uid=uid, reason=str(unsuitable))
        others = [item for item in instances if str(item.get("SeriesInstanceUID", "")) != uid]
        again, stacked_again = _choose_and_stack(others, minimum_slices)
        if stacked_again is None:  # what was nearest to being graded is what the reader wants to hear of
            return replace(choice, reason=str(unsuitable), rejected=(*choice.rejected, spoilt)), None
        return replace(again, rejected=(spoilt, *again.rejected)), stacked_again
    return choice, stacked


def _grade_discs(  # noqa: PLR0913, PLR0917 - what it works with
    volume: SagittalVolume,
    spine: Spine,
    measured: measurements.Measurements,
    models: Models,
    with_evidence: bool,
    stopwatch: _Stopwatch,
) -> tuple[DiscGrading, ...]:
    disc_volumes = discs.cut(volume, spine)
    learned = grading.grade(disc_volumes, models.grader)
    stopwatch.lap("grade")
    maps: Sequence[tuple[EvidenceMap, ...]] = [()] * len(disc_volumes)
    if with_evidence:
        maps = evidence.explain(volume, disc_volumes, models.grader, learned)
    stopwatch.lap("evidence")
    return tuple(
        DiscGrading(
            level=disc.level,
            level_confidence=disc.level_confidence,
            slice_index=disc.slice_index,
            center_lps_mm=disc.center_lps_mm,
            outline_lps_mm=disc.outline_lps_mm,
            grades=_with_measured(grades, measured_mm),
            measurements=measured_mm,
            evidence=disc_maps,
        )
        for disc, grades, measured_mm, disc_maps in zip(spine.discs, learned, measured.discs, maps, strict=True)
    )


def _with_measured(learned: Grades, measured_mm: measurements.Measured) -> Grades:
    """Learned grades, and measured ones for what no label could teach; a learned grade is never overruled."""
    stenosis = measurements.canal_stenosis(measured_mm)
    if stenosis is None or Finding.CENTRAL_CANAL_STENOSIS in learned:
        return learned
    return {**learned, Finding.CENTRAL_CANAL_STENOSIS: stenosis}


def _of_named_spine(measured: measurements.Measured, discs_graded: tuple[DiscGrading, ...]) -> measurements.Measured:
    """What holds for the spine as a whole hangs on the names of its levels: nothing where one is withheld."""
    return {} if any(disc.withheld_place is not None for disc in discs_graded) else measured


def _require_slices(volume: SagittalVolume, minimum_slices: int) -> None:
    count = volume.voxels.shape[0]
    if count < minimum_slices:
        raise Unsuitable(f"The T2 sagittal series has {count} slice(s); at least {minimum_slices} are needed.")


def _require_discs(spine: Spine) -> None:
    if not spine.discs:
        raise Unsuitable("No disc of the lumbar spine lies wholly within the images.")


def _declined(
    instances: Sequence[pydicom.Dataset], reason: str, rejected: tuple[RejectedSeries, ...], models: Models
) -> Declined:
    study_uid = next((str(uid) for uid in (item.get("StudyInstanceUID") for item in instances) if uid), "")
    return Declined(study_instance_uid=study_uid, reason=reason, rejected=rejected, model=models.identity)


@dataclass(kw_only=False, slots=True)
class _Stopwatch:
    clock: Clock
    started: float = field(init=False)
    last: float = field(init=False)
    laps: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.started = self.last = self.clock()

    def lap(self, name: str) -> None:
        now = self.clock()
        self.laps[name] = now - self.last
        self.last = now

    def laps_s(self) -> dict[str, float]:
        return {**self.laps, "total": self.last - self.started}
