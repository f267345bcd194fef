import numpy as np
import pytest

from inference.training.augmentation import STORED_PIXEL_MM, Label
from inference.training.labelled_slices import bottom_disc, draw_s1, resampled_labels, standardised_slice


def labels_with_discs() -> np.ndarray:
    """Two discs of 36 x 9 mm, 34 mm apart, on three slices; and a speck lower down."""
    labels = np.zeros((3, 300, 200), np.uint8)
    labels[:, 100:112, 80:128] = Label.DISC
    labels[:, 145:157, 80:128] = Label.DISC
    labels[1, 250:252, 20:22] = Label.DISC
    return labels


def test_the_bottom_disc_is_the_lowest_that_is_more_than_a_speck() -> None:
    rows = np.flatnonzero(bottom_disc(labels_with_discs())[1].any(axis=1))
    assert (rows.min(), rows.max()) == (145, 156)


def test_s1_is_drawn_a_bodys_depth_beneath_the_disc() -> None:
    labels = labels_with_discs()[1]
    draw_s1(labels, bottom_disc(labels_with_discs())[1])
    rows, columns = np.nonzero(labels == Label.SACRUM)
    assert rows.min() * STORED_PIXEL_MM == pytest.approx(157 * STORED_PIXEL_MM, abs=1.5)
    assert (rows.max() - rows.min()) * STORED_PIXEL_MM == pytest.approx(20, abs=2)
    assert columns.min() >= 80
    assert columns.max() <= 128
    assert (labels == Label.BESIDE_SACRUM).sum() > (labels == Label.SACRUM).sum()


def test_s1_never_paints_over_what_a_reader_marked() -> None:
    labels = labels_with_discs()[1]
    labels[157:200, 80:128] = Label.VERTEBRA
    before = labels.copy()
    draw_s1(labels, bottom_disc(labels_with_discs())[1])
    marked = before != Label.BACKGROUND
    assert (labels[marked] == before[marked]).all()


def test_a_narrow_section_says_nothing_of_s1() -> None:
    labels = np.zeros((300, 200), np.uint8)
    labels[145:157, 80:100] = Label.DISC  # 15 mm: too lateral
    disc = labels == Label.DISC
    draw_s1(labels, disc)
    assert not (labels == Label.SACRUM).any()


def test_resampled_labels_keep_their_areas() -> None:
    labels = labels_with_discs()
    small = resampled_labels(labels, (2 * STORED_PIXEL_MM, 2 * STORED_PIXEL_MM))
    assert small.shape == (3, 600, 400)
    assert (small == Label.DISC).sum() == pytest.approx(4 * (labels == Label.DISC).sum(), rel=0.02)
    assert set(np.unique(small)) == {Label.BACKGROUND, Label.DISC}


def test_a_slice_is_put_on_its_2_to_98_percentiles() -> None:
    pixels = np.linspace(100, 200, 10001, dtype=np.float32).reshape(73, 137)
    scaled = standardised_slice(pixels)
    assert np.percentile(scaled, 2) == pytest.approx(0, abs=1e-3)
    assert np.percentile(scaled, 98) == pytest.approx(1, abs=1e-3)
