"""Tiny .mha and .nii.gz files, written in several orientations and read back: the same slices at the same places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from inference.training import labelled_slices, masked_series
from inference.training.augmentation import Label
from inference.training.masked_series import LabelScheme, MaskedSeries, labelled, nifti_pairs, read, spider_release
from inference.volume import Unsuitable

SLICES, ROWS, COLUMNS = 6, 160, 120
STEP_MM, ROW_MM, COLUMN_MM = 1.0, 0.9, 0.7
ORIGIN_LPS_MM = (11.0, -22.0, 33.0)


def drawn_mask() -> np.ndarray:
    """(slices, rows, columns) of SPIDER's release values: two vertebrae, the discs below them, the canal behind."""
    mask = np.zeros((SLICES, ROWS, COLUMNS), np.int16)
    for row, value in ((20, 2), (70, 1)):
        mask[:, row : row + 32, 30:80] = value
    for row, value in ((54, 202), (104, 201)):
        mask[:, row : row + 12, 30:80] = value
    mask[:, 10:130, 86:100] = 100
    mask[:, :8, 30:80] = 103
    return mask


def drawn_image() -> np.ndarray:
    """Every voxel another value, so that nothing can be exchanged unseen."""
    rng = np.random.default_rng(0)
    return rng.integers(1, 2000, (SLICES, ROWS, COLUMNS)).astype(np.int16)


def as_itk(voxels: np.ndarray) -> sitk.Image:
    """(slice to the left, row to the feet, column to the back) as an ITK image whose first axis is the slice's."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(1, 2, 0)))  # z = row, y = column, x = slice
    image.SetSpacing((STEP_MM, COLUMN_MM, ROW_MM))
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1))
    image.SetOrigin(ORIGIN_LPS_MM)
    return image


def write_release(root: Path, orientation: str = "LPI", name: str = "7_t2") -> MaskedSeries:
    for folder, voxels in (("images", drawn_image()), ("masks", drawn_mask())):
        (root / folder).mkdir(exist_ok=True)
        sitk.WriteImage(sitk.DICOMOrient(as_itk(voxels), orientation), str(root / folder / f"{name}.mha"))
    (series,) = spider_release(root)
    return series


@pytest.mark.parametrize("orientation", ["LPI", "LPS", "RAS", "PIR", "ASL", "SPL"])
def test_in_whatever_orientation_a_file_lies_the_same_voxels_come_upright(tmp_path: Path, orientation: str) -> None:
    volume, mask = read(write_release(tmp_path, orientation))
    np.testing.assert_array_equal(volume.voxels, drawn_image())
    np.testing.assert_array_equal(mask, drawn_mask())
    assert volume.spacing_mm == pytest.approx((STEP_MM, ROW_MM, COLUMN_MM))
    np.testing.assert_allclose(volume.to_patient(np.zeros(3)), ORIGIN_LPS_MM, atol=1e-6)
    step = volume.to_patient(np.array([1.0, 2.0, 3.0])) - volume.to_patient(np.zeros(3))
    np.testing.assert_allclose(step, [STEP_MM, 3 * COLUMN_MM, -2 * ROW_MM], atol=1e-6)


def test_an_oblique_series_keeps_its_place(tmp_path: Path) -> None:
    series = write_release(tmp_path)
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    for path in (series.image, series.mask):
        image = sitk.ReadImage(str(path))
        image.SetDirection((turn @ np.array(image.GetDirection()).reshape(3, 3)).ravel())
        sitk.WriteImage(image, str(path))
    volume, _ = read(series)
    itk = sitk.ReadImage(str(series.image))
    np.testing.assert_allclose(
        volume.to_patient(np.array([2.0, 30.0, 40.0])), itk.TransformIndexToPhysicalPoint((2, 40, 30)), atol=1e-4
    )


def test_the_release_gives_what_the_stacks_of_the_same_patient_give(tmp_path: Path) -> None:
    """The layout with semantic masks (29, 76, 150) and the release with instances: the same training slices."""
    series = write_release(tmp_path)
    semantic = np.zeros(drawn_mask().shape, np.uint8)
    labels = masked_series.labels_of(drawn_mask().astype(np.int32), series.scheme)
    for label, value in ((Label.DISC, 29), (Label.VERTEBRA, 76), (Label.CANAL, 150)):
        semantic[labels == label] = value
    (tmp_path / "stacks").mkdir()
    sitk.WriteImage(as_itk(drawn_image()), str(tmp_path / "stacks" / "7_t2_SPACE.nii.gz"))
    sitk.WriteImage(as_itk(semantic), str(tmp_path / "stacks" / "7_t2_SPACE_mask.nii.gz"))

    (ours,) = labelled(series)
    stack = labelled_slices.stack_slices(tmp_path, 7)

    np.testing.assert_array_equal(ours.labels, stack.labels)
    np.testing.assert_allclose(ours.pixels, stack.pixels, atol=1e-6)
    assert ours.sacrum_known is stack.sacrum_known is True
    assert {Label.SACRUM, Label.DISC, Label.VERTEBRA, Label.CANAL} <= set(np.unique(ours.labels).tolist())


def test_nifti_pairs_give_the_same_as_the_release(tmp_path: Path) -> None:
    (from_release,) = labelled(write_release(tmp_path))
    folder = tmp_path / "pairs"
    folder.mkdir()
    sitk.WriteImage(sitk.DICOMOrient(as_itk(drawn_image()), "RAS"), str(folder / "a_1.nii.gz"))
    sitk.WriteImage(sitk.DICOMOrient(as_itk(drawn_mask()), "RAS"), str(folder / "a_1_mask.nii.gz"))
    (series,) = nifti_pairs(folder)
    (from_nifti,) = labelled(series)
    assert (series.name, series.patient) == ("a_1", "a")
    np.testing.assert_array_equal(from_nifti.labels, from_release.labels)
    np.testing.assert_allclose(from_nifti.pixels, from_release.pixels, atol=1e-6)


def test_a_folder_may_say_what_its_labels_mean(tmp_path: Path) -> None:
    for folder, voxels in (("images", drawn_image()), ("masks", (drawn_mask() > 200).astype(np.int16) * 9)):
        (tmp_path / folder).mkdir()
        sitk.WriteImage(as_itk(voxels), str(tmp_path / folder / "b.nii"))
    (tmp_path / "labels.toml").write_text("disc = [9]\nvertebra = []\ncanal = []\n")
    (series,) = nifti_pairs(tmp_path)
    (slices,) = labelled(series)
    assert set(np.unique(slices.labels).tolist()) == {Label.BACKGROUND, Label.DISC}
    assert not slices.sacrum_known


def test_where_the_mask_has_its_own_sacrum_none_is_drawn() -> None:
    mask = np.where(drawn_mask() == 1, 50, 0).astype(np.int32)
    scheme = LabelScheme(disc=frozenset(), vertebra=frozenset(), canal=frozenset(), sacrum=frozenset({50}))
    assert set(np.unique(masked_series.labels_of(mask, scheme)).tolist()) == {Label.BACKGROUND, Label.SACRUM}


def test_thick_slices_come_one_by_one_and_those_without_a_disc_not_at_all(tmp_path: Path) -> None:
    series = write_release(tmp_path)
    for path in (series.image, series.mask):
        image = sitk.ReadImage(str(path))
        image.SetSpacing((4.0, COLUMN_MM, ROW_MM))
        if path == series.mask:
            voxels = sitk.GetArrayFromImage(image)
            voxels[..., 0] = 0
            cleared = sitk.GetImageFromArray(voxels)
            cleared.CopyInformation(image)
            image = cleared
        sitk.WriteImage(image, str(path))
    slices = labelled(series)
    assert [len(each.pixels) for each in slices] == [1] * (SLICES - 1)


def test_without_the_lumbosacral_disc_nothing_is_taught_about_s1(tmp_path: Path) -> None:
    series = write_release(tmp_path)
    mask = sitk.ReadImage(str(series.mask))
    sitk.WriteImage(sitk.Cast(mask * sitk.Cast(mask != 201, mask.GetPixelID()), mask.GetPixelID()), str(series.mask))
    (slices,) = labelled(series)
    assert not slices.sacrum_known
    assert Label.SACRUM not in slices.labels


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    series = write_release(tmp_path)
    moved = sitk.ReadImage(str(series.mask))
    moved.SetOrigin((11.0, -22.0, 38.0))
    sitk.WriteImage(moved, str(series.mask))
    with pytest.raises(Unsuitable, match="does not lie on its image"):
        read(series)
    sitk.WriteImage(moved[:, :, 1:], str(series.mask))
    with pytest.raises(Unsuitable, match="different sizes"):
        read(series)


def test_an_axial_series_is_refused(tmp_path: Path) -> None:
    series = write_release(tmp_path)
    for path in (series.image, series.mask):
        image = sitk.ReadImage(str(path))
        image.SetSpacing((0.7, 0.7, 4.0))
        sitk.WriteImage(image, str(path))
    with pytest.raises(Unsuitable, match="not sagittal"):
        read(series)


def test_folders_of_another_layout_are_refused(tmp_path: Path) -> None:
    for find in (spider_release, nifti_pairs):
        with pytest.raises(Unsuitable, match="no image with a mask"):
            find(tmp_path)
    write_release(tmp_path)
    (tmp_path / "labels.toml").write_text("discs = [9]\n")
    with pytest.raises(Unsuitable, match=r"labels\.toml"):
        nifti_pairs(tmp_path)
