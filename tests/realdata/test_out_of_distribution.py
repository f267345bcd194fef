"""Images that are no lumbar spine although their headers say so: declined, or flagged with their levels withheld.

What is real: a brain, and other cuts through real lumbar stacks. No knee, neck or chest was there to try; a neck is
stood in for by a lumbar spine of its size.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pydicom
import pytest

from inference import pipeline
from inference.report import Declined, Report
from inference.training import spider
from inference.volume import SagittalVolume, SliceSource, upright
from inference.weights import Models, load_models
from tests.report_factories import source_instances
from tests.volume_transforms import regrey, thick

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(600)]

SERVICE_WITHHOLDS_BELOW = 0.5


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models("cpu")


@pytest.fixture(scope="module", params=(45, 81, 110))
def stack(request: pytest.FixtureRequest, data_root: Path) -> SagittalVolume:
    return upright(spider.read_stack(data_root / "spider", request.param))


def graded(volume: SagittalVolume, models: Models) -> Report | Declined:
    """Through the door, as MR images whose headers say: sagittal T2 of the lumbar spine."""
    bright = float(np.percentile(volume.voxels, 99.5))
    return pipeline.grade(
        source_instances(regrey(volume, 1000 / bright)),
        models,
        clock=time.perf_counter,
        with_evidence=False,
        withhold_levels_below=SERVICE_WITHHOLDS_BELOW,
    )


def as_sagittal(voxels: np.ndarray, step_mm: float, row_mm: float, column_mm: float) -> SagittalVolume:
    """Any images, placed as sagittal ones."""
    affine = np.array([[-step_mm, 0, 0, 0], [0, 0, column_mm, 0], [0, -row_mm, 0, 0], [0, 0, 0, 1.0]])
    return SagittalVolume(
        voxels=np.ascontiguousarray(voxels, np.float32),
        voxel_to_patient=affine,
        sources=tuple(SliceSource(sop_instance_uid=f"1.2.{k}", frame=1) for k in range(len(voxels))),
        series_instance_uid="1.2",
        series_description="T2 SAG LSPINE",
    )


@pytest.mark.parametrize("every", [1, 4])
def test_a_brain_is_declined_whatever_its_header_says(data_root: Path, models: Models, every: int) -> None:
    paths = sorted((data_root / "enhanced_vs_classic" / "classic").glob("*.dcm"))
    slices = sorted((pydicom.dcmread(path) for path in paths), key=lambda each: float(each.ImagePositionPatient[0]))
    voxels = np.stack([each.pixel_array for each in slices])[::every].repeat(2, 1).repeat(2, 2)
    pixel_mm = float(slices[0].PixelSpacing[0]) / 2
    outcome = graded(as_sagittal(voxels, float(every), pixel_mm, pixel_mm), models)
    assert isinstance(outcome, Declined)
    assert "No lumbar spine was found" in outcome.reason


def test_axial_slices_are_declined(stack: SagittalVolume, models: Models) -> None:
    across, row, column = stack.spacing_mm
    axial = stack.voxels[:, ::8].transpose(1, 2, 0).repeat(2, axis=2)
    assert isinstance(graded(as_sagittal(axial, 8 * row, column, across / 2), models), Declined)


def test_coronal_slices_are_declined(stack: SagittalVolume, models: Models) -> None:
    across, row, column = stack.spacing_mm
    coronal = stack.voxels[:, :, ::8].transpose(2, 1, 0).repeat(2, axis=2)
    assert isinstance(graded(as_sagittal(coronal, 8 * column, row, across / 2), models), Declined)


def test_a_spine_on_its_side_is_declined(stack: SagittalVolume, models: Models) -> None:
    series = thick(stack, 4)
    lying = np.rot90(series.voxels, axes=(1, 2))
    assert isinstance(graded(as_sagittal(lying, 4.0, series.spacing_mm[2], series.spacing_mm[1]), models), Declined)


def test_a_spine_as_small_as_a_neck_is_declined(stack: SagittalVolume, models: Models) -> None:
    series = thick(stack, 4)
    pixels_mm = [step / 2 for step in series.spacing_mm[1:]]
    assert isinstance(graded(as_sagittal(series.voxels, 4.0, *pixels_mm), models), Declined)


@pytest.mark.parametrize("way", ["upside down", "front to back", "only its upper half"])
def test_a_spine_without_its_sacrum_where_it_belongs_gets_no_level_names(
    stack: SagittalVolume, models: Models, way: str
) -> None:
    series = thick(stack, 4)
    rows = max(int(0.48 * series.voxels.shape[1]), int(145 / series.spacing_mm[1]))
    changed = {
        "upside down": series.voxels[:, ::-1],
        "front to back": series.voxels[:, :, ::-1],
        "only its upper half": series.voxels[:, :rows],
    }[way]
    outcome = graded(as_sagittal(changed, *series.spacing_mm), models)
    if isinstance(outcome, Report):
        assert all(disc.withheld_place is not None for disc in outcome.discs)
        assert any("Level names are withheld" in sentence for sentence in outcome.quality)
