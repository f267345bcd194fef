"""Labels, weights and augmented discs of the grader's training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.anatomy import DiscLevel
from inference.descriptors import FEATURES
from inference.training.disc_augmentation import batch, plain_batch
from inference.training.gradings import (
    LEVEL_OF_LABEL,
    TARGETS,
    UNKNOWN,
    GradedDiscs,
    class_weights,
    findings_taught,
    targets_of,
)
from inference.training.spider_gradings import labels_of


def test_labels_count_upwards_from_the_sacrum() -> None:
    assert LEVEL_OF_LABEL[1] is DiscLevel.L5_S1
    assert LEVEL_OF_LABEL[6] is DiscLevel.T12_L1


def test_a_row_of_the_table_becomes_labels_and_spiders_end_plates_change_sides() -> None:
    said = {"Modic": 2, "UP endplate": 1, "LOW endplate": 0, "Pfirrman grade": 4, "Disc narrowing": 1}
    labels = labels_of(said)
    assert labels["pfirrmann"] == 4
    assert labels["lower_endplate_defect"] == 1  # the upper end plate of the vertebra below is the disc's lower one
    assert labels["upper_endplate_defect"] == 0
    assert labels["marrow_change"] == 1
    assert "disc_herniation" not in labels
    assert "central_canal_stenosis" not in labels  # SPIDER has no such label


def test_a_disc_without_modic_label_has_no_marrow_label() -> None:
    assert labels_of({"Pfirrman grade": 1}) == {"pfirrmann": 1}


def test_only_what_has_a_label_is_taught() -> None:
    labels = np.full((3, len(TARGETS)), UNKNOWN)
    assert targets_of(labels) == ()
    labels[1, TARGETS.index("marrow_change")] = 0
    labels[2, TARGETS.index("central_canal_stenosis")] = 1
    assert targets_of(labels) == ("marrow_change", "central_canal_stenosis")
    assert [finding.value for finding in findings_taught(labels)] == [
        "upper_marrow_change",
        "lower_marrow_change",
        "central_canal_stenosis",
    ]


def test_class_weights_are_inverse_frequencies_up_to_a_limit() -> None:
    labels = np.array([0] * 90 + [1] * 10 + [UNKNOWN] * 7)
    np.testing.assert_allclose(class_weights(labels, (0, 1), 100.0), [100 / 180, 5.0])
    np.testing.assert_allclose(class_weights(labels, (0, 1), 3.0), [100 / 180, 3.0])
    assert class_weights(labels, (0, 1, 2), 3.0)[2] == 0


@pytest.fixture
def graded() -> GradedDiscs:
    """A single slice and a stack of five; each slice holds its own number as brightness."""
    count = 6
    return GradedDiscs(
        slices=np.arange(1, count + 1, dtype=np.uint8)[:, None, None] * np.full((192, 320), 20, np.uint8),
        slice_disc=np.array([0, 1, 1, 1, 1, 1]),
        slice_position=np.array([4, 2, 3, 4, 5, 6]),
        zones=np.pad(np.full((2, 24, 100), 2, np.uint8), ((0, 0), (84, 84), (110, 110))),
        features=np.random.default_rng(0).normal(size=(2, len(FEATURES))).astype(np.float32),
        labels=np.ones((2, len(TARGETS)), np.int64),
        patient=np.array([1, 2]),
        label_number=np.array([1, 1]),
        is_stack=np.array([False, True]),
    )


def test_an_unaugmented_disc_has_every_slice_in_its_place(graded: GradedDiscs) -> None:
    images, present, zones = plain_batch(graded, np.array([1, 0]))
    assert images.shape == (2, 9, 112, 224)
    assert present.tolist() == [[False] * 2 + [True] * 5 + [False] * 2, [False] * 4 + [True] + [False] * 4]
    np.testing.assert_allclose(images[0, :, 50, 50] * 255 / 20, [0, 0, 2, 3, 4, 5, 6, 0, 0], atol=1e-4)
    assert zones[0, 44:68, 62:162].eq(2).all()
    assert zones.sum().item() == 2 * 2 * 24 * 100


def test_an_augmented_stack_shows_one_slice_or_the_three_middle_ones(graded: GradedDiscs) -> None:
    chance = np.random.default_rng(3)
    seen = set()
    for _ in range(30):
        images, present, _, _ = batch(graded, np.array([1]), chance)
        seen.add(tuple(torch.nonzero(present[0]).flatten().tolist()))
        assert not images[~present].any()
        assert images.min() >= 0
        assert images.max() <= 1
    assert seen == {(4,), (3, 4, 5)}


def test_augmentation_is_repeatable_by_its_seed(graded: GradedDiscs) -> None:
    rows = np.array([0, 1])
    first, second = (batch(graded, rows, np.random.default_rng(7)) for _ in range(2))
    for here, there in zip(first, second, strict=True):
        torch.testing.assert_close(here, there, equal_nan=True)


def test_zones_are_moved_with_the_image() -> None:
    """A disc brighter than its surroundings, and its zone: turned and shifted they stay on each other."""
    drawn = np.zeros((1, 192, 320), np.uint8)
    drawn[0, 84:108, 110:210] = 1
    graded = GradedDiscs(
        slices=drawn * 200,
        slice_disc=np.array([0]),
        slice_position=np.array([4]),
        zones=drawn,
        features=np.zeros((1, len(FEATURES)), np.float32),
        labels=np.ones((1, len(TARGETS)), np.int64),
        patient=np.array([1]),
        label_number=np.array([1]),
        is_stack=np.array([False]),
    )
    chance = np.random.default_rng(5)
    for _ in range(10):
        images, _, zones, _ = batch(graded, np.array([0]), chance)
        bright = images[0, 4] > 0.35
        assert (bright & (zones[0] == 1)).sum() > 0.9 * (bright | (zones[0] == 1)).sum()
