"""What cannot be a lumbar spine is refused, what is odd is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.anatomy import Found
from inference.detection import find
from inference.plausibility import doubts_about
from inference.volume import SagittalVolume, Unsuitable
from tests.unit.inference.drawn_spine import PaintedLocaliser, column_of_discs, drawn, painted_volume

VOLUME = painted_volume([drawn([]), *[drawn(column_of_discs(6))] * 3, drawn([])])
FOUND = find(VOLUME, PaintedLocaliser().eval())


def scaled(found: Found, factor: float) -> Found:
    """The same spine, so many times as large."""
    return replace(found, discs=tuple(replace(disc, center_lps_mm=disc.center_lps_mm * factor) for disc in found.discs))


def without_sacrum(found: Found) -> Found:
    return replace(found, discs=tuple(replace(disc, sacrum_beneath=0.0) for disc in found.discs))


def test_nothing_is_said_of_a_plausible_spine() -> None:
    """Discs 34 mm apart on the middle slice of five."""
    assert doubts_about(FOUND, VOLUME) == ()


def test_discs_as_near_as_in_the_neck_are_refused() -> None:
    with pytest.raises(Unsuitable, match="17 mm apart, as in the neck"):
        doubts_about(scaled(FOUND, 0.5), VOLUME)


def test_a_small_spine_with_its_sacrum_is_lumbar_and_one_without_may_be_thoracic() -> None:
    small = scaled(FOUND, 25 / 34)
    assert doubts_about(small, VOLUME) == ()
    (sentence,) = doubts_about(without_sacrum(small), VOLUME)
    assert "thoracic" in sentence


def test_discs_without_canal_and_sacrum_are_no_spine() -> None:
    """As on a coronal image that says it is sagittal."""
    bare = replace(FOUND, discs=tuple(replace(d, canal_lps_mm=None, sacrum_beneath=0.1) for d in FOUND.discs))
    with pytest.raises(Unsuitable, match="neither canal nor sacrum"):
        doubts_about(bare, VOLUME)


def test_a_large_spine_without_its_sacrum_is_not_thoracic() -> None:
    assert doubts_about(without_sacrum(FOUND), VOLUME) == ()


def test_slices_without_a_canal_lie_beside_the_middle() -> None:
    blind = replace(FOUND, discs=tuple(replace(disc, canal_lps_mm=None) for disc in FOUND.discs))
    (sentence,) = doubts_about(blind, VOLUME)
    assert "canal was not seen" in sentence


@pytest.mark.parametrize(("index", "told"), [(0, True), (1, False), (4, True)])
def test_a_spine_on_the_outermost_slice_goes_on_beyond_it(index: int, told: bool) -> None:
    moved = replace(FOUND, discs=tuple(replace(disc, slice_index=index) for disc in FOUND.discs))
    assert bool(doubts_about(moved, VOLUME)) is told


def test_a_lone_slice_has_no_outermost_one() -> None:
    lone = SagittalVolume(
        voxels=np.ascontiguousarray(VOLUME.voxels[:1]),
        voxel_to_patient=VOLUME.voxel_to_patient,
        sources=VOLUME.sources[:1],
        series_instance_uid="1.2",
        series_description="",
    )
    assert doubts_about(replace(FOUND, discs=tuple(replace(d, slice_index=0) for d in FOUND.discs)), lone) == ()


def test_a_single_disc_is_left_to_naming() -> None:
    assert doubts_about(Found(discs=FOUND.discs[:1], bodies=FOUND.bodies[:2]), VOLUME) == ()
