from dataclasses import replace

import numpy as np
import pytest

from inference.anatomy import Disc, DiscLevel, Found, FoundDisc, Spine
from inference.training.localisation_figures import LocalisationScores, figures_of, interval, wrong
from inference.training.localisation_page import failures, reason, tables
from inference.training.localisation_scores import BoxScore, ImageScore, compare, cut_below, rescaled
from inference.volume import SagittalVolume, SliceSource

LOWEST = (DiscLevel.L5_S1, DiscLevel.L4_L5, DiscLevel.L3_L4)


def a_volume(rows: int = 200, pixel_mm: float = 0.5) -> SagittalVolume:
    """One slice of 100 x 100 mm, upright, its first pixel's centre at 0, 0, 0 mm."""
    affine = np.zeros((4, 4))
    affine[0, 0], affine[1, 2], affine[2, 1], affine[3, 3] = -4.0, pixel_mm, -pixel_mm, 1.0
    return SagittalVolume(
        voxels=np.zeros((1, rows, 200), np.float32),
        voxel_to_patient=affine,
        sources=(SliceSource(sop_instance_uid="1.2", frame=1),),
        series_instance_uid="1.2",
        series_description="",
    )


def at(row_mm: float, column_mm: float) -> np.ndarray:
    """LPS of a place given in mm from the image's corner."""
    return np.array([0.0, column_mm - 0.25, -(row_mm - 0.25)])


def a_disc(row_mm: float, column_mm: float = 50.0) -> FoundDisc:
    center = at(row_mm, column_mm)
    return FoundDisc(
        slice_index=0,
        outline_lps_mm=center[None],
        center_lps_mm=center,
        anterior_lps_mm=at(row_mm, column_mm - 17),
        posterior_lps_mm=at(row_mm, column_mm + 17),
        canal_lps_mm=None,
        complete=True,
        confidence=0.95,
        sacrum_beneath=0.0,
        vertebra_beneath=1.0,
        beneath_in_view=1.0,
    )


def named(disc: FoundDisc, level: DiscLevel, confidence: float = 0.97) -> Disc:
    return Disc(
        level=level,
        level_confidence=confidence,
        slice_index=0,
        outline_lps_mm=disc.outline_lps_mm,
        center_lps_mm=disc.center_lps_mm,
        anterior_lps_mm=disc.anterior_lps_mm,
        posterior_lps_mm=disc.posterior_lps_mm,
        canal_lps_mm=None,
    )


def a_spine(*discs: tuple[FoundDisc, DiscLevel]) -> Spine:
    return Spine(bodies=(), discs=tuple(named(disc, level) for disc, level in discs), doubts=())


BOXES = np.array([[30, 76, 70, 84], [30, 46, 70, 54], [30, 16, 70, 24]], np.float64)
"""L5/S1, L4/L5, L3/L4: 40 x 8 mm with their middles at rows 80, 50, 20 and column 50."""


def compared(*rows_mm: float, levels: tuple[DiscLevel, ...] = LOWEST[::-1]) -> BoxScore:
    discs = [a_disc(row) for row in rows_mm]
    return compare(a_volume(), BOXES, Found(discs=tuple(discs), bodies=()), a_spine(*zip(discs, levels, strict=False)))


def test_discs_in_their_boxes_are_found_and_their_distance_to_the_middle_is_the_error() -> None:
    score = compared(20, 51, 82)
    assert (score.boxes, score.found, score.extra, score.extra_above) == (3, 3, 0, 0)
    assert score.center_errors_mm == pytest.approx((0.0, 1.0, 2.0), abs=1e-9)
    assert (score.named, score.named_right, score.levels_right) == (3, 3, True)


def test_a_disc_between_boxes_is_one_too_many_and_one_above_the_highest_box_is_counted_apart() -> None:
    score = compared(5, 20, 35, 50, 80, levels=())
    assert (score.found, score.extra, score.extra_above) == (3, 1, 1)


def test_two_discs_in_one_box_are_one_found_and_one_too_many() -> None:
    assert (compared(20, 48, 52, 80).found, compared(20, 48, 52, 80).extra) == (3, 1)


def test_a_box_at_the_edge_of_the_image_may_be_missed_more_readily() -> None:
    at_edge = BOXES - [0, 14, 0, 14]  # the highest one begins 2 mm from the edge
    discs = [a_disc(66), a_disc(36)]
    score = compare(a_volume(), at_edge, Found(discs=tuple(discs), bodies=()), a_spine())
    assert (score.found, score.missed_inside) == (2, 0)
    assert (compared(20, 80).found, compared(20, 80).missed_inside) == (2, 1)


def test_names_that_are_off_by_one_are_wrong_and_a_missing_name_is_not_right() -> None:
    off = compared(20, 50, 80, levels=(DiscLevel.L2_L3, DiscLevel.L3_L4, DiscLevel.L4_L5))
    assert (off.named, off.named_right, off.levels_right) == (3, 0, False)
    unnamed = compared(20, 50, 80, levels=LOWEST[:0:-1])
    assert (unnamed.named, unnamed.named_right, unnamed.levels_right) == (2, 2, False)


def an_image(patient: int = 1, confidence: float = 0.97, **changed: object) -> ImageScore:
    row = ImageScore(
        name=f"{patient}_t2",
        patient=patient,
        weighting="t2",
        counted=3,
        expected=3,
        confidence=confidence,
        doubts=(),
        against_boxes=compared(20, 50, 80),
    )
    return replace(row, **changed)  # type: ignore[arg-type]


WRONG = compared(20, 50, 80, levels=(DiscLevel.L2_L3, DiscLevel.L3_L4, DiscLevel.L4_L5))


def test_wrong_names_are_confident_or_flagged() -> None:
    rows = [
        an_image(1),
        an_image(2, against_boxes=WRONG),
        an_image(3, confidence=0.6, against_boxes=WRONG),
        an_image(4),
    ]
    figures = figures_of(rows)
    assert figures["images with a wrong level"]["t2"].value == 0.5
    assert figures["confidently wrong"]["t2"].value == 0.25
    assert figures["flagged, of all images"]["t2"].value == 0.25
    assert figures["images with every level right"]["t2"].value == 0.5
    assert figures["disc recall"]["t2"].value == 1.0
    assert figures["disc recall"]["t2"].over == 12
    assert "t1" not in figures["disc recall"]


def test_the_interval_draws_patients_not_images() -> None:
    """Ten images of one patient that are all wrong weigh as one: of two patients, a draw may hold either alone."""
    rows = [an_image(1, against_boxes=WRONG)] * 10 + [an_image(2)] * 10
    share = interval(rows, lambda chosen: sum(map(wrong, chosen)) / len(chosen), len)
    assert (share.value, share.low, share.high, share.over) == (0.5, 0.0, 1.0, 20)
    alike = interval([an_image(k) for k in range(9)], lambda chosen: float(len(chosen)), len)
    assert (alike.value, alike.low, alike.high) == (9, 9, 9)


def test_every_failure_is_listed_with_its_reason() -> None:
    rows = (
        an_image(1),
        an_image(2, against_boxes=WRONG),
        an_image(3, counted=4),
        an_image(4, against_boxes=compared(20, 80)),
    )
    assert [reason(row) for row in rows] == ["", "3 named wrong", "4 discs, SPIDER 3", "1 missed; 1 named wrong"]
    assert [row.patient for row in failures(rows)] == [2, 3, 4]
    page = "\n".join(
        tables(LocalisationScores(images=rows, stacks=(), cuts={}, scaled={}, figures=figures_of(rows), dice={}))
    )
    assert "| 2_t2 | 3 named wrong | 0.97 |" in page
    assert "| images | 4; 4 with 12 boxes |" in page


def test_a_volume_is_cut_and_its_header_made_wrong() -> None:
    volume = a_volume()
    assert cut_below(volume, 120).voxels.shape == (1, 120, 200)
    assert rescaled(volume, 1.5).spacing_mm == (4.0, 0.75, 0.75)
