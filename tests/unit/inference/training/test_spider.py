import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from inference.training import spider


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of two images and one stack, with the tables that go with them."""
    for folder in ("midsagittal", "stacks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "midsagittal.csv").write_text(
        "image,rows,columns,row_spacing_mm,column_spacing_mm,basis\n7_t1,40,30,0.5,0.7,restored\n7_t2,40,30,0.5,0.7,restored\n"
    )
    (tmp_path / "series.csv").write_text("series,num_vertebrae,num_discs\n7_t1,7,6\n7_t2,7,\n")
    (tmp_path / "disc_boxes.json").write_text(
        json.dumps({"7_t2": {"size": [30, 40], "boxes_bottom_up": [[1, 2, 3, 4], [5, 6, 7, 8]], "match": True}})
    )
    (tmp_path / "radiological_gradings.csv").write_text(
        "Patient,IVD label,Modic,Pfirrman grade\n7,1,0,3\n7,2,,5\n7,0,1,1\n"
    )
    for name in ("7_t1", "7_t2"):
        pixels = np.zeros((40, 30), np.uint8)
        pixels[4, 9] = 200
        Image.fromarray(pixels).save(tmp_path / "midsagittal" / f"{name}.png")
    stack = np.zeros((20, 10, 3), np.uint8)  # SimpleITK's array: (row, column, slice) for sagittal files
    stack[6, 2, 1] = 29
    for suffix in ("", "_mask"):
        image = sitk.GetImageFromArray(stack)
        image.SetSpacing((1.0, 0.5, 0.4))
        image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, -1))
        sitk.WriteImage(image, str(tmp_path / "stacks" / f"9_t2_SPACE{suffix}.nii.gz"))
    return tmp_path


def test_an_image_carries_its_restored_spacing_and_its_count_of_discs(root: Path) -> None:
    first, second = spider.midsagittal_images(root)
    assert (first.patient, first.weighting, first.row_spacing_mm, first.column_spacing_mm) == (7, "t1", 0.5, 0.7)
    assert (first.disc_count, second.disc_count) == (6, None)


def test_an_image_is_an_upright_volume_of_one_slice(root: Path) -> None:
    volume = spider.read_midsagittal(root, spider.midsagittal_images(root)[1])
    assert volume.voxels.shape == (1, 40, 30)
    assert volume.voxels[0, 4, 9] == 200
    np.testing.assert_allclose(volume.spacing_mm[1:], (0.5, 0.7))
    np.testing.assert_allclose(volume.to_patient(np.array([0.0, 4, 9])), [0, 9 * 0.7, -4 * 0.5])


def test_a_stack_and_its_mask_lie_on_each_other(root: Path) -> None:
    assert spider.stack_patients(root) == (9,)
    volume, mask = spider.read_stack(root, 9), spider.read_stack_mask(root, 9)
    assert volume.voxels.shape == mask.shape == (3, 20, 10)
    assert mask[1, 6, 2] == spider.MaskValue.DISC
    assert volume.voxels[1, 6, 2] == 29
    np.testing.assert_allclose(volume.spacing_mm, (1.0, 0.4, 0.5))
    np.testing.assert_allclose(volume.to_patient(np.array([1.0, 6, 2])), [-1.0, 2 * 0.5, -6 * 0.4], atol=1e-6)


def test_boxes_and_gradings_are_read_without_the_invalid_ones(root: Path) -> None:
    boxes = spider.disc_boxes(root)["7_t2"]
    assert boxes.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert boxes.count_matches
    assert spider.gradings(root) == {(7, 1): {"Modic": 0, "Pfirrman grade": 3}, (7, 2): {"Pfirrman grade": 5}}


def test_folds_part_the_patients_and_spread_the_rare_ones() -> None:
    people = range(1, 36)
    dealt = spider.folds(people, 7, seed=1, apart=[1, 2, 3, 4, 5, 6, 7])
    assert sorted(patient for fold in dealt for patient in fold) == list(people)
    assert {len(fold) for fold in dealt} == {5}
    assert all(len(fold & set(range(1, 8))) == 1 for fold in dealt)
    assert dealt == spider.folds(people, 7, seed=1, apart=[1, 2, 3, 4, 5, 6, 7])
    assert dealt != spider.folds(people, 7, seed=2, apart=[1, 2, 3, 4, 5, 6, 7])
