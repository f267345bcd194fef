"""The evidence of a disc: a row for each abnormal finding, its slices in source order, its grade and probability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.grades import Basis, Doubt, Finding, Grade
from inference.report import EvidenceMap
from sr_templates.evidence_page import CELLS, draw_evidence, evidence_rows, finding_words
from sr_templates.phrases import phrases
from sr_templates.view import make_view
from tests.report_factories import SLICES, GradedStudy

EN = phrases("en")


def test_only_abnormal_findings_have_a_row(study: GradedStudy) -> None:
    normal, abnormal = study.report.discs[3], study.report.discs[4]
    assert {evidence.finding for evidence in normal.evidence} == {Finding.PFIRRMANN, Finding.DISC_NARROWING}
    assert evidence_rows(normal, SLICES) == ()
    assert [row.evidence.finding for row in evidence_rows(abnormal, SLICES)] == [
        Finding.PFIRRMANN,
        Finding.DISC_NARROWING,
    ]


def test_the_strongest_slices_are_shown_in_the_order_of_the_source(study: GradedStudy) -> None:
    evidence = study.report.discs[4].evidence[0]
    strengths = np.array([0.3, 0.9, 0.1, 1.0, 0.5, 0.4, 0.2, 0.0, 0.0])
    values = np.zeros_like(evidence.values)
    values[:, 12, 16] = strengths
    disc = replace(study.report.discs[4], evidence=(replace(evidence, first_voxel=(3, 0, 0), values=values),))
    (row,) = evidence_rows(disc, SLICES)
    assert row.slices == (4, 6, 7, 8)
    assert len(row.slices) == CELLS


def test_a_map_beyond_the_volume_is_left_out(study: GradedStudy) -> None:
    evidence = study.report.discs[4].evidence[0]
    outside = replace(evidence, first_voxel=(SLICES, 0, 0))
    assert evidence_rows(replace(study.report.discs[4], evidence=(outside,)), SLICES) == ()


def test_many_findings_go_onto_further_pages(study: GradedStudy) -> None:
    disc = study.report.discs[5]
    present = Grade(value=1, probabilities={0: 0.1, 1: 0.9}, basis=Basis.LEARNED)
    first = disc.evidence[0]
    maps = tuple(replace(first, finding=finding) for finding in Finding)
    grades = {**dict.fromkeys(Finding, present), Finding.PFIRRMANN: disc.grades[Finding.PFIRRMANN]}
    full = replace(disc, grades=grades, evidence=maps)
    drawn = list(draw_evidence(study.report, make_view(study.report, 100, 100), full, EN))
    assert len(drawn) == 3  # 10 findings, 4 on a page
    assert all(max(pixels.shape) <= 1024 for pixels, _ in drawn)


def test_the_hot_spot_lies_where_the_map_says(study: GradedStudy) -> None:
    """Warm voxels at the back end of the disc, 17 mm behind its centre, colour the cell there and nowhere else."""
    disc, ends = study.report.discs[4], study.report.spine.discs[4]
    view = make_view(study.report, 100, 100)

    def cell_with_a_spot_at(position_lps_mm: np.ndarray) -> np.ndarray:
        voxel = np.round(study.report.volume.to_voxel(position_lps_mm)).astype(int)
        spot = EvidenceMap(
            finding=Finding.PFIRRMANN,
            method=disc.evidence[0].method,
            first_voxel=(int(voxel[0]), int(voxel[1]) - 1, int(voxel[2]) - 1),
            values=np.ones((1, 3, 3), np.float32),
        )
        ((pixels, slices),) = draw_evidence(study.report, view, replace(disc, evidence=(spot,)), EN)
        assert slices == (disc.slice_index,)
        return pixels[38 : 38 + 158, 222 : 222 + 188]

    behind, before = cell_with_a_spot_at(ends.posterior_lps_mm), cell_with_a_spot_at(ends.anterior_lps_mm)
    rows, columns = np.nonzero((behind != before).any(axis=-1))
    px_per_mm = 188 / 62.0
    assert rows.mean() == pytest.approx(79, abs=4)
    for side, sign in ((columns > 94, 1), (columns <= 94, -1)):
        assert columns[side].mean() - 94 == pytest.approx(sign * 17 * px_per_mm, abs=4)
        assert np.ptp(columns[side]) < 7 * px_per_mm


def test_a_finding_is_named_with_its_grade_and_its_probability(study: GradedStudy) -> None:
    disc = study.report.discs[5]
    assert finding_words(Finding.PFIRRMANN, disc, EN) == ("Pfirrmann grade 5", "probability 70%")
    assert finding_words(Finding.DISC_NARROWING, disc, EN) == ("Disc narrowing 3", "probability 80%, step measured")
    assert finding_words(Finding.CENTRAL_CANAL_STENOSIS, disc, EN) == (
        "Central canal stenosis",
        "measured, not learned",
    )
    doubted = replace(disc, grades={Finding.PFIRRMANN: replace(disc.grades[Finding.PFIRRMANN], doubt=Doubt.UNSURE)})
    assert finding_words(Finding.PFIRRMANN, doubted, EN)[1] == "probability 70%, uncertain"
