"""The phantom: complete DICOM, the same bytes each time, and anatomy where its truth says it is."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from inference import phantom
from inference.anatomy import DiscLevel
from inference.grades import CLASSES, Finding
from inference.phantom_anatomy import CONDITIONS
from inference.selection import choose
from inference.stacking import stack
from inference.volume import SagittalVolume


@pytest.fixture(scope="module")
def study(lumbar_study: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(lumbar_study.iterdir())]


@pytest.fixture(scope="module")
def volume(study: list[Dataset]) -> SagittalVolume:
    return stack(choose(study).instances).volume


def test_it_is_a_usual_lumbar_protocol(study: list[Dataset]) -> None:
    counts: dict[str, int] = {}
    for image in study:
        counts[image.SeriesDescription] = counts.get(image.SeriesDescription, 0) + 1
    assert counts == {"LOCALIZER": 9, "T2_TSE_SAG": 15, "T1_TSE_SAG": 15, "STIR_TSE_SAG": 15, "T2_TSE_TRA": 20}


def test_it_is_one_study_of_nobody(study: list[Dataset]) -> None:
    assert {str(image.PatientName) for image in study} == {"Phantom^Lumbar"}
    assert {image.PatientID for image in study} == {"SPINENODE-DEMO"}
    assert len({image.StudyInstanceUID for image in study}) == 1
    assert len({image.SOPInstanceUID for image in study}) == 74


def test_the_choice_of_series_is_real(study: list[Dataset]) -> None:
    choice = choose(study)
    assert choice.instances[0].SeriesDescription == "T2_TSE_SAG"
    assert sorted(item.reason for item in choice.rejected) == [
        "STIR (TE 52 ms, TR 4200 ms, TI 160 ms)",
        "T1-weighted (TE 11 ms, TR 560 ms)",
        "axial",
        "localizer or mixed planes (3 sagittal, 3 coronal, 3 axial)",
    ]


def test_the_t2_volume_is_15_slices_a_little_askew(volume: SagittalVolume) -> None:
    assert volume.voxels.shape == (15, 384, 384)
    assert volume.spacing_mm == pytest.approx((4.4, 0.78125, 0.78125))
    assert 0.01 < abs(volume.voxel_to_patient[1, 0]) < 0.5  # not parallel to the patient's planes


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(study: list[Dataset]) -> None:
    again = {image.SOPInstanceUID: image for image in phantom.lumbar_study(seed=0)}
    assert all(again[image.SOPInstanceUID].PixelData == image.PixelData for image in study)
    other = phantom.lumbar_study(seed=1)
    assert not {image.SOPInstanceUID for image in other} & set(again)


def brightness(volume: SagittalVolume, place: np.ndarray, radius: int = 2) -> float:
    """Mean over a square about a place, in the nearest slice."""
    slice_index, row, column = np.rint(volume.to_voxel(place)).astype(int)
    square = np.s_[row - radius : row + radius + 1, column - radius : column + radius + 1]
    return float(volume.voxels[slice_index][square].mean())


def test_every_disc_lies_in_the_middle_slice_between_brighter_bodies(volume: SagittalVolume) -> None:
    discs = phantom.truth(seed=0).discs
    assert [disc.level for disc in discs] == list(DiscLevel)[-7:]
    for upper, lower in itertools.pairwise(discs):
        assert volume.to_voxel(upper.center_lps_mm)[0] == pytest.approx(7, abs=0.2)
        body = brightness(volume, (upper.center_lps_mm + lower.center_lps_mm) / 2, radius=8)
        worn = [disc for disc in (upper, lower) if disc.grades[Finding.PFIRRMANN] >= 4]
        assert all(brightness(volume, disc.center_lps_mm) < 0.75 * body for disc in worn)


def test_discs_darken_with_their_pfirrmann_grade(volume: SagittalVolume) -> None:
    discs = [disc for disc in phantom.truth(seed=0).discs if disc.level in list(DiscLevel)[-5:]]
    by_grade = sorted(discs, key=lambda disc: disc.grades[Finding.PFIRRMANN])
    levels = [brightness(volume, disc.center_lps_mm, radius=1) for disc in by_grade]
    assert [disc.grades[Finding.PFIRRMANN] for disc in by_grade] == [1, 2, 3, 4, 5]
    assert levels == sorted(levels, reverse=True)


def test_truth_follows_the_conditions_built_in() -> None:
    healthy = {
        level: replace(condition, pfirrmann=1, height_mm=10.0, bulge_mm=0.0, slip_mm=0.0, fatty_marrow=False)
        for level, condition in CONDITIONS.items()
    }
    for disc in phantom.truth(seed=0, conditions=healthy).discs:
        assert disc.grades == {finding: CLASSES[finding][0] for finding in disc.grades}
    slipped = next(disc for disc in phantom.truth(seed=0).discs if disc.level is DiscLevel.L4_L5)
    assert slipped.slip_mm == 6.5
    assert slipped.grades[Finding.SPONDYLOLISTHESIS] == 1
    assert slipped.grades[Finding.DISC_NARROWING] == 2


def test_headers_repeat_exactly_what_the_geometry_needs(study: list[Dataset]) -> None:
    for image in study:
        assert all(len(str(value)) <= 16 for value in image.ImagePositionPatient)
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert len(image.SOPInstanceUID) <= 64


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_the_shipped_localiser_finds_and_names_every_disc(seed: int) -> None:
    """The network has seen real scans only: that it finds these discs says that the phantom looks like one."""
    from inference import detection, labelling, weights

    volume = stack(choose(phantom.lumbar_study(seed)).instances).volume
    spine = labelling.name(detection.find(volume, weights.load_localiser("cpu")))

    expected = {disc.level: disc.center_lps_mm for disc in phantom.truth(seed).discs}
    found = {disc.level: disc.center_lps_mm for disc in spine.discs}
    assert list(found) == list(expected)
    for level, center in expected.items():
        sideways, *in_plane = found[level] - center
        assert np.linalg.norm(in_plane) < 2.0
        assert abs(sideways) < 9.0, "two slices: that a drawn sac fades to the sides teaches no network its middle"
    assert min(disc.level_confidence for disc in spine.discs) > 0.5


@pytest.mark.peers
def test_dciodvfy_finds_no_error(lumbar_study: Path, require_program: Callable[[str], Path]) -> None:
    dciodvfy = require_program("dciodvfy")
    for path in sorted(lumbar_study.iterdir()):
        told = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False)
        assert "Error" not in told.stderr + told.stdout, path.name
