"""The grey levels: taken from bone, disc and fluid, whatever a surface coil does to the fat behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.volume import upright
from sr_templates.tone import MARROW_GREY, STEEPEST_GAMMA, spine_tone
from tests.report_factories import COLUMNS, GradedStudy, disc_centers_voxel, with_volume


def grey_of(signal: float, study: GradedStudy) -> float:
    tone = spine_tone(study.report, upright(study.report.volume))
    return float(np.clip((signal - tone.black) / (tone.white - tone.black), 0, 1) ** tone.gamma)


def test_bright_fat_behind_the_spine_changes_nothing(study: GradedStudy) -> None:
    fatty = study.report.volume.voxels.copy()
    fatty[:, :, COLUMNS - 50 :] = 5000.0
    plain = spine_tone(study.report, upright(study.report.volume))
    assert spine_tone(with_volume(study, fatty).report, upright(with_volume(study, fatty).report.volume)) == plain


def test_marrow_that_is_a_tenth_of_the_fluid_is_still_seen(study: GradedStudy) -> None:
    # the drawing's marrow is 150, its fluid 255; a coil's fall-off is drawn by darkening all but the fluid
    voxels = study.report.volume.voxels.copy()
    voxels[voxels < 225.0] *= 0.17
    dark = with_volume(study, voxels)
    marrow = 150.0 * 0.17 * 0.95
    assert marrow / 255.0 == pytest.approx(0.095, abs=0.01)
    assert grey_of(marrow, dark) > 0.25
    assert grey_of(255.0, dark) == pytest.approx(1.0, abs=0.05)


def test_marrow_that_is_bright_enough_is_shown_linearly(study: GradedStudy) -> None:
    tone = spine_tone(study.report, upright(study.report.volume))
    assert tone.gamma == 1.0
    assert grey_of(150.0, study) > MARROW_GREY


def test_an_image_without_any_signal_gets_a_tone(study: GradedStudy) -> None:
    empty = with_volume(study, np.zeros_like(study.report.volume.voxels))
    tone = spine_tone(empty.report, empty.report.volume)
    assert tone.white > tone.black


def test_noise_is_never_lifted_to_tissue(study: GradedStudy) -> None:
    voxels = study.report.volume.voxels.copy()
    voxels[voxels < 225.0] *= 0.001
    assert spine_tone(with_volume(study, voxels).report, upright(study.report.volume)).gamma >= STEEPEST_GAMMA


def test_one_disc_alone_gives_a_tone(study: GradedStudy) -> None:
    lone = replace(study.report, discs=study.report.discs[3:4])
    tone = spine_tone(lone, upright(lone.volume))
    assert tone.white > tone.black
    assert len(disc_centers_voxel()) == 6
