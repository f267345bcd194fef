"""What every labelled data set gives the grader's training: series, who they belong to, and labels by level."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from inference.anatomy import DiscLevel
from inference.volume import FloatArray, SagittalVolume


class DataSetError(Exception):
    """The data set cannot be used as it is; says what is wrong, where, and what to do. Holds no patient's name."""


Labels = Mapping[str, int]
"""Target (``gradings.TARGETS``) -> its value; a target without a label is absent. Pfirrmann 1-5, others 0/1."""
Places = Mapping[DiscLevel, FloatArray]
"""Level -> (3,) LPS mm: a point in the canal beside the disc that the labels mean."""


def no_places() -> Places:
    """Of data sets that give levels by name only."""
    return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class GradedSeries:
    """One image or stack whose discs have labels."""

    name: str
    """What the table of what was left out calls it; no patient's name."""
    patient: int
    read: Callable[[], SagittalVolume]
    """Raises Unsuitable where the image cannot be used."""
    labels: Mapping[DiscLevel, Labels]
    disc_count: int | None = None
    """How many discs the data set counts in this image; None where it does not say."""
    places: Callable[[], Places] = no_places
    """Where the labelled discs lie; read only when the series is cut."""
    t1: Callable[[], SagittalVolume] | None = None
    """The T1-weighted image in the same frame of the patient, where there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Something labelled that teaches nothing, and why."""

    series: str
    level: str
    """Empty where the whole series is left out."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GradedData:
    """A data set, not yet read."""

    root: Path
    series: tuple[GradedSeries, ...]
    patients: Mapping[int, str]
    """Number in this data set -> its own name, in the order in which folds are dealt. Folds never part a patient."""
    files: tuple[Path, ...]
    """Everything that the labels and images are read from."""
    left_out: tuple[LeftOut, ...] = ()
    """What its tables name and cannot be used."""
    apart: tuple[int, ...] = ()
    """Patients with rare images, of whom each fold gets its share."""
    unlabelled: tuple[GradedSeries, ...] = ()
    """Series without labels, beside those above, that pre-training may look at."""

    def digest(self) -> str:
        """sha256 over names and contents of all files: another one where anything was changed, wherever it lies."""
        summed = hashlib.sha256()
        for path in tqdm(sorted(self.files), desc="check data set", unit="file", leave=False):
            name = path.relative_to(self.root) if path.is_relative_to(self.root) else path
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            summed.update(f"{name.as_posix()} {content}\n".encode())
        return summed.hexdigest()
