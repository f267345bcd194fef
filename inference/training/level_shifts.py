"""Whether the names of a data set's discs fit its gradings better if they are shifted by one level.

    python -m inference.training.level_shifts --data ../shared/data/spider --run runs/grading

Boxes vouch for the levels of few images; gradings are there for every patient. Each disc of a finished run has
out-of-fold grades of a grader that had not seen the patient. Where they agree clearly better with the labels of the
levels next above or below, the discs were probably named wrong, or the data set counts from another disc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from inference.grades import TAUGHT, Finding
from inference.training import calibration, gradings, spider_gradings
from inference.training.calibration import OutOfFold
from inference.training.graded_series import GradedData
from inference.training.grading_run import DISCS, SAID
from inference.training.gradings import NUMBER_OF_LEVEL, TARGETS, GradedDiscs

LEAST_DISCS = 4
"""With fewer in common any shift may fit."""
CLEARLY = 0.6
"""A shift fits clearly better where its mean error is below so much of the error as named."""

Labels = Mapping[int, tuple[int, int]]
"""Level, counted from L5/S1 = 1 headwards -> Pfirrmann grade and narrowing (0/1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """One patient's mid-sagittal image."""

    patient: int
    errors: Mapping[int, float]
    """Shift -> mean over discs of the squared errors of expected Pfirrmann grade and probability of narrowing. +1: the
    labels of the level below belong to the disc above it, so the discs are named one level too low."""

    @property
    def best(self) -> int:
        """The shift that clearly fits better than the names, or 0."""
        shift = min(self.errors, key=lambda each: self.errors[each])
        return shift if self.errors[shift] < CLEARLY * self.errors[0] else 0


def fit(patient: int, said: Mapping[int, tuple[float, float]], labels: Labels) -> Fit | None:
    """``said``: as ``Labels``, expected grade and probability. None where too few discs are graded under some shift."""
    errors = {}
    for shift in (0, 1, -1):
        common = [level for level in said if level - shift in labels]
        if len(common) >= LEAST_DISCS:
            errors[shift] = float(np.mean([_error(said[each], labels[each - shift]) for each in common]))
    return Fit(patient=patient, errors=errors) if 0 in errors else None


def fits(discs: GradedDiscs, said: OutOfFold, data: GradedData) -> tuple[Fit, ...]:
    """Of all patients with a mid-sagittal image in the run."""
    joined = calibration.joined(said, calibration.all_alike(np.ones(len(TARGETS))))
    grade = joined[Finding.PFIRRMANN.value] @ np.array(TAUGHT[Finding.PFIRRMANN])
    narrowed = joined[Finding.DISC_NARROWING.value][:, 1]
    found = []
    for patient, labels in labels_of(data).items():
        rows = discs.rows((discs.patient == patient) & ~discs.is_stack)
        told = {int(discs.label_number[row]): (float(grade[row]), float(narrowed[row])) for row in rows}
        one = fit(patient, told, labels)
        if one is not None:
            found.append(one)
    return tuple(found)


def labels_of(data: GradedData) -> Mapping[int, Labels]:
    """Per patient, of the levels with both labels."""
    wanted = Finding.PFIRRMANN.value, Finding.DISC_NARROWING.value
    return {
        series.patient: {
            NUMBER_OF_LEVEL[level]: (each[wanted[0]], each[wanted[1]])
            for level, each in series.labels.items()
            if all(name in each for name in wanted)
        }
        for series in data.series
    }


def _error(said: tuple[float, float], label: tuple[int, int]) -> float:
    return (said[0] - label[0]) ** 2 + (said[1] - label[1]) ** 2


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--run", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
def main(data: Path, run: Path) -> None:
    """List the patients of a finished training whose gradings fit shifted names clearly better."""
    found = fits(gradings.load(run / DISCS), calibration.load(run / SAID), spider_gradings.shared(data))
    for each in found:
        if each.best:
            errors = ", ".join(f"{shift:+d}: {each.errors[shift]:.2f}" for shift in sorted(each.errors))
            click.echo(f"patient {each.patient}: shift {each.best:+d} fits better ({errors})")
    click.echo(f"{sum(each.best != 0 for each in found)} of {len(found)} patients")


if __name__ == "__main__":
    main()
