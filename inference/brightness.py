"""Grey values that start at 0, as signal does, whatever a header or a converter has added to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from inference.volume import SagittalVolume

FLOOR_TOLERANCE = 0.02
"""Of the grey range: darkest values nearer to 0 than this are noise in air, as every scanner has it."""


def from_zero(volume: SagittalVolume) -> tuple[SagittalVolume, tuple[str, ...]]:
    """The volume with its darkest values at 0, and a sentence about it; unchanged and no sentence where they are.

    What comes later compares ratios of signals (SpineNet's normalisation by the bone's median), which an offset spoils
    unseen: an inverted image that does not use all its bits, an intercept, a converter that stores -1000 for nothing.
    """
    floor, bright = (float(value) for value in np.percentile(volume.voxels, (0.1, 99.0)))
    if abs(floor) <= FLOOR_TOLERANCE * (bright - floor):
        return volume, ()
    shifted = np.maximum(volume.voxels - np.float32(floor), np.float32(0))
    note = f"Grey values started at {floor:.4g} instead of 0 and were shifted: brightness may be less exact."
    return replace(volume, voxels=shifted), (note,)
