"""Faults put into a drawn image are seen; without them nothing is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from inference import phantom, selection, stacking
from inference.image_quality import FOLDED, fold_over, ghosts, noise, remarks_on
from inference.volume import FloatArray, SagittalVolume
from tests.image_faults import folded, moving, noisy
from tests.spine_factory import drawn_spine


def tissue(seed: int = 0) -> FloatArray:
    """Random smooth texture with the median at 1, from edge to edge."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 8)
    fine = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 1.2)
    return np.clip(1 + 2.0 * coarse / coarse.std() * 0.1 + 0.1 * fine / fine.std(), 0.05, None)


def volume(image: FloatArray, slices: int = 9) -> SagittalVolume:
    drawn = drawn_spine(slices=slices).volume
    voxels = np.repeat(1000 * image[None].astype(np.float32), slices, axis=0)
    return replace(drawn, voxels=voxels)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_noise_is_measured_as_it_was_put_in(share: float) -> None:
    image = tissue() + np.random.default_rng(1).normal(scale=share, size=(256, 256))
    assert noise(image) == pytest.approx(share, rel=0.15)


def test_a_good_image_gives_no_remark() -> None:
    assert remarks_on(volume(tissue())) == ()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_synthetic_study_gives_no_remark(seed: int) -> None:
    series = stacking.stack_frames(selection.choose(phantom.lumbar_study(seed=seed)).frames).volume
    assert remarks_on(series) == ()


def test_noise_is_told() -> None:
    (sentence,) = remarks_on(volume(noisy(tissue(), 0.1, np.random.default_rng(0))))
    assert "noisy" in sentence


@pytest.mark.parametrize("axis", [0, 1])
def test_ghosts_are_told_along_the_direction_in_which_they_lie(axis: int) -> None:
    image = moving(tissue(), 2.0, axis, 4)
    measured = ghosts(image, (0.5, 0.5))
    assert measured[axis] > 5 * ghosts(tissue(), (0.5, 0.5))[axis]
    assert any("ghosts" in sentence for sentence in remarks_on(volume(image)))


@pytest.mark.parametrize("axis", [0, 1])
def test_fold_over_is_told(axis: int) -> None:
    image = folded(tissue(), 0.2, axis)
    assert fold_over(image)[axis] > FOLDED
    assert fold_over(tissue())[axis] < FOLDED
    assert any("fold over" in sentence for sentence in remarks_on(volume(image)))


def test_air_at_an_edge_is_no_fold_over() -> None:
    image = folded(tissue(), 0.2, 0)
    image[:4] = 0.01
    assert fold_over(image)[0] == 0


def test_empty_slices_are_counted() -> None:
    series = volume(tissue())
    series.voxels[[0, 3]] = 7.0
    assert "2 slice(s) of the series are empty." in remarks_on(series)


@pytest.mark.parametrize(("slices", "told"), [(5, True), (7, True), (9, False), (1, False)])
def test_a_stack_that_is_too_narrow_for_the_foramina(slices: int, told: bool) -> None:
    """4 mm apart: 5 slices cover 20 mm, 9 cover 36; a lone slice has a remark of its own."""
    assert any("from side to side" in sentence for sentence in remarks_on(volume(tissue(), slices))) is told


def test_few_grey_values_are_told() -> None:
    coarse = np.round(tissue() * 8) / 8
    assert any("grey values" in sentence for sentence in remarks_on(volume(coarse)))


def test_padding_does_not_hide_the_edges() -> None:
    image = np.pad(folded(tissue(), 0.2, 0), 30)
    assert any("fold over" in sentence for sentence in remarks_on(volume(image)))


def test_a_tiny_image_is_not_judged() -> None:
    assert remarks_on(volume(tissue()[:40, :40])) == ()
