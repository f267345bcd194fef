"""What must hold of the shipped grader on any disc: darker is not younger, a grey scale is no finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference import detection, discs, grading, labelling, phantom, selection, stacking
from inference.anatomy import Spine
from inference.grades import Finding
from inference.volume import DiscVolume, SagittalVolume
from inference.weights import Models, load_models
from inference.zones import Zone

DISC = (Zone.DISC_FRONT, Zone.DISC_MIDDLE, Zone.DISC_BACK)


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models("cpu")


@pytest.fixture(scope="module")
def volume() -> SagittalVolume:
    return stacking.stack_frames(selection.choose(phantom.lumbar_study(seed=1)).frames).volume


@pytest.fixture(scope="module")
def spine(volume: SagittalVolume, models: Models) -> Spine:
    return labelling.name(detection.find(volume, models.localiser))


def expected_pfirrmann(cut: tuple[DiscVolume, ...], models: Models) -> list[float]:
    return [
        sum(value * share for value, share in grades[Finding.PFIRRMANN].probabilities.items())
        for grades in grading.grade(cut, models.grader)
    ]


def painted(cut: DiscVolume, share: float) -> DiscVolume:
    """The disc, and no other tissue, with ``share`` of its signal: for the network and for the numbers."""
    inside = np.isin(cut.zones, DISC)
    voxels = np.where(inside, cut.voxels * np.float32(share), cut.voxels)
    return replace(cut, voxels=voxels)


def darkened(volume: SagittalVolume, spine: Spine, share: float) -> SagittalVolume:
    """The same in the images themselves, so that the measured numbers see it too."""
    voxels = volume.voxels.copy()
    for disc in spine.discs:
        rows, columns = np.mgrid[: voxels.shape[1], : voxels.shape[2]]
        outline = volume.to_voxel(disc.outline_lps_mm)[:, 1:]
        inside = _inside(outline, rows, columns)
        voxels[:, inside] *= np.float32(share)
    return replace(volume, voxels=voxels)


def _inside(outline: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    crossings = np.zeros(rows.shape, int)
    for (row, column), (next_row, next_column) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        spans = (row > rows) != (next_row > rows)
        run = (next_column - column) * (rows - row) / (next_row - row + 1e-12) + column
        crossings += spans & (columns < run)
    return crossings % 2 == 1


def test_a_disc_painted_darker_gets_a_higher_or_equal_pfirrmann_grade_on_average(
    volume: SagittalVolume, spine: Spine, models: Models
) -> None:
    means = [
        np.mean(expected_pfirrmann(discs.cut(darkened(volume, spine, share), spine), models)) for share in (1, 0.6, 0.3)
    ]
    assert means[0] < means[1] < means[2]


def test_so_it_does_for_the_network_alone(volume: SagittalVolume, spine: Spine, models: Models) -> None:
    cut = discs.cut(volume, spine)
    means = [np.mean(expected_pfirrmann(tuple(painted(d, share) for d in cut), models)) for share in (1, 0.6, 0.3)]
    assert means[0] <= means[1] <= means[2]


@pytest.mark.parametrize("scale", [0.003, 0.5, 40.0])
def test_grading_is_invariant_to_a_vendors_intensity_scale(
    volume: SagittalVolume, spine: Spine, models: Models, scale: float
) -> None:
    plain = grading.grade(discs.cut(volume, spine), models.grader)
    scaled = replace(volume, voxels=volume.voxels * np.float32(scale))
    again = grading.grade(discs.cut(scaled, spine), models.grader)
    for one, two in zip(plain, again, strict=True):
        for finding in one:
            assert two[finding].value == one[finding].value
            assert two[finding].probabilities == pytest.approx(one[finding].probabilities, abs=1e-3)


def test_a_grader_says_which_slices_it_goes_by(volume: SagittalVolume, spine: Spine, models: Models) -> None:
    cut = discs.cut(volume, spine)
    looked_at = grading.slices_looked_at(cut, models.grader)
    assert len(looked_at) == len(cut)
    for places, one in zip(looked_at, cut, strict=True):
        assert 4 in places  # the mid-slice
        assert one.slice_present[list(places)].all()
    lone = [replace(each, slice_present=np.arange(9) == 4) for each in cut]
    assert set(grading.slices_looked_at(lone, models.grader)) == {(4,)}
    assert grading.slices_looked_at((), models.grader) == ()
