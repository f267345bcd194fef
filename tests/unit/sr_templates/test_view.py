"""The view: always upright, square pixels, places and saliency where they belong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.anatomy import DiscLevel
from inference.grades import Finding
from inference.report import EvidenceMap, Method
from sr_templates.phrases import phrases
from sr_templates.view import explained, explained_on, make_view, shown_level
from tests.report_factories import (
    COLUMNS,
    ROWS,
    SPACING_MM,
    GradedStudy,
    Layout,
    disc_centers_voxel,
    graded_study,
)

EN = phrases("en")


def test_disc_centers_fall_where_the_drawing_has_them(study_in_any_layout: GradedStudy) -> None:
    report = study_in_any_layout.report
    view = make_view(report, 448, 10_000)  # 224 columns: two pixels per column
    for disc in report.discs:
        _, row, column = disc_centers_voxel()[disc.level]
        np.testing.assert_allclose(view.pixels(disc.center_lps_mm), [2 * (column + 0.5), 2 * (row + 0.5)], atol=1e-6)


def test_a_flipped_source_is_shown_upright_and_looks_the_same() -> None:
    straight = make_view(graded_study(Layout.STRAIGHT).report, 300, 300)
    flipped = make_view(graded_study(Layout.FLIPPED).report, 300, 300)
    difference = straight.picture(7, heat=True).astype(int) - flipped.picture(7, heat=True)
    assert abs(difference).max() <= 1  # rounding


def test_pixels_are_square_whatever_the_spacing() -> None:
    study = graded_study()
    affine = study.report.volume.voxel_to_patient.copy()
    affine[:3, 2] *= 0.5  # columns half as wide
    report = replace(study.report, volume=replace(study.report.volume, voxel_to_patient=affine))
    view = make_view(report, 1000, 512)
    assert (view.width, view.height) == (round(512 * COLUMNS * 0.5 / ROWS), 512)


def test_the_view_fits_its_frame() -> None:
    view = make_view(graded_study().report, 500, 400)
    assert view.height == 400
    assert view.width == round(400 * COLUMNS / ROWS)
    assert view.pixels_per_mm == pytest.approx(400 / (ROWS * SPACING_MM[1]))


def test_only_abnormal_findings_are_explained() -> None:
    report = graded_study().report
    assert [explained(disc) for disc in report.discs[:4]] == [()] * 4
    assert {e.finding for e in explained(report.discs[5])} == {Finding.PFIRRMANN, Finding.DISC_NARROWING}


def test_saliency_is_told_on_the_slices_where_it_is() -> None:
    disc = graded_study().report.discs[5]  # its map is centred on slice 7 with sigma of two slices
    assert explained_on(disc, 7) == (Finding.PFIRRMANN, Finding.DISC_NARROWING)
    assert explained_on(disc, 12) == ()
    assert explained_on(disc, 4) == (Finding.PFIRRMANN, Finding.DISC_NARROWING)  # exp(-9/8) = 0.32


def test_the_heat_is_hottest_in_the_posterior_half_of_an_abnormal_disc(study_in_any_layout: GradedStudy) -> None:
    report = study_in_any_layout.report
    view = make_view(report, 448, 10_000)
    disc = report.discs[5]
    _, center_row, center_column = disc_centers_voxel()[DiscLevel.L5_S1]
    heat = view.heat[disc.slice_index]
    row, column = round(center_row), round(center_column)
    assert heat[row, column + 7] > 0.9
    assert heat[row, column - 10] < 0.1


def test_a_map_that_reaches_out_of_the_volume_is_cut() -> None:
    study = graded_study()
    outside = EvidenceMap(
        finding=Finding.PFIRRMANN,
        method=Method.GRADIENT_SALIENCY,
        first_voxel=(-3, -5, COLUMNS - 2),
        values=np.ones((9, 10, 10), np.float32),
    )
    discs = (*study.report.discs[:5], replace(study.report.discs[5], evidence=(outside,)))
    heat = make_view(replace(study.report, discs=discs), 100, 100).heat
    np.testing.assert_array_equal(heat[:6, :5, COLUMNS - 2 :], 1.0)
    assert heat[6, 0, COLUMNS - 1] < 1.0


def test_a_map_wholly_outside_is_left_out() -> None:
    study = graded_study()
    outside = replace(study.report.discs[5].evidence[0], first_voxel=(0, ROWS + 5, 0))
    discs = tuple(replace(disc, evidence=(outside,)) for disc in study.report.discs)
    assert make_view(replace(study.report, discs=discs), 100, 100).heat.max() == 0.0


@pytest.mark.parametrize(("confidence", "shown"), [(0.98, "L5/S1"), (0.5, "L5/S1"), (0.49, "L5/S1?")])
def test_a_doubtful_level_is_questioned(confidence: float, shown: str) -> None:
    disc = replace(graded_study().report.discs[5], level_confidence=confidence)
    assert shown_level(disc, EN) == shown
