"""The door of inference: the images of one study in, a Report or Declined out.

Reads as the story of a study: choose the series, stack it, find the spine, name its levels, cut the discs,
grade them, measure them, say where each grade comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pydicom

from inference import (
    canal,
    detection,
    discs,
    evidence,
    grading,
    image_quality,
    labelling,
    measurements,
    modic,
    narrowing,
    plausibility,
    remarks,
    segments,
    selection,
    stacking,
    t1_series,
)
from inference.anatomy import Spine
from inference.brightness import from_zero
from inference.grades import Finding, Grade, Grades
from inference.report import Declined, DiscGrading, EvidenceMap, RejectedSeries, Report
from inference.volume import DiscVolume, SagittalVolume, Unsuitable
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
    unsure_below: float = 0.6,
    unsure_pfirrmann_below: float = 0.45,
) -> Report | Declined:
    """Grade every disc of one study.

    Args:
        instances: all objects of the study, of any modality; pixels may be read lazily.
        models: from ``inference.weights.load_models``.
        clock: gives the seconds in ``Report.timing_s``.
        minimum_slices: a series with fewer slices is declined; 1 grades a lone mid-sagittal slice, with a warning.
        with_evidence: whether to compute the maps; without them every ``DiscGrading.evidence`` is empty.
        withhold_levels_below: discs whose level confidence (0-1) is lower are numbered instead of named.
        unsure_below, unsure_pfirrmann_below: a grade whose probability (0-1) is lower is told as uncertain; Pfirrmann's
            five grades share theirs among more classes.
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
    unsure = {**dict.fromkeys(Finding, unsure_below), Finding.PFIRRMANN: unsure_pfirrmann_below}
    discs_graded = remarks.with_levels_withheld(
        _grade_discs(volume, spine, measured, models, unsure, with_evidence, stopwatch), withhold_levels_below
    )
    discs_graded, rejected, modic_notes = _with_modic_types(discs_graded, volume, spine, instances, choice)
    stopwatch.lap("modic")
    segmented = segments.segment(volume, looked.seen, looked.marks, spine)
    stopwatch.lap("segment")
    quality = [*choice.notes, *stacked.notes, *brightness_notes, *image_quality.remarks_on(volume)]
    quality += [*doubts, *spine.doubts, *remarks.of_levels(discs_graded)]
    if volume.voxels.shape[0] == 1:
        quality.append(SINGLE_SLICE)
    quality.extend(remarks.of_missing_grades(discs_graded))
    quality.extend((*modic_notes, *remarks.of_uncertain_grades(discs_graded)))
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
        rejected=rejected,
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
    unsure_below: Mapping[Finding, float],
    with_evidence: bool,
    stopwatch: _Stopwatch,
) -> tuple[DiscGrading, ...]:
    disc_volumes = discs.cut(volume, spine)
    learned = grading.grade(disc_volumes, models.grader, unsure_below)
    places = grading.slices_looked_at(disc_volumes, models.grader)
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
            slices_used=_slices_of(cut, looked_at, volume),
        )
        for disc, grades, measured_mm, disc_maps, cut, looked_at in zip(
            spine.discs, learned, measured.discs, maps, disc_volumes, places, strict=True
        )
    )


def _slices_of(cut: DiscVolume, places: Sequence[int], volume: SagittalVolume) -> tuple[int, ...]:
    """Indices in the volume of the slices of a cut disc that lie at ``places``, ascending."""
    rows, columns = cut.voxels.shape[1:]
    centres = np.array([(place, (rows - 1) / 2, (columns - 1) / 2, 1) for place in places]) @ cut.patch_to_patient.T
    return tuple(sorted(round(float(index)) for index in volume.to_voxel(centres[:, :3])[:, 0]))


def _with_measured(learned: Grades, measured_mm: measurements.Measured) -> Grades:
    """Learned grades, and measured ones for what no label could teach; a learned grade is never overruled.

    Of narrowing the labels teach yes or no: the steps of a yes are measured.
    """
    grades = dict(learned)
    if Finding.DISC_NARROWING in learned:
        loss_percent = measured_mm.get("disc_height_loss_percent")
        grades[Finding.DISC_NARROWING] = narrowing.graded(learned[Finding.DISC_NARROWING], loss_percent)
    stenosis = canal.stenosis(measured_mm)
    if stenosis is not None and Finding.CENTRAL_CANAL_STENOSIS not in learned:
        grades[Finding.CENTRAL_CANAL_STENOSIS] = stenosis
    return grades


def _with_modic_types(
    graded: tuple[DiscGrading, ...],
    volume: SagittalVolume,
    spine: Spine,
    instances: Sequence[pydicom.Dataset],
    choice: selection.Choice,
) -> tuple[tuple[DiscGrading, ...], tuple[RejectedSeries, ...], tuple[str, ...]]:
    """The discs with the Modic types of their marrow changes, the series that were not graded, and what to say."""
    if not any(remarks.marrow_changes(disc) for disc in graded):
        return graded, choice.rejected, ()
    stacked = t1_series.find(instances, choice.frames)
    if stacked is None:
        return graded, choice.rejected, (t1_series.NONE_THERE,)
    t1, _ = from_zero(stacked.volume)
    types: Sequence[Mapping[Finding, Grade]] = modic.types(volume, t1, spine, [disc.grades for disc in graded])
    graded = tuple(replace(disc, modic_types=of_disc) for disc, of_disc in zip(graded, types, strict=True))
    rejected = tuple(
        replace(series, reason=f"{series.reason}; {t1_series.USED}")
        if series.series_instance_uid == t1.series_instance_uid
        else series
        for series in choice.rejected
    )
    return graded, rejected, remarks.of_unclear_modic_types(graded)


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
