"""Labelled discs whose grades can be seen: the darker the disc, the worse it is graded."""

from __future__ import annotations

import numpy as np

from inference.descriptors import FEATURES
from inference.training.gradings import TARGETS, UNKNOWN, GradedDiscs
from inference.zones import Zone


def made_discs(count: int, seed: int = 0) -> GradedDiscs:
    """Every third one is a stack of five slices. Canal stenosis has no label."""
    chance = np.random.default_rng(seed)
    grade = chance.integers(1, 6, count)
    stacked = np.arange(count) % 3 == 0
    disc = np.repeat(np.arange(count), np.where(stacked, 5, 1))
    position = np.concatenate([np.arange(2, 7) if each else [4] for each in stacked])
    slices = chance.integers(50, 70, (len(disc), 192, 320)).astype(np.uint8)
    slices[:, 84:108, 110:210] = (140 - 20 * grade[disc])[:, None, None]
    zones = np.zeros((count, 192, 320), np.uint8)
    zones[:, 84:108, 110:160], zones[:, 84:108, 160:210] = Zone.DISC_MIDDLE, Zone.DISC_BACK
    zones[:, 74:82, 110:210], zones[:, 110:118, 110:210] = Zone.ENDPLATE_ABOVE, Zone.ENDPLATE_BELOW
    labels = np.repeat((grade > 3).astype(np.int64)[:, None], len(TARGETS), axis=1)
    labels[:, TARGETS.index("pfirrmann")] = grade
    labels[:, TARGETS.index("central_canal_stenosis")] = UNKNOWN
    labels[1, TARGETS.index("marrow_change")] = UNKNOWN
    return GradedDiscs(
        slices=slices,
        slice_disc=disc,
        slice_position=position,
        zones=zones,
        features=chance.normal(size=(count, len(FEATURES))).astype(np.float32),
        labels=labels,
        patient=np.arange(count) // 2,
        label_number=np.ones(count, int),
        is_stack=stacked,
    )
