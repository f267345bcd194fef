"""The RSNA 2024 layout: its tables as the competition names them, its points, and headers without times."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from inference.anatomy import DiscLevel
from inference.training import rsna
from inference.training.graded_series import DataSetError, LeftOut
from tests.unit.inference.training.conftest import GradedStudy

COLUMNS = tuple(f"spinal_canal_stenosis_{level}" for level in ("l1_l2", "l2_l3", "l3_l4", "l4_l5", "l5_s1"))
STUDY, SERIES = 4003253, 702807833


def write_tables(
    root: Path, labels: Mapping[int, tuple[str, ...]], series: str = "", points: str = "", description: str = ""
) -> None:
    described = description or "Sagittal T2/STIR"
    with (root / "train.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["study_id", *COLUMNS, "left_neural_foraminal_narrowing_l1_l2"])
        table.writerows([study, *cells, "Normal/Mild"] for study, cells in labels.items())
    rows = series or "".join(f"{study},{SERIES},{described}\n{study},1,Axial T2\n" for study in labels)
    (root / "train_series_descriptions.csv").write_text(f"study_id,series_id,series_description\n{rows}")
    if points:
        (root / "train_label_coordinates.csv").write_text(
            f"study_id,series_id,instance_number,condition,level,x,y\n{points}"
        )


def write_images(root: Path, study: GradedStudy, number: int = STUDY) -> None:
    folder = root / "train_images" / str(number) / str(SERIES)
    folder.mkdir(parents=True)
    for image in study.t2:
        image.save_as(folder / f"{image.InstanceNumber}.dcm", enforce_file_format=True)


MILD = ("Normal/Mild",) * 5


def test_moderate_and_severe_are_stenosis_and_an_empty_cell_is_no_label(tmp_path: Path) -> None:
    write_tables(tmp_path, {STUDY: ("Normal/Mild", "Moderate", "Severe", "", "Normal/Mild")})
    (tmp_path / "train_images" / str(STUDY) / str(SERIES)).mkdir(parents=True)
    data = rsna.read(tmp_path)
    (series,) = data.series
    assert (series.name, series.patient) == (str(STUDY), STUDY)
    assert {level.value: labels["central_canal_stenosis"] for level, labels in series.labels.items()} == {
        "L1/L2": 0,
        "L2/L3": 1,
        "L3/L4": 1,
        "L5/S1": 0,
    }


def test_studies_without_images_or_labels_are_told(tmp_path: Path) -> None:
    write_tables(tmp_path, {1: MILD, 2: MILD, 3: ("",) * 5})
    for study in (1, 3):
        (tmp_path / "train_images" / str(study) / str(SERIES)).mkdir(parents=True)
    data = rsna.read(tmp_path)
    assert list(data.patients) == [1]
    assert data.left_out == (
        LeftOut(series="2", level="", reason="no folder of a series described as Sagittal T2/STIR"),
        LeftOut(series="3", level="", reason="no canal stenosis label"),
    )


@pytest.mark.parametrize(
    ("labels", "points", "said"),
    [
        ({1: ("Mild", *MILD[1:])}, "", 'line 2: spinal_canal_stenosis_l1_l2 is "Mild": give Normal/Mild, Moderate'),
        ({1: MILD}, "1,2,x,Spinal Canal Stenosis,L4/L5,1,1\n", "line 2: ids have to be whole numbers"),
        ({1: MILD}, "1,2,3,Spinal Canal Stenosis,L4-L5,1,1\n", "level one of L1/L2"),
        ({1: MILD}, "1,2,3,Spinal Canal Stenosis,T12/L1,1,1\n", "level one of L1/L2"),
        ({1: MILD}, "1,2,3,Spinal Canal Stenosis,L4/L5,left,1\n", "x and y numbers"),
    ],
)
def test_what_the_competition_does_not_name_is_refused_by_its_line(
    tmp_path: Path, labels: Mapping[int, tuple[str, ...]], points: str, said: str
) -> None:
    write_tables(tmp_path, labels, points=points)
    with pytest.raises(DataSetError) as caught:
        rsna.read(tmp_path)
    assert said in str(caught.value)


def test_a_study_named_twice_is_refused(tmp_path: Path) -> None:
    write_tables(tmp_path, {1: MILD})
    with (tmp_path / "train.csv").open("a") as stream:
        stream.write(f"1,{','.join(MILD)},Severe\n")
    with pytest.raises(DataSetError, match="line 3: the study stands in an earlier line too"):
        rsna.read(tmp_path)


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="another --layout"):
        rsna.read(tmp_path)
    write_tables(tmp_path, {1: MILD})
    with pytest.raises(DataSetError, match="another --layout"):
        rsna.read(tmp_path)


def test_a_point_in_pixels_lies_where_the_image_lies(tmp_path: Path, studies: tuple[GradedStudy, ...]) -> None:
    """The phantom's L4/L5 centre, written as column and row of the image that it lies on, is found again."""
    write_images(tmp_path, studies[0])
    disc = next(each for each in studies[0].truth if each.level is DiscLevel.L4_L5)
    image = min(
        studies[0].t2,
        key=lambda each: abs(np.dot(disc.center_lps_mm - np.array(each.ImagePositionPatient, float), _normal(each))),
    )
    from_corner = disc.center_lps_mm - np.array(image.ImagePositionPatient, float)
    along, down = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    x, y = from_corner @ along / float(image.PixelSpacing[1]), from_corner @ down / float(image.PixelSpacing[0])
    points = (
        f"{STUDY},{SERIES},{image.InstanceNumber},Spinal Canal Stenosis,L4/L5,{x},{y}\n"
        f"{STUDY},{SERIES},1,Left Neural Foraminal Narrowing,L4/L5,9,9\n"
        f"{STUDY},{SERIES},999,Spinal Canal Stenosis,L5/S1,9,9\n"
    )
    write_tables(tmp_path, {STUDY: MILD}, points=points)
    (series,) = rsna.read(tmp_path).series
    places = series.places()
    assert list(places) == [DiscLevel.L4_L5]  # the other condition is not ours; the other image is not there
    out_of_plane = abs((places[DiscLevel.L4_L5] - disc.center_lps_mm) @ _normal(image))
    np.testing.assert_allclose(np.linalg.norm(places[DiscLevel.L4_L5] - disc.center_lps_mm), out_of_plane, atol=1e-3)
    assert out_of_plane < 2.3  # slices are 4.4 mm apart


def _normal(image: object) -> np.ndarray:
    along, down = np.array(image.ImageOrientationPatient, float).reshape(2, 3)  # type: ignore[attr-defined]
    return np.cross(along, down)


def test_headers_without_times_and_names_are_believed_to_be_what_the_table_says(
    tmp_path: Path, studies: tuple[GradedStudy, ...]
) -> None:
    write_tables(tmp_path, {STUDY: MILD})
    folder = tmp_path / "train_images" / str(STUDY) / str(SERIES)
    folder.mkdir(parents=True)
    for image in studies[0].t2:
        bare = deepcopy(image)
        for keyword in ("Modality", "EchoTime", "RepetitionTime", "SeriesDescription", "ProtocolName"):
            if keyword in bare:
                delattr(bare, keyword)
        bare.save_as(folder / f"{image.InstanceNumber}.dcm", enforce_file_format=True)
    (series,) = rsna.read(tmp_path).series
    assert series.read().voxels.shape == (15, 384, 384)
