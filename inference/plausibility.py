"""Whether what detection found can be a lumbar spine that lies in this volume: its scale, its canal, its place.

No pixels and no names in here. What cannot be a lumbar spine is refused; what is odd is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from inference.anatomy import Found, FoundDisc
from inference.volume import SagittalVolume, Unsuitable

NEAREST_DISCS_MM = 21.0
"""Lumbar discs follow each other every 30-40 mm, thoracic ones every 22-28 mm, cervical ones every 15-20 mm. On
SPIDER's 360 mid-sagittal images the median step is 23-63 mm, wrong pixel sizes among them."""
THORACIC_STEP_MM = 28.0
"""A chain with smaller steps and no sacrum beneath it may be the thoracic spine."""
SACRUM_SEEN = 0.5


def doubts_about(found: Found, volume: SagittalVolume) -> tuple[str, ...]:
    """Sentences for the reader.

    Raises Unsuitable where the discs stand too near to each other for a lumbar spine, or where nothing but discs was
    seen of it.
    """
    discs = found.discs
    steps_mm = [float(np.linalg.norm(lower.center_lps_mm - upper.center_lps_mm)) for upper, lower in pairwise(discs)]
    if not steps_mm:
        return ()
    step_mm = float(np.median(steps_mm))
    if step_mm < NEAREST_DISCS_MM:
        raise Unsuitable(
            f"No lumbar spine was found: the discs would be {step_mm:.0f} mm apart, as in the neck (30-40 mm is usual)."
        )
    is_sacrum_seen = max(disc.sacrum_beneath for disc in discs) >= SACRUM_SEEN
    is_canal_seen = any(disc.canal_lps_mm is not None for disc in discs)
    if not is_sacrum_seen and not is_canal_seen:
        raise Unsuitable("No lumbar spine was found: neither canal nor sacrum was seen beside what looks like discs.")
    sentences = []
    if step_mm < THORACIC_STEP_MM and not is_sacrum_seen:
        sentences.append(
            f"The discs are {step_mm:.0f} mm apart and no sacrum was seen: it may be the thoracic spine that is shown."
        )
    if not is_canal_seen:
        sentences.append(
            "The spinal canal was not seen at any disc: the slices may lie beside the middle of the spine."
        )
    return (*sentences, *_of_place(discs, len(volume.voxels)))


def _of_place(discs: Sequence[FoundDisc], slices: int) -> tuple[str, ...]:
    """A spine whose middle is on an outermost slice goes on beyond the stack."""
    outermost = sum(disc.slice_index in {0, slices - 1} for disc in discs)
    if slices < 3 or outermost <= len(discs) / 2:
        return ()
    return ("The middle of the spine lies on the outermost slice: what is on its other side is not shown.",)
