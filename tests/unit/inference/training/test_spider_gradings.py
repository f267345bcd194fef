"""SPIDER's gradings in both layouts: which series are taken, with which labels, and what is kept for testing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from inference.anatomy import DiscLevel
from inference.training import spider_gradings
from inference.training.graded_series import DataSetError, LeftOut

GRADINGS = (
    "Patient,IVD label,Modic,UP endplate,LOW endplate,Spondylolisthesis,Disc herniation,Disc narrowing,"
    "Disc bulging,Pfirrman grade\n"
)


def write_release(root: Path, rows: str = "7,1,2,1,0,0,0,1,1,4\n7,2,0,0,0,0,0,0,0,2\n8,1,0,0,0,0,0,0,0,1\n") -> None:
    (root / "images").mkdir(exist_ok=True)
    voxels = np.zeros((40, 12, 30), np.int16) - 1000  # the release stores -1000 where nothing was imaged
    voxels[5:35, 2:10] = 900
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((4.0, 0.9, 0.8))
    for name in ("7_t1", "7_t2", "7_t2_SPACE", "8_t2", "9_t2", "10_t2"):
        sitk.WriteImage(image, str(root / "images" / f"{name}.mha"))
    (root / "radiological_gradings.csv").write_text(GRADINGS + rows)
    (root / "overview.csv").write_text(
        "new_file_name,num_vertebrae,num_discs,sex,subset\n7_t1,7,6,F,training\n7_t2,7,6,F,training\n"
        "7_t2_SPACE,7,8,F,training\n8_t2,7,7,M,validation\n9_t2,7,,M,training\n"
    )


def test_the_training_subsets_t2_series_are_taken_and_all_others_are_told(tmp_path: Path) -> None:
    write_release(tmp_path)
    data = spider_gradings.release(tmp_path)
    assert [(each.name, each.patient, each.disc_count) for each in data.series] == [
        ("7_t2", 7, 6),
        ("7_t2_SPACE", 7, 8),
    ]
    assert data.apart == (7,)
    assert data.left_out == (
        LeftOut(series="10_t2", level="", reason="overview.csv does not name it"),
        LeftOut(series="8_t2", level="", reason="of the release's validation subset, which is kept for testing"),
        LeftOut(series="9_t2", level="", reason="radiological_gradings.csv has no row of the patient"),
    )


def test_labels_are_those_of_the_disc_and_canal_stenosis_has_none(tmp_path: Path) -> None:
    write_release(tmp_path)
    labels = spider_gradings.release(tmp_path).series[0].labels
    assert labels[DiscLevel.L5_S1] == {
        "pfirrmann": 4,
        "disc_narrowing": 1,
        "upper_endplate_defect": 0,
        "lower_endplate_defect": 1,
        "spondylolisthesis": 0,
        "disc_herniation": 0,
        "disc_bulging": 1,
        "marrow_change": 1,
    }
    assert labels[DiscLevel.L4_L5]["pfirrmann"] == 2


def test_grey_values_start_at_zero_as_inference_has_them(tmp_path: Path) -> None:
    write_release(tmp_path)
    volume = spider_gradings.release(tmp_path).series[0].read()
    assert volume.voxels.min() == 0
    assert volume.voxels.max() == 1900


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("7,1,2,1,0,0,0,1,1,six\n", "line 2: .*whole numbers"),
        ("7,1,2,1,0,0,0,1,1,6\n", "line 2: Pfirrman grade is 6"),
        ("7,1,4,1,0,0,0,1,1,5\n", "line 2: Modic is 4"),
        ("7,1,2,1,0,0,0,2,1,5\n", "line 2: Disc narrowing is 2"),
        (",1,2,1,0,0,0,1,1,5\n", "line 2: Patient or IVD label is empty"),
    ],
)
def test_values_that_spider_does_not_have_are_refused(tmp_path: Path, rows: str, said: str) -> None:
    write_release(tmp_path, rows)
    with pytest.raises(DataSetError, match=said):
        spider_gradings.release(tmp_path)


def test_discs_that_are_no_disc_are_passed_over(tmp_path: Path) -> None:
    write_release(tmp_path, "7,0,0,0,0,0,0,0,0,1\n7,1,,,,,,,,3\n")
    assert spider_gradings.release(tmp_path).series[0].labels == {DiscLevel.L5_S1: {"pfirrmann": 3}}


def test_folders_of_another_layout_are_refused(tmp_path: Path) -> None:
    for read in (spider_gradings.shared, spider_gradings.release):
        with pytest.raises(DataSetError, match="another --layout"):
            read(tmp_path)
    write_release(tmp_path)
    with pytest.raises(DataSetError, match="another --layout"):
        spider_gradings.shared(tmp_path)
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    with pytest.raises(DataSetError, match="another --layout"):
        spider_gradings.release(tmp_path)
