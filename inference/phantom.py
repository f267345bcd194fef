"""A synthetic lumbar MR study whose answers are known, as complete DICOM images: for the demo and for tests.

The same seed gives the same bytes. It shows no person, and no number read off it says how good grading is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from inference import phantom_anatomy, phantom_images
from inference.anatomy import DiscLevel
from inference.grades import Finding
from inference.phantom_anatomy import CONDITIONS, DiscCondition, Skeleton
from inference.phantom_canvas import FRONT_MM, TOP_MM
from inference.phantom_dicom import Plane, Series, mr_image
from inference.phantom_images import PIXEL_MM, STEP_MM
from inference.phantom_tissues import STIR, T1, T2, Contrast
from inference.volume import FloatArray, VoxelArray

SLICES = 15
SLICE_STEP_MM = 2 * STEP_MM
SLICE_THICKNESS_MM = 4.0
AXIAL_SLICES = 20
AXIAL_STEP_MM = 5.0
TURN_DEG = (1.5, -1.0, 3.0)
"""The patient lies a little askew: turned about x, y, z."""
ISOCENTRE_LPS_MM = np.array([4.0, 12.0, -6.0])
"""Where the phantom's origin (the centre of L3) lies."""
ORIGINAL = ("ORIGINAL", "PRIMARY", "M", "NORM")
SLIPPED_MM = 3.0
NARROW_MM = 7.5
BULGING_MM = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscTruth:
    """What was built into one disc."""

    level: DiscLevel
    center_lps_mm: FloatArray
    """(3,) in the midline."""
    height_mm: float
    slip_mm: float
    grades: Mapping[Finding, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """The answers, head to foot."""

    discs: tuple[DiscTruth, ...]


def lumbar_study(seed: int = 0, conditions: Mapping[DiscLevel, DiscCondition] = CONDITIONS) -> tuple[Dataset, ...]:
    """All images of one study: localizer, sagittal T2, T1 and STIR, axial T2; with file meta information."""
    skeleton = _skeleton(seed, conditions)
    body = phantom_images.paint(skeleton, seed)
    noise = np.random.default_rng([seed, 2_000])
    volume = body.sections(T2, 0, phantom_images.SECTIONS)
    study = _Study(seed=seed)
    localizer = list(_localizer(study, volume, noise))
    sagittals = [
        image
        for number, contrast in ((2, T2), (3, T1), (4, STIR))
        for image in _sagittal(study, number, contrast, phantom_images.sagittal(body, contrast, SLICES, noise))
    ]
    return (*localizer, *sagittals, *_axial(study, skeleton, volume, noise))


def truth(seed: int = 0, conditions: Mapping[DiscLevel, DiscCondition] = CONDITIONS) -> Truth:
    """What ``lumbar_study`` of the same arguments shows. Discs that reach out of the images are left out."""
    skeleton = _skeleton(seed, conditions)
    discs = []
    for level in sorted(conditions, key=list(DiscLevel).index):
        upper, lower = skeleton.block(level.upper_vertebra.value), skeleton.block(level.lower_vertebra.value)
        y, z = np.concatenate([upper.corners[2:], lower.corners[:2]]).mean(axis=0)
        if z > TOP_MM - 12:
            continue
        condition = conditions[level]
        discs.append(
            DiscTruth(
                level=level,
                center_lps_mm=_to_patient(np.array([0.0, y, z])),
                height_mm=condition.height_mm,
                slip_mm=condition.slip_mm,
                grades=_grades(condition),
            )
        )
    return Truth(discs=tuple(discs))


def _grades(condition: DiscCondition) -> dict[Finding, int]:
    return {
        Finding.PFIRRMANN: condition.pfirrmann,
        Finding.DISC_NARROWING: 2 if condition.height_mm < NARROW_MM and condition.pfirrmann >= 3 else 1,
        Finding.UPPER_MARROW_CHANGE: int(condition.fatty_marrow),
        Finding.LOWER_MARROW_CHANGE: int(condition.fatty_marrow),
        Finding.SPONDYLOLISTHESIS: int(condition.slip_mm >= SLIPPED_MM),
        Finding.DISC_BULGING: int(condition.bulge_mm >= BULGING_MM),
    }


def _skeleton(seed: int, conditions: Mapping[DiscLevel, DiscCondition]) -> Skeleton:
    return phantom_anatomy.build(conditions, np.random.default_rng([seed, 0]))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Study:
    seed: int

    def uid(self, *parts: object) -> str:
        """The same for the same seed and parts; under 2.25 as a UUID would be (PS3.5 B.2)."""
        text = "/".join(str(part) for part in ("spinenode phantom", self.seed, *parts))
        return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"


def _rotation() -> FloatArray:
    """(3, 3) phantom axes -> LPS."""
    a, b, c = np.radians(TURN_DEG)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def _to_patient(points_mm: FloatArray) -> FloatArray:
    """(..., 3) phantom mm -> (..., 3) LPS mm."""
    return np.asarray(points_mm @ _rotation().T + ISOCENTRE_LPS_MM)


def _to_phantom(points_lps_mm: FloatArray) -> FloatArray:
    return np.asarray((points_lps_mm - ISOCENTRE_LPS_MM) @ _rotation())


def _sagittal(study: _Study, number: int, contrast: Contrast, images: NDArray[np.uint16]) -> Iterator[Dataset]:
    rotation = _rotation()
    series = Series(number=number, contrast=contrast, image_type=ORIGINAL, uid=study.uid)
    for index, pixels in enumerate(images):
        x_mm = (index - (SLICES - 1) / 2) * SLICE_STEP_MM
        corner = np.array([x_mm, FRONT_MM + PIXEL_MM / 2, TOP_MM - PIXEL_MM / 2])
        plane = Plane(
            position_lps_mm=_to_patient(corner),
            row_direction=rotation[:, 1],
            column_direction=-rotation[:, 2],
            spacing_mm=PIXEL_MM,
            thickness_mm=SLICE_THICKNESS_MM,
            step_mm=SLICE_STEP_MM,
        )
        yield mr_image(pixels, plane, series, index + 1)


def _axial(study: _Study, skeleton: Skeleton, volume: VoxelArray, noise: np.random.Generator) -> Iterator[Dataset]:
    size, pixel_mm = 256, 0.7
    rotation = _rotation()
    series = Series(number=5, contrast=replace(T2, name="T2_TSE_TRA"), image_type=ORIGINAL, uid=study.uid)
    bottom = skeleton.block("S1").corners[:2].mean(axis=0)[1] - 10
    half = (size - 1) / 2 * pixel_mm
    for index in range(AXIAL_SLICES):
        corner = np.array([-half, -60.0, bottom + index * AXIAL_STEP_MM])
        plane = Plane(
            position_lps_mm=_to_patient(corner),
            row_direction=rotation[:, 0],
            column_direction=rotation[:, 1],
            spacing_mm=pixel_mm,
            thickness_mm=SLICE_THICKNESS_MM,
            step_mm=AXIAL_STEP_MM,
        )
        pixels = phantom_images.cut(volume, _to_phantom(plane.points_lps_mm(size)), noise)
        yield mr_image(pixels, plane, series, index + 1)


def _localizer(study: _Study, volume: VoxelArray, noise: np.random.Generator) -> Iterator[Dataset]:
    """Three images in each of the three planes of the scanner, in one series."""
    size, pixel_mm, step_mm = 256, 1.5, 15.0
    scout = replace(T2, name="LOCALIZER", echo_time_ms=80.0, repetition_time_ms=1100.0)
    series = Series(number=1, contrast=scout, image_type=ORIGINAL, uid=study.uid)
    x, y, z = np.eye(3)
    number = 0
    for row, column in ((y, -z), (x, -z), (x, y)):
        for offset in (-step_mm, 0.0, step_mm):
            number += 1
            center = ISOCENTRE_LPS_MM + [0.0, -10.0, -11.0] + offset * np.cross(row, column)
            plane = Plane(
                position_lps_mm=center - (row + column) * (size - 1) / 2 * pixel_mm,
                row_direction=row,
                column_direction=column,
                spacing_mm=pixel_mm,
                thickness_mm=8.0,
                step_mm=step_mm,
            )
            pixels = phantom_images.cut(volume, _to_phantom(plane.points_lps_mm(size)), noise)
            yield mr_image(pixels, plane, series, number)
