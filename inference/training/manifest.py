"""A hospital's own archive for training: ``manifest.csv`` beside the studies, one line per disc.

    patient,study,level,pfirrmann,disc_narrowing,central_canal_stenosis
    a17,studies/a17_2021,L4/L5,4,2,0
    a17,studies/a17_2021,L5/S1,3,,

* ``patient``: any text that is the same in all lines of one person; folds never part a patient;
* ``study``: a folder of DICOM files, or one ``.mha``, ``.nii`` or ``.nii.gz``; relative to the manifest, or absolute;
* ``level``: ``L5/S1``, ``L4/L5``... by the vertebrae above and below the disc;
* grades: any of ``COLUMNS``, named and valued as in the JSON report; empty where nobody graded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inference.anatomy import DiscLevel
from inference.grades import CLASSES, FIRST_ABNORMAL, Finding
from inference.networks.odds import MARROW
from inference.training import study_images
from inference.training.graded_series import DataSetError, GradedData, GradedSeries, Labels
from inference.training.gradings import MARROW_TARGET
from inference.training.label_table import Row, Table, read_table, refuse

FILE = "manifest.csv"
REQUIRED = "patient", "study", "level"
VALUES: Mapping[str, tuple[int, ...]] = {
    **{finding.value: CLASSES[finding] for finding in Finding},
    MARROW_TARGET: CLASSES[MARROW[0]],
}
"""Grade column -> what may stand in it. ``marrow_change`` is for readers who do not say above or below the disc."""


def read(root: Path) -> GradedData:
    """Every study that the manifest names.

    Raises:
        DataSetError: with each line that cannot be used, and what to do about it.
    """
    table = read_table(root / FILE, REQUIRED)
    _require_grades(table)
    rows = [_Line(root=root, row=row) for row in table.rows]
    refuse(FILE, [f"line {line.row.line}: {fault}" for line in rows for fault in line.faults()] or _clashes(rows))
    if not rows:
        raise DataSetError(f"{FILE} has a header and no discs: add one line per graded disc")
    patients = {name: number for number, name in enumerate(dict.fromkeys(line.patient for line in rows), start=1)}
    of_study: dict[Path, list[_Line]] = {}
    for line in rows:
        of_study.setdefault(line.study, []).append(line)
    series = tuple(
        GradedSeries(
            name=f"line {lines[0].row.line}",
            patient=patients[lines[0].patient],
            read=partial(study_images.read_study, study),
            labels={line.level: line.labels() for line in lines},
        )
        for study, lines in of_study.items()
    )
    return GradedData(
        root=root,
        series=series,
        patients={number: name for name, number in patients.items()},
        files=(root / FILE, *(path for study in of_study for path in study_images.files_of(study))),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """One line of the manifest and what it means."""

    root: Path
    row: Row

    @property
    def patient(self) -> str:
        return self.row.cells["patient"]

    @property
    def study(self) -> Path:
        return self.root / self.row.cells["study"]

    @property
    def level(self) -> DiscLevel:
        return DiscLevel(self.row.cells["level"])

    def faults(self) -> list[str]:
        """What is wrong with it and what to do; no cell that may name a person is repeated."""
        faults = []
        if not self.patient:
            faults.append("patient is empty: give the same text in all lines of one person")
        if not self.row.cells["study"]:
            faults.append("study is empty: give the study's folder or file")
        elif not (self.study.is_dir() or (self.study.is_file() and self.study.name.endswith(_SUFFIXES))):
            wanted = ", ".join(_SUFFIXES)
            faults.append(f"study is neither a folder nor a {wanted} file: paths count from {FILE}'s own folder")
        if self.row.cells["level"] not in set(DiscLevel):
            faults.append(f'level is "{self.row.cells["level"]}": give one of {", ".join(DiscLevel)}')
        for column, values in VALUES.items():
            cell = self.row.cells.get(column, "")
            if cell and cell not in map(str, values):
                faults.append(f'{column} is "{cell}": give one of {", ".join(map(str, values))}, or leave it empty')
        return faults

    def labels(self) -> Labels:
        """By target. Narrowing is taught as none against some; marrow as a change on either side."""
        said = {column: int(cell) for column in VALUES if (cell := self.row.cells.get(column, ""))}
        sides = [said.pop(finding.value) for finding in MARROW if finding.value in said]
        if any(sides) or (len(sides) == len(MARROW) and MARROW_TARGET not in said):
            said[MARROW_TARGET] = max(sides)
        narrowed = Finding.DISC_NARROWING.value
        if narrowed in said:
            said[narrowed] = int(said[narrowed] >= FIRST_ABNORMAL[Finding.DISC_NARROWING])
        return said


_SUFFIXES = study_images.VOLUME_SUFFIXES


def _require_grades(table: Table) -> None:
    grades = [column for column in table.columns if column not in REQUIRED]
    unknown = [column for column in grades if column not in VALUES]
    if unknown:
        raise DataSetError(f'{FILE} has a column "{unknown[0]}", which is no grade: known are {", ".join(VALUES)}')
    if not grades:
        raise DataSetError(f"{FILE} has no column with grades: add some of {', '.join(VALUES)}")


def _clashes(lines: list[_Line]) -> list[str]:
    """Lines that contradict earlier ones."""
    faults = []
    first: dict[tuple[Path, DiscLevel], int] = {}
    owner: dict[Path, _Line] = {}
    for line in lines:
        place, number = (line.study, line.level), line.row.line
        if place in first:
            faults.append(f"line {number}: the same study and level as line {first[place]}: keep one of them")
        first.setdefault(place, number)
        if owner.setdefault(line.study, line).patient != line.patient:
            faults.append(
                f"line {number}: the same study as line {owner[line.study].row.line}, but another patient: a study "
                "shows one person"
            )
    return faults
