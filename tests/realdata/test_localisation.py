"""The shipped localiser on real lumbar MRI: patients it was not trained on, and a volume of another hospital."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from torch import nn

from inference import detection, labelling
from inference.anatomy import DiscLevel, Spine
from inference.marks import Tissue
from inference.training import spider
from inference.training.localisation import held_out_patients
from inference.training.localisation_figures import wrong
from inference.training.localisation_scores import (
    BoxScore,
    boxes_of,
    score_cut,
    score_image,
    score_stack,
)
from inference.volume import FloatArray, SagittalVolume, SliceSource, Unsuitable
from inference.weights import load_localiser

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def localiser() -> nn.Module:
    return load_localiser("cpu")


@pytest.fixture(scope="module")
def spider_root(data_root: Path) -> Path:
    return data_root / "spider"


@pytest.fixture(scope="module")
def boxed(spider_root: Path) -> tuple[tuple[spider.MidsagittalImage, FloatArray], ...]:
    """Images with boxes of the patients that the shipped network has not seen."""
    unseen = held_out_patients(spider_root)
    images = [each for each in spider.midsagittal_images(spider_root) if each.patient in unseen]
    boxes = boxes_of(spider_root, images)
    return tuple((image, boxes[image.name]) for image in images if image.name in boxes)


@pytest.fixture(scope="module")
def scores(
    boxed: tuple[tuple[spider.MidsagittalImage, FloatArray], ...], spider_root: Path, localiser: nn.Module
) -> tuple[BoxScore, ...]:
    rows = (score_image(spider.read_midsagittal(spider_root, image), image, boxes, localiser) for image, boxes in boxed)
    return tuple(row.against_boxes for row in rows if row.against_boxes is not None)


def test_discs_of_unseen_patients_are_found_and_little_else(scores: tuple[BoxScore, ...]) -> None:
    boxes, found, extra = (sum(getattr(each, name) for each in scores) for name in ("boxes", "found", "extra"))
    assert sum(each.missed_inside for each in scores) / boxes <= 0.01
    assert found / boxes >= 0.96  # the rest is cut by the upper edge of the image, and rightly not graded
    assert found / (found + extra) >= 0.97


def test_centres_lie_within_a_disc_height(scores: tuple[BoxScore, ...]) -> None:
    errors = np.array([error for each in scores for error in each.center_errors_mm])
    assert np.median(errors) <= 2.0
    assert np.percentile(errors, 95) <= 5.0


def test_levels_of_unseen_patients_are_right(scores: tuple[BoxScore, ...]) -> None:
    assert sum(each.levels_right for each in scores) / len(scores) >= 0.95


@pytest.mark.parametrize("where", ["through L5", "through L4"])
def test_an_image_without_l5_s1_is_seldom_named_wrong_with_confidence(
    where: str,
    boxed: tuple[tuple[spider.MidsagittalImage, FloatArray], ...],
    spider_root: Path,
    localiser: nn.Module,
) -> None:
    rows = [
        score_cut(where, spider.read_midsagittal(spider_root, image), image, boxes, localiser) for image, boxes in boxed
    ]
    assert sum(wrong(row) and row.confidence >= 0.5 for row in rows) <= 0.1 * len(rows)


def test_another_hospitals_volume_that_ends_in_l5_s1(data_root: Path, localiser: nn.Module) -> None:
    """Healthy volunteer, 38 slices of 1 mm; the lowest complete disc is L4/L5, L5/S1 is cut off."""
    volume = spider.read_nifti(data_root / "lumbar_t2" / "t2_lumbar.nii.gz")
    spine = labelling.name(detection.find(volume, localiser))
    lowest = spine.discs[-1]
    assert lowest.level is DiscLevel.L4_L5 or lowest.level_confidence < 0.5
    assert lowest.level_confidence < 0.5
    assert spine.doubts
    assert len(spine.discs) == 6
    assert all(disc.canal_lps_mm is not None for disc in spine.discs)


@pytest.fixture(scope="module")
def held_out_stack(spider_root: Path) -> tuple[int, SagittalVolume]:
    patient = min(set(spider.stack_patients(spider_root)) & held_out_patients(spider_root))
    return patient, spider.read_stack(spider_root, patient)


def thick(volume: SagittalVolume, slices: int) -> SagittalVolume:
    """Neighbouring slices averaged, as a clinical series of ``slices`` mm would show them."""
    count = len(volume.voxels) // slices
    voxels = volume.voxels[: count * slices].reshape(count, slices, *volume.voxels.shape[1:]).mean(axis=1)
    affine = volume.voxel_to_patient.copy()
    affine[:3, 3] += affine[:3, 0] * (slices - 1) / 2
    affine[:3, 0] *= slices
    sources = tuple(SliceSource(sop_instance_uid=f"1.{k}", frame=1) for k in range(count))
    return replace(volume, voxels=voxels.astype(np.float32), voxel_to_patient=affine, sources=sources)


def test_thick_and_thin_slices_of_one_patient_agree(
    held_out_stack: tuple[int, SagittalVolume], localiser: nn.Module
) -> None:
    _, volume = held_out_stack
    thin, clinical = (labelling.name(detection.find(each, localiser)) for each in (volume, thick(volume, 4)))
    assert [disc.level for disc in thin.discs] == [disc.level for disc in clinical.discs]
    for one, two in zip(thin.discs, clinical.discs, strict=True):
        assert np.linalg.norm((one.center_lps_mm - two.center_lps_mm)[1:]) < 2.5


def test_segmentation_of_an_unseen_stack(
    held_out_stack: tuple[int, SagittalVolume], spider_root: Path, localiser: nn.Module
) -> None:
    scored = score_stack(spider_root, held_out_stack[0], localiser).dice
    assert scored[Tissue.DISC] > 0.84
    assert scored[Tissue.VERTEBRA] > 0.86
    assert scored[Tissue.CANAL] > 0.82


def test_a_brain_is_not_taken_for_a_lumbar_spine(data_root: Path, localiser: nn.Module) -> None:
    datasets = [pydicom.dcmread(path) for path in sorted((data_root / "enhanced_vs_classic" / "classic").glob("*.dcm"))]
    voxels = np.stack([each.pixel_array.astype(np.float32) for each in datasets])
    affine = np.eye(4)
    rows_mm, columns_mm = (float(step) for step in datasets[0].PixelSpacing)
    affine[:3, :3] = np.array([[-1.0, 0, 0], [0, 0, columns_mm], [0, -rows_mm, 0]])
    brain = SagittalVolume(
        voxels=voxels,
        voxel_to_patient=affine,
        sources=tuple(SliceSource(sop_instance_uid=f"1.{k}", frame=1) for k in range(len(voxels))),
        series_instance_uid="1",
        series_description="",
    )
    with pytest.raises(Unsuitable, match="No lumbar spine was found"):
        labelling.name(detection.find(brain, localiser))


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_not_taken_for_a_lumbar_spine(seed: int, localiser: nn.Module) -> None:
    voxels = np.random.default_rng(seed).normal(100, 30, (3, 300, 300)).astype(np.float32)
    affine = np.array([[-4.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    noise = SagittalVolume(
        voxels=voxels,
        voxel_to_patient=affine,
        sources=tuple(SliceSource(sop_instance_uid=f"1.{k}", frame=1) for k in range(3)),
        series_instance_uid="1",
        series_description="",
    )
    with pytest.raises(Unsuitable, match="No lumbar spine was found"):
        labelling.name(detection.find(noise, localiser))


def test_bodies_stand_between_their_discs_and_have_their_size(
    held_out_stack: tuple[int, SagittalVolume], localiser: nn.Module
) -> None:
    """Adult lumbar bodies are about 20-36 mm tall and 24-45 mm deep."""
    spine: Spine = labelling.name(detection.find(held_out_stack[1], localiser))
    for body in spine.bodies:
        if body.level.startswith("L"):
            top, bottom = body.corners_lps_mm[:2], body.corners_lps_mm[3:1:-1]
            assert 17 < np.linalg.norm(top.mean(axis=0) - bottom.mean(axis=0)) < 38
            assert 22 < np.linalg.norm(body.corners_lps_mm[1] - body.corners_lps_mm[0]) < 48
