"""How often good images are called bad, and which simulated faults are seen: SPIDER's T2 images by turns.

The limits in ``inference.image_quality`` were set on the first, third, ... of them; here are the second, fourth, ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from inference.image_quality import remarks_on
from inference.training import spider
from inference.volume import FloatArray, SagittalVolume, without_margins
from tests.image_faults import folded, moving, noisy

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def images(data_root: Path) -> list[SagittalVolume]:
    root = data_root / "spider"
    chosen = [image for image in spider.midsagittal_images(root) if image.weighting == "t2"][1::2]
    return [without_margins(spider.read_midsagittal(root, image)) for image in chosen]


def told(images: Sequence[SagittalVolume], fault: Callable[[FloatArray], FloatArray] | None = None) -> float:
    """Share of the images that get a remark about noise, ghosts or fold-over."""
    count = 0
    for image in images:
        pixels = image.voxels[0] if fault is None else 200 * fault(image.voxels[0])
        spoilt = SagittalVolume(
            voxels=np.ascontiguousarray(pixels[None], np.float32),
            voxel_to_patient=image.voxel_to_patient,
            sources=image.sources,
            series_instance_uid="1.2",
            series_description="",
        )
        count += any("noisy" in each or "ghosts" in each or "fold over" in each for each in remarks_on(spoilt))
    return count / len(images)


def test_good_images_are_left_in_peace(images: list[SagittalVolume]) -> None:
    assert told(images) <= 0.02


def test_noise_of_a_tenth_of_the_brightest_signal_is_seen(images: list[SagittalVolume]) -> None:
    rng = np.random.default_rng(0)
    assert told(images[::4], lambda image: noisy(image, 0.1, rng)) >= 0.95


@pytest.mark.parametrize("axis", [0, 1])
def test_motion_of_two_pixels_is_seen_more_often_than_not(images: list[SagittalVolume], axis: int) -> None:
    assert told(images[::4], lambda image: moving(image, 2.0, axis, 16)) >= 0.6


def test_fold_over_along_the_body_is_seen(images: list[SagittalVolume]) -> None:
    assert told(images[::4], lambda image: folded(image, 0.2, 0)) >= 0.9


def test_the_stacks_are_good_images(data_root: Path) -> None:
    root = data_root / "spider"
    stacks = [spider.read_stack(root, patient) for patient in spider.stack_patients(root)[::3]]
    sentences = [sentence for stack in stacks for sentence in remarks_on(stack)]
    assert not [each for each in sentences if "noisy" in each or "ghosts" in each or "fold over" in each]
