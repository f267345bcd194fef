"""Canal stenosis labels of the RSNA 2024 Lumbar Spine Degenerative Classification layout.

* ``train.csv``: ``study_id`` and a column per condition and level, e.g. ``spinal_canal_stenosis_l1_l2``, each of them
  Normal/Mild, Moderate, Severe or empty;
* ``train_series_descriptions.csv``: ``study_id``, ``series_id``, ``series_description`` (Sagittal T2/STIR, Sagittal T1,
  Axial T2);
* ``train_label_coordinates.csv``: ``study_id``, ``series_id``, ``instance_number``, ``condition``, ``level``, and
  ``x``, ``y`` in pixels;
* ``train_images/<study_id>/<series_id>/<instance_number>.dcm``.

A disc takes the label whose point lies beside it, whatever the localiser calls the disc; by name where no point is
given. Moderate and Severe count as stenosis. The other conditions (foramina, lateral recesses) are not graded by us.
The images may be used for non-commercial purposes only (the data set's licence): so may weights trained on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pydicom

from inference.anatomy import DiscLevel
from inference.frames import read_frames, value
from inference.grades import Finding
from inference.training import study_images
from inference.training.graded_series import DataSetError, GradedData, GradedSeries, Labels, LeftOut, Places
from inference.training.label_table import Row, read_table, refuse
from inference.volume import SagittalVolume, Unsuitable

LABELS, SERIES, POINTS = "train.csv", "train_series_descriptions.csv", "train_label_coordinates.csv"
SAGITTAL_T2 = "Sagittal T2/STIR"
CONDITION = "Spinal Canal Stenosis"
LEVELS = DiscLevel.L1_L2, DiscLevel.L2_L3, DiscLevel.L3_L4, DiscLevel.L4_L5, DiscLevel.L5_S1
COLUMN_OF: Mapping[DiscLevel, str] = {
    level: f"spinal_canal_stenosis_{level.value.lower().replace('/', '_')}" for level in LEVELS
}
STENOSIS: Mapping[str, int] = {"Normal/Mild": 0, "Moderate": 1, "Severe": 1}

_Points = list[tuple[DiscLevel, Path, float, float]]
"""Level, image, x (column) and y (row) of each point of a study."""


def read(root: Path) -> GradedData:
    """Each study with its labels; a study is a patient.

    Raises:
        DataSetError: a table is missing or holds what the competition's data page does not name.
    """
    studies = _labels(root)
    of_study = _sagittal_series(root)
    points = _points(root)
    series, left_out, files = [], [], [root / name for name in (LABELS, SERIES, POINTS) if (root / name).exists()]
    for study, labels in studies.items():
        folders = [root / "train_images" / str(study) / each for each in of_study.get(study, [])]
        there = [folder for folder in folders if folder.is_dir()]
        reason = None if there else f"no folder of a series described as {SAGITTAL_T2}"
        if not labels:
            reason = "no canal stenosis label"
        if reason is not None:
            left_out.append(LeftOut(series=str(study), level="", reason=reason))
            continue
        places = partial(_places, points.get(study, []))
        series.append(
            GradedSeries(name=str(study), patient=study, read=partial(_read_study, there), labels=labels, places=places)
        )
        files.extend(path for folder in there for path in study_images.files_of(folder))
    if not series:
        raise DataSetError(f"{root.name}/train_images/ holds no study that {LABELS} names: is it another --layout?")
    return GradedData(
        root=root,
        series=tuple(series),
        patients={each.patient: each.name for each in series},
        files=tuple(files),
        left_out=tuple(left_out),
    )


def _labels(root: Path) -> Mapping[int, Mapping[DiscLevel, Labels]]:
    table = read_table(root / LABELS, ("study_id", *COLUMN_OF.values()))
    studies: dict[int, Mapping[DiscLevel, Labels]] = {}
    faults = []
    for row in table.rows:
        strange = [column for column in COLUMN_OF.values() if row.cells[column] not in ("", *STENOSIS)]
        if strange:
            given, known = row.cells[strange[0]], ", ".join(STENOSIS)
            faults.append(f'line {row.line}: {strange[0]} is "{given}": give {known}, or leave it empty')
        elif not row.cells["study_id"].isdigit():
            faults.append(f"line {row.line}: study_id is no whole number")
        elif int(row.cells["study_id"]) in studies:
            faults.append(f"line {row.line}: the study stands in an earlier line too: keep one of them")
        else:
            studies[int(row.cells["study_id"])] = {
                level: {Finding.CENTRAL_CANAL_STENOSIS.value: STENOSIS[row.cells[column]]}
                for level, column in COLUMN_OF.items()
                if row.cells[column]
            }
    refuse(LABELS, faults)
    return studies


def _sagittal_series(root: Path) -> Mapping[int, list[str]]:
    """Study -> the folders' names of its sagittal T2 series."""
    series: dict[int, list[str]] = {}
    faults = []
    for row in read_table(root / SERIES, ("study_id", "series_id", "series_description")).rows:
        if not (row.cells["study_id"].isdigit() and row.cells["series_id"].isdigit()):
            faults.append(f"line {row.line}: study_id or series_id is no whole number")
        elif row.cells["series_description"] == SAGITTAL_T2:
            series.setdefault(int(row.cells["study_id"]), []).append(row.cells["series_id"])
    refuse(SERIES, faults)
    return series


def _points(root: Path) -> Mapping[int, _Points]:
    """Study -> the points of its canal labels; nothing where the table is not there."""
    if not (root / POINTS).exists():
        return {}
    columns = ("study_id", "series_id", "instance_number", "condition", "level", "x", "y")
    points: dict[int, _Points] = {}
    faults = []
    for row in read_table(root / POINTS, columns).rows:
        if row.cells["condition"] != CONDITION:
            continue
        try:
            study, point = _point(root, row)
        except ValueError:
            names = ", ".join(level.value for level in LEVELS)
            faults.append(f"line {row.line}: ids have to be whole numbers, x and y numbers, level one of {names}")
        else:
            points.setdefault(study, []).append(point)
    refuse(POINTS, faults)
    return points


def _point(root: Path, row: Row) -> tuple[int, tuple[DiscLevel, Path, float, float]]:
    study, series, image = (int(row.cells[column]) for column in ("study_id", "series_id", "instance_number"))
    level = DiscLevel(row.cells["level"])
    if level not in LEVELS:
        raise ValueError("level is not among the labelled ones")
    path = root / "train_images" / str(study) / str(series) / f"{image}.dcm"
    return study, (level, path, float(row.cells["x"]), float(row.cells["y"]))


def _places(points: _Points) -> Places:
    """Points in pixels -> LPS mm; a point whose image is missing or has no geometry tells nothing."""
    places = {}
    for level, path, x, y in points:
        image = study_images.read_object(path) if path.exists() else None
        for frame in read_frames([image] if image is not None else [])[:1]:
            corner, along_row, down = frame.position_lps_mm, frame.row_direction, frame.column_direction
            if corner is None or along_row is None or down is None or frame.spacing_mm is None:
                continue
            between_rows_mm, between_columns_mm = frame.spacing_mm
            point = corner + along_row * between_columns_mm * x + down * between_rows_mm * y
            if np.isfinite(point).all():
                places[level] = point
    return places


def _read_study(folders: list[Path]) -> SagittalVolume:
    instances = [_completed(item) for folder in folders for item in study_images.read_folder(folder)]
    if not instances:
        raise Unsuitable("There is no DICOM image in the series' folder.")
    return study_images.volume_of(instances)


def _completed(image: pydicom.Dataset) -> pydicom.Dataset:
    """What the release took out of the headers and its tables still say: MR, and that the series is T2-weighted.

    The tables do not tell T2 from STIR: where a header holds its times or a name, these decide.
    """
    if value(image, "Modality") is None:
        image.Modality = "MR"
    if value(image, "SeriesDescription") is None and value(image, "ProtocolName") is None:
        image.SeriesDescription = "Sagittal T2"
    return image
