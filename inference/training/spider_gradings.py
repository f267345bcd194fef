"""SPIDER's gradings for training, as its files lie in the folder of mid-sagittal images or in the original release.

Source: van der Graaf et al., Scientific Data 11:264 (2024), Zenodo 10159290, CC BY 4.0. The release holds
``images/<patient>_<weighting>.mha``, ``radiological_gradings.csv`` and ``overview.csv`` (one row per series with
``num_discs`` and ``subset``). Its validation subset is left out: it is there to test what was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from inference.anatomy import DiscLevel
from inference.brightness import from_zero
from inference.grades import Finding
from inference.training import masked_series, spider
from inference.training.graded_series import DataSetError, GradedData, GradedSeries, Labels, LeftOut
from inference.training.gradings import LEVEL_OF_LABEL, MARROW_TARGET
from inference.training.label_table import read_table
from inference.volume import SagittalVolume

COLUMN_OF: Mapping[Finding, str] = {
    Finding.PFIRRMANN: "Pfirrman grade",
    Finding.DISC_NARROWING: "Disc narrowing",
    Finding.UPPER_ENDPLATE_DEFECT: "LOW endplate",
    Finding.LOWER_ENDPLATE_DEFECT: "UP endplate",
    Finding.SPONDYLOLISTHESIS: "Spondylolisthesis",
    Finding.DISC_HERNIATION: "Disc herniation",
    Finding.DISC_BULGING: "Disc bulging",
}
"""SPIDER names the end plate of the *vertebra*: its "UP endplate" is the upper end plate of the vertebra below the
disc, so the disc's lower one, and the other way round. Seen in the images: where only "UP" is marked the Schmorl node
lies below the disc. ``gradings.endplate_sides`` measures it."""
MODIC_COLUMN = "Modic"
_VALUES: Mapping[str, range] = {
    **dict.fromkeys(COLUMN_OF.values(), range(2)),
    COLUMN_OF[Finding.PFIRRMANN]: range(1, 6),
    MODIC_COLUMN: range(4),
}
TABLE, OVERVIEW = "radiological_gradings.csv", "overview.csv"
T2_WEIGHTINGS = frozenset({"t2", "t2_SPACE"})


def shared(root: Path) -> GradedData:
    """The T2 mid-sagittal image and the T2-SPACE stack of each patient, where there are any.

    Raises:
        DataSetError: the folder has another layout.
    """
    labels, counts = _labels(root), _counts(root / "series.csv", "series")
    if not (root / "midsagittal.csv").exists():
        raise DataSetError(f"midsagittal.csv is missing from {root.name}/: is it another --layout?")
    tables = tuple(root / name for name in ("midsagittal.csv", "series.csv", TABLE))
    t1 = {image.patient: image for image in spider.midsagittal_images(root) if image.weighting == "t1"}
    series, files = [], list(tables)
    for name, patient, path, read in _volumes(root):
        is_t2 = name == f"{patient}_t2"
        series.append(
            GradedSeries(
                name=name,
                patient=patient,
                read=read,
                labels=labels.get(patient, {}),
                disc_count=counts.get(name),
                t1=partial(spider.read_midsagittal, root, t1[patient]) if is_t2 and patient in t1 else None,
            )
        )
        files.append(path)
    return GradedData(
        root=root,
        series=tuple(series),
        patients={patient: str(patient) for patient in spider.patients(root)},
        files=tuple(files),
        apart=spider.stack_patients(root),
        unlabelled=tuple(
            GradedSeries(
                name=image.name, patient=patient, read=partial(spider.read_midsagittal, root, image), labels={}
            )
            for patient, image in t1.items()
        ),
    )


def release(root: Path) -> GradedData:
    """Every T2 and T2-SPACE series of the original release's training subset, whole.

    Raises:
        DataSetError: the folder has another layout, or a table cannot be read.
    """
    labels = _labels(root)
    overview = read_table(root / OVERVIEW, ("new_file_name", "num_discs", "subset"))
    subset = {row.cells["new_file_name"]: row.cells["subset"] for row in overview.rows}
    counts = _counts(root / OVERVIEW, "new_file_name")
    series, left_out, files = [], [], [root / OVERVIEW, root / TABLE]
    for path in sorted((root / "images").glob("*.mha")):
        name = path.name.removesuffix(".mha")
        number, _, weighting = name.partition("_")
        if weighting not in T2_WEIGHTINGS or not number.isdigit():
            continue
        reason = _why_not(subset.get(name), int(number) in labels)
        if reason is not None:
            left_out.append(LeftOut(series=name, level="", reason=reason))
            continue
        read = partial(_read_mha, path)
        series.append(
            GradedSeries(
                name=name, patient=int(number), read=read, labels=labels[int(number)], disc_count=counts.get(name)
            )
        )
        files.append(path)
    if not series:
        raise DataSetError(f"{root.name}/images/ holds no <patient>_t2.mha with gradings: is it another --layout?")
    patients = sorted({each.patient for each in series})
    return GradedData(
        root=root,
        series=tuple(series),
        patients={patient: str(patient) for patient in patients},
        files=tuple(files),
        left_out=tuple(left_out),
        apart=tuple(sorted({each.patient for each in series if each.name.endswith("_SPACE")})),
    )


def labels_of(said: Mapping[str, int]) -> Labels:
    """One disc's row of the gradings table -> labels by target."""
    labels = {finding.value: said[column] for finding, column in COLUMN_OF.items() if column in said}
    if MODIC_COLUMN in said:
        labels[MARROW_TARGET] = min(said[MODIC_COLUMN], 1)
    return labels


def _labels(root: Path) -> Mapping[int, Mapping[DiscLevel, Labels]]:
    """Patient -> level -> labels. A label of 0 or beyond the ninth disc names no disc that is graded."""
    table = read_table(root / TABLE, ("Patient", "IVD label", *COLUMN_OF.values(), MODIC_COLUMN))
    labels: dict[int, dict[DiscLevel, Labels]] = {}
    for row in table.rows:
        try:
            said = {column: int(cell) for column, cell in row.cells.items() if cell}
        except ValueError as wrong:
            raise DataSetError(f"{TABLE}, line {row.line}: {wrong}: whole numbers are expected") from wrong
        if "Patient" not in said or "IVD label" not in said:
            raise DataSetError(f"{TABLE}, line {row.line}: Patient or IVD label is empty")
        strange = [column for column, values in _VALUES.items() if said.get(column, values[0]) not in values]
        if strange:
            raise DataSetError(f"{TABLE}, line {row.line}: {strange[0]} is {said[strange[0]]}: not a value of SPIDER's")
        if said["IVD label"] in LEVEL_OF_LABEL:
            labels.setdefault(said["Patient"], {})[LEVEL_OF_LABEL[said["IVD label"]]] = labels_of(said)
    return labels


def _counts(path: Path, name_column: str) -> Mapping[str, int]:
    """Series -> discs in SPIDER's mask of it."""
    rows = read_table(path, (name_column, "num_discs")).rows
    return {row.cells[name_column]: int(row.cells["num_discs"]) for row in rows if row.cells["num_discs"].isdigit()}


def _why_not(subset: str | None, has_labels: bool) -> str | None:
    if subset is None:
        return f"{OVERVIEW} does not name it"
    if subset != "training":
        return f"of the release's {subset} subset, which is kept for testing"
    return None if has_labels else f"{TABLE} has no row of the patient"


def _volumes(root: Path) -> Iterator[tuple[str, int, Path, Callable[[], SagittalVolume]]]:
    for image in spider.midsagittal_images(root):
        if image.weighting == "t2":
            path = root / "midsagittal" / f"{image.name}.png"
            yield image.name, image.patient, path, partial(spider.read_midsagittal, root, image)
    for patient in spider.stack_patients(root):
        path = root / "stacks" / f"{patient}_t2_SPACE.nii.gz"
        yield f"{patient}_t2_SPACE", patient, path, partial(spider.read_stack, root, patient)


def _read_mha(path: Path) -> SagittalVolume:
    return from_zero(masked_series.read_image(path))[0]
