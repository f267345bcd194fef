"""A second door, for whoever waits for a study: which series would be graded of what has come, and what it lacks.

Reads headers only and needs no model, so that a process without torch can ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from inference import selection, stacking


@dataclass(frozen=True, kw_only=True, slots=True)
class Wholeness:
    """The series that ``pipeline.grade`` would take first, as far as it has come."""

    series_instance_uid: str | None
    """None: nothing that could be graded has come yet."""
    slices: int
    missing_slices: int
    """Between the first and the last one; what may still come beyond them cannot be seen."""


def look(instances: Sequence[Dataset]) -> Wholeness:
    """Look at the objects of one study, of any kind, with or without pixels. Never raises for what a header holds."""
    choice = selection.choose(instances)
    return Wholeness(
        series_instance_uid=choice.series_instance_uid,
        slices=len(choice.frames),
        missing_slices=stacking.missing_slices(choice.frames),
    )
