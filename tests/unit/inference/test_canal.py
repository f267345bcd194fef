"""The sac at a disc: its diameter, the fluid left in it, and what is called a stenosis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference import canal
from inference.anatomy import DiscLevel
from inference.grades import Basis, Doubt
from inference.volume import SagittalVolume
from tests.spine_factory import CANAL_MM, CSF, Drawn, drawn_spine

MIDDLE = 1


def with_dark_sac(drawn: Drawn, share: float, rootlets: float = 100.0) -> SagittalVolume:
    """The front ``share`` of the sac behind the middle disc, 6 mm tall, holds no fluid."""
    volume, disc = drawn.volume, drawn.spine.discs[MIDDLE]
    assert disc.canal_lps_mm is not None
    front, back = volume.to_voxel(disc.canal_lps_mm)
    voxels = volume.voxels.copy()
    row, first = round(front[1]), round(front[2])
    voxels[:, row - 6 : row + 7, first - 1 : first + round(share * (back[2] - front[2]))] = rootlets
    return replace(volume, voxels=voxels)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_effacement_is_the_share_of_the_sac_that_lost_its_fluid(share: float) -> None:
    drawn = drawn_spine()
    measured = canal.measure(with_dark_sac(drawn, share), drawn.spine, MIDDLE)
    assert measured["canal_ap_mm"] == pytest.approx(CANAL_MM)
    assert measured["csf_effacement_percent"] == pytest.approx(100 * share, abs=6)


def test_a_sac_full_of_fluid_is_not_effaced() -> None:
    drawn = drawn_spine()
    assert canal.measure(drawn.volume, drawn.spine, MIDDLE)["csf_effacement_percent"] == pytest.approx(0, abs=3)


def test_rootlets_all_along_the_sac_efface_nothing() -> None:
    """What is dark above and below, too, is how the sac is filled, not what the disc does to it."""
    drawn = drawn_spine()
    voxels = drawn.volume.voxels.copy()
    sac = np.flatnonzero(voxels[4, 150] == CSF)
    voxels[:, :, sac[len(sac) // 2 :]] = 100.0
    measured = canal.measure(replace(drawn.volume, voxels=voxels), drawn.spine, MIDDLE)
    assert measured["csf_effacement_percent"] == pytest.approx(0, abs=3)


def test_the_brightness_of_the_image_does_not_matter() -> None:
    drawn = drawn_spine()
    dark = with_dark_sac(drawn, 0.5)
    bright = replace(dark, voxels=dark.voxels * np.float32(7.3))
    assert canal.measure(dark, drawn.spine, MIDDLE) == pytest.approx(canal.measure(bright, drawn.spine, MIDDLE))


def test_no_fluid_is_counted_where_the_cord_lies_nor_on_a_lone_slice() -> None:
    drawn = drawn_spine()
    high = replace(drawn.spine.discs[MIDDLE], level=DiscLevel.T12_L1)
    spine = replace(drawn.spine, discs=(drawn.spine.discs[0], high, drawn.spine.discs[2]))
    assert set(canal.measure(drawn.volume, spine, MIDDLE)) == {"canal_ap_mm"}
    lone = drawn_spine(slices=1)
    assert canal.measure(lone.volume, lone.spine, MIDDLE) == {}


def test_without_a_sac_at_the_next_discs_there_is_nothing_to_compare_with() -> None:
    drawn = drawn_spine()
    blind = [replace(disc, canal_lps_mm=None) for disc in drawn.spine.discs]
    spine = replace(drawn.spine, discs=(blind[0], drawn.spine.discs[MIDDLE], blind[2]))
    assert set(canal.measure(drawn.volume, spine, MIDDLE)) == {"canal_ap_mm"}


@pytest.mark.parametrize(
    ("canal_ap_mm", "effaced", "value", "doubt"),
    [
        (8.9, None, 1, None),
        (9.0, None, 0, None),
        (8.9, 50.0, 1, None),
        (8.9, 24.0, 1, Doubt.UNSURE),  # narrow, and yet full of fluid
        (9.5, 69.0, 0, None),
        (9.5, 70.0, 1, None),
        (12.0, 90.0, 0, None),  # wide: what fills it is no stenosis
    ],
)
def test_stenosis_is_a_narrow_sac_or_one_without_fluid(
    canal_ap_mm: float, effaced: float | None, value: int, doubt: Doubt | None
) -> None:
    measured = {"canal_ap_mm": canal_ap_mm} | ({} if effaced is None else {"csf_effacement_percent": effaced})
    grade = canal.stenosis(measured)
    assert grade is not None
    assert (grade.value, grade.doubt, grade.basis, dict(grade.probabilities)) == (value, doubt, Basis.MEASURED, {})
    assert "Chatha" in grade.criterion
    assert ("Schizas" in grade.criterion) == (effaced is not None)


def test_without_a_diameter_there_is_no_grade() -> None:
    assert canal.stenosis({"disc_height_mm": 8.0, "csf_effacement_percent": 90.0}) is None
