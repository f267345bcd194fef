"""Each layout from files to figures, by the commands: cut by the shipped localiser, trained two epochs, evaluated."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner, Result
from PIL import Image

from inference.anatomy import DiscLevel
from inference.grades import Finding
from inference.training import gradings, study_images
from inference.training.gradings import LEVEL_OF_LABEL, NUMBER_OF_LEVEL, TARGETS, targets_of
from inference.weights import read_grader
from node.__main__ import main
from tests.unit.inference.training.conftest import GradedStudy

pytestmark = pytest.mark.slow
LUMBAR = DiscLevel.L1_L2, DiscLevel.L2_L3, DiscLevel.L3_L4, DiscLevel.L4_L5, DiscLevel.L5_S1
Studies = Sequence[GradedStudy]


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_dicom(folder: Path, study: GradedStudy) -> None:
    folder.mkdir(parents=True)
    for image in (*study.t2, *study.t1):
        image.save_as(folder / f"{image.SeriesNumber}_{image.InstanceNumber}.dcm", enforce_file_format=True)


def write_spider_gradings(root: Path, studies: Studies) -> None:
    header = ["Patient", "IVD label", "Modic", "UP endplate", "LOW endplate", "Spondylolisthesis", "Disc herniation"]
    rows = [
        [number, NUMBER_OF_LEVEL[disc.level], 2 * (number % 2), number % 2, 0, 0, 0, narrowed, 0, grade]
        for number, study in enumerate(studies, start=1)
        for disc in study.truth
        for narrowed, grade in [(int(disc.grades[Finding.DISC_NARROWING] > 1), disc.grades[Finding.PFIRRMANN])]
    ]
    write_csv(
        root / "radiological_gradings.csv", [[*header, "Disc narrowing", "Disc bulging", "Pfirrman grade"], *rows]
    )


def write_shared(root: Path, studies: Studies) -> None:
    write_spider_gradings(root, studies)
    (root / "midsagittal").mkdir()
    images, counts = [], []
    for number, study in enumerate(studies, start=1):
        middle = study.t2[len(study.t2) // 2].pixel_array.astype(float)
        grey = np.clip(middle / np.percentile(middle, 99.5) * 255, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(root / "midsagittal" / f"{number}_t2.png")
        images.append([f"{number}_t2", *map(float, study.t2[0].PixelSpacing)])
        counts.append([f"{number}_t2", len(study.truth), "F", "", ""])
    write_csv(root / "midsagittal.csv", [["image", "row_spacing_mm", "column_spacing_mm"], *images])
    columns = ["series", "num_discs", "sex", "ManufacturerModelName", "MagneticFieldStrength"]
    write_csv(root / "series.csv", [columns, *counts])


def write_release(root: Path, studies: Studies) -> None:
    write_spider_gradings(root, studies)
    (root / "images").mkdir()
    overview = [["new_file_name", "num_discs", "subset"]]
    for number, study in enumerate(studies, start=1):
        volume = study_images.volume_of(study.t2)
        image = sitk.GetImageFromArray(volume.voxels.astype(np.int16))
        slices, rows, columns = volume.spacing_mm
        image.SetSpacing((columns, rows, slices))
        axes = volume.voxel_to_patient[:3, [2, 1, 0]] / np.array([columns, rows, slices])
        image.SetDirection(axes.ravel().tolist())
        image.SetOrigin(volume.voxel_to_patient[:3, 3].tolist())
        sitk.WriteImage(image, str(root / "images" / f"{number}_t2.mha"))
        overview.append([f"{number}_t2", str(len(study.truth)), "training"])
    write_csv(root / "overview.csv", overview)


def write_rsna(root: Path, studies: Studies) -> None:
    columns = [f"spinal_canal_stenosis_{level.value.lower().replace('/', '_')}" for level in LUMBAR]
    steps = ("Normal/Mild", "Moderate", "Severe", "", "Normal/Mild")
    labels = [[100 + k, *(steps[(k + i) % 5] for i in range(5))] for k in range(len(studies))]
    write_csv(root / "train.csv", [["study_id", *columns], *labels])
    series = [[100 + k, number, name] for k in range(len(studies)) for number, name in _NAMES]
    write_csv(root / "train_series_descriptions.csv", [["study_id", "series_id", "series_description"], *series])
    for k, study in enumerate(studies):
        for number, images in ((1, study.t2), (2, study.t1)):
            folder = root / "train_images" / str(100 + k) / str(number)
            folder.mkdir(parents=True)
            for image in images:
                image.save_as(folder / f"{image.InstanceNumber}.dcm", enforce_file_format=True)


_NAMES = (1, "Sagittal T2/STIR"), (2, "Sagittal T1")


def write_manifest(root: Path, studies: Studies) -> None:
    rows: list[Sequence[object]] = [["patient", "study", "level", "pfirrmann", "central_canal_stenosis"]]
    for k, study in enumerate(studies):
        write_dicom(root / f"study{k}", study)
        rows += [
            [f"person {k}", f"study{k}", disc.level, disc.grades[Finding.PFIRRMANN], int(i > 3)]
            for i, disc in enumerate(study.truth)
        ]
    (root / "only_t1").mkdir()
    for image in studies[0].t1:
        image.save_as(root / "only_t1" / f"{image.InstanceNumber}.dcm", enforce_file_format=True)
    rows.append(["person 0", "only_t1", "L4/L5", 3, 0])
    write_csv(root / "manifest.csv", rows)


WRITERS: dict[str, Callable[[Path, Studies], None]] = {
    "shared": write_shared,
    "spider-release": write_release,
    "rsna": write_rsna,
    "manifest": write_manifest,
}


def run(*words: str | Path) -> Result:
    answer = CliRunner().invoke(main, [*map(str, words), "--threads", "1"])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text("epochs = 2\nbatch = 6\nfolds = 2\n")
    return path


@pytest.mark.parametrize(
    ("layout", "taught"),
    [
        (
            "shared",
            [target for target in TARGETS if target != "central_canal_stenosis"],
        ),
        ("spider-release", [target for target in TARGETS if target != "central_canal_stenosis"]),
        ("rsna", ["central_canal_stenosis"]),
        ("manifest", ["pfirrmann", "central_canal_stenosis"]),
    ],
)
def test_from_files_to_figures(
    tmp_path: Path, toy: Path, studies: tuple[GradedStudy, ...], layout: str, taught: list[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    WRITERS[layout](data, studies)
    where = ("--data", data, "--layout", layout)
    answer = run("train", "grading", *where, "--out", out, "--config", toy, "--device", "cpu")
    assert answer.exit_code == 0, answer.output
    discs = gradings.load(out / "discs.npz")
    assert list(targets_of(discs.labels)) == taught
    _require_labels_of_the_right_discs(discs, studies, layout)

    answer = run("evaluate", "grading", *where, "--run", out, "--out", tmp_path / "docs")
    assert answer.exit_code == 0, answer.output
    told = (tmp_path / "docs" / "grading.md").read_text()
    assert ("Pfirrmann" in told) == ("pfirrmann" in taught)
    assert ("Central canal stenosis" in told) == ("central_canal_stenosis" in taught)

    weights = out / "grader.safetensors"
    grader = read_grader(weights)
    assert (Finding.CENTRAL_CANAL_STENOSIS in grader.findings) == ("central_canal_stenosis" in taught)
    assert (Finding.PFIRRMANN in grader.findings) == ("pfirrmann" in taught)
    answer = run("evaluate", "grading", *where, "--run", tmp_path / "again", "--weights", weights)
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "again" / "evaluation.md").read_text().startswith("# Evaluation")


def _require_labels_of_the_right_discs(discs: gradings.GradedDiscs, studies: Studies, layout: str) -> None:
    """Every disc of the phantoms that is labelled and seen whole was cut, under its own level."""
    wanted = len(studies) * 4 if layout == "rsna" else sum(len(study.truth) for study in studies)
    assert len(discs) == wanted
    if layout == "rsna":
        return
    grade = discs.labels[:, TARGETS.index("pfirrmann")]
    for patient, number, label in zip(discs.patient, discs.label_number, grade, strict=True):
        truth = {disc.level: disc.grades[Finding.PFIRRMANN] for disc in studies[int(patient) - 1].truth}
        assert truth[LEVEL_OF_LABEL[int(number)]] == label


def test_the_shipped_grader_on_an_archive_and_what_was_left_out_of_it(
    tmp_path: Path, studies: tuple[GradedStudy, ...]
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    write_manifest(data, studies)
    answer = run("evaluate", "grading", "--data", data, "--layout", "manifest", "--run", out, "--weights", "shipped")
    assert answer.exit_code == 0, answer.output
    assert "Labelled, and not graded by these weights: Central canal stenosis." in answer.output
    kappa = float(answer.output.split("quadratic weighted kappa ")[1].split()[0])
    assert kappa > 0.6  # the phantom's discs are drawn after the grades
    left_out = (out / "left_out.csv").read_text()
    assert f'line {2 + sum(len(study.truth) for study in studies)},,"No sagittal T2-weighted series' in left_out
    assert "person" not in left_out


def test_a_run_does_not_go_on_with_changed_data(tmp_path: Path, toy: Path, studies: tuple[GradedStudy, ...]) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    write_manifest(data, studies[:2])
    words = ("train", "grading", "--data", data, "--layout", "manifest", "--out", out, "--config", toy)
    assert run(*words, "--device", "cpu").exit_code == 0
    table = (data / "manifest.csv").read_text()
    (data / "manifest.csv").write_text(table.replace("L4/L5,3,0", "L4/L5,4,0"))
    answer = run(*words, "--device", "cpu")
    assert answer.exit_code == 1
    assert "the data set, the localiser or the version was changed since" in answer.output
    assert "Traceback" not in answer.output
