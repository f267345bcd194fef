"""Spine -> one DiscVolume per disc: turned to the disc's axis, sized by its width, scaled by its bone.

The recipe is SpineNet's (Jamaludin 2017): a region twice as wide as the disc and as tall as it is wide, 112 x 224
pixels, 9 slices about the disc's own mid-slice, intensities divided by the median of the neighbouring vertebral
bodies. Where it departs:

* Slices are native, never interpolated across; but where they lie closer than about 4 mm only every n-th is taken
  (``SLICE_STEP_MM``), so that 9 slices of a 3-D acquisition span the disc as 9 slices of a clinical one do.
* The width is the mean of the disc's own and the study's median: a destroyed disc's own width is unsure.
* The bone reference of a disc may not leave the study's by more than a factor of 1.5: one fractured, cemented or
  metastatic body must not brighten or darken its disc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inference import zones
from inference.anatomy import Disc, DiscLevel, Spine, VertebralBody
from inference.descriptors import BONE, CutDisc, describe
from inference.geometry import DiscFrame, frame_of, neighbours
from inference.volume import DiscVolume, FloatArray, SagittalVolume, VoxelArray, upright

SLICES, ROWS, COLUMNS = 9, 112, 224
MID = SLICES // 2
SLICE_STEP_MM = 4.0
"""Usual distance of clinical sagittal slices."""
LARGEST_BONE_DEPARTURE = 1.5
LEAST_LEVEL_CONFIDENCE = 0.5
"""Below it a level's name is not believed; the node withholds such names too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Where and how one disc is cut from an upright volume."""

    disc: Disc
    frame: DiscFrame
    mm_per_px: float
    slice_indices: tuple[int, ...]
    """9 indices into the volume; outside of it where there is no such slice."""
    bone: float
    """Signal that becomes 0.25."""
    study_bone: float


def cut(volume: SagittalVolume, spine: Spine) -> tuple[DiscVolume, ...]:
    """One DiscVolume per disc, head to foot."""
    standing = upright(volume)
    plans = plan(standing, spine)
    patches = [resample(standing, each, ROWS, COLUMNS) for each in plans]
    places = [patch_to_patient(standing, each, ROWS, COLUMNS) for each in plans]
    described = [to_describe(*each, spine) for each in zip(plans, patches, places, strict=True)]
    features = describe(described)
    return tuple(
        DiscVolume(
            voxels=patch,
            slice_present=_present(each, standing),
            patch_to_patient=place,
            features=numbers,
            zones=zones.drawn(disc),
        )
        for each, patch, place, disc, numbers in zip(plans, patches, places, described, features, strict=True)
    )


def plan(standing: SagittalVolume, spine: Spine) -> tuple[Cut, ...]:
    """Where each disc of an upright volume is cut, head to foot."""
    down = standing.voxel_to_patient[:3, 1]
    normal = np.cross(standing.voxel_to_patient[:3, 1], standing.voxel_to_patient[:3, 2])
    frames = [frame_of(disc, down, normal) for disc in spine.discs]
    if not frames:
        return ()
    median_depth_mm = float(np.median([frame.depth_mm for frame in frames]))
    step = max(1, round(SLICE_STEP_MM / standing.spacing_mm[0]))
    bones = _bone_signals(standing, spine)
    study_bone = float(np.median(list(bones.values()))) if bones else _fallback_bone(standing, frames, spine)
    return tuple(
        Cut(
            disc=disc,
            frame=frame,
            mm_per_px=(frame.depth_mm + median_depth_mm) / COLUMNS,
            slice_indices=tuple(disc.slice_index + step * (k - MID) for k in range(SLICES)),
            bone=_bone_of(disc, spine, bones, study_bone),
            study_bone=study_bone,
        )
        for disc, frame in zip(spine.discs, frames, strict=True)
    )


def resample(standing: SagittalVolume, where: Cut, rows: int, columns: int) -> VoxelArray:
    """(9, rows, columns) float32 in 0-1 about the disc's centre; 0 outside the image and for absent slices."""
    available = [k for k, index in enumerate(where.slice_indices) if 0 <= index < standing.voxels.shape[0]]
    stack = standing.voxels[[where.slice_indices[k] for k in available]]
    affine = np.linalg.inv(standing.voxel_to_patient) @ patch_to_patient(standing, where, rows, columns)
    patch = np.zeros((SLICES, rows, columns), np.float32)
    patch[available] = _resampled(stack, affine, rows, columns)
    scaled: VoxelArray = np.clip(patch * np.float32(BONE / where.bone), 0.0, 1.0)
    return scaled


def _resampled(stack: VoxelArray, affine: FloatArray, rows: int, columns: int) -> VoxelArray:
    """(n, h, w) -> (n, rows, columns), linearly, 0 outside. ``affine``: patch (slice, row, column, 1) to image."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(stack, 0, -1)), isVector=True)
    first, row_step, column_step = (affine @ [MID, 0, 0, 1])[1:3], affine[1:3, 1], affine[1:3, 2]
    # From output (column, row) to input (column, row): ITK's axes run the other way than numpy's.
    transform: Any = sitk.AffineTransform(2)  # type: ignore[no-untyped-call]
    transform.SetMatrix([column_step[1], row_step[1], column_step[0], row_step[0]])
    transform.SetTranslation([first[1], first[0]])
    grid: Any = sitk.Image([columns, rows], sitk.sitkFloat32)  # type: ignore[no-untyped-call]
    moved = sitk.Resample(image, grid, transform, sitk.sitkLinear, 0.0, sitk.sitkVectorFloat32)
    array: VoxelArray = sitk.GetArrayFromImage(moved).reshape(rows, columns, len(stack))
    return np.moveaxis(array, -1, 0)


def patch_to_patient(standing: SagittalVolume, where: Cut, rows: int, columns: int) -> FloatArray:
    """4 x 4 from (slice, row, column, 1) of the patch to LPS mm."""
    slice_step = standing.voxel_to_patient[:3, 0] * (where.slice_indices[1] - where.slice_indices[0])
    affine = np.eye(4)
    affine[:3, 0] = slice_step
    affine[:3, 1] = where.frame.across * where.mm_per_px
    affine[:3, 2] = where.frame.axis * where.mm_per_px
    affine[:3, 3] = _on_slice(standing, where) - affine[:3, :3] @ [MID, (rows - 1) / 2, (columns - 1) / 2]
    return affine


def _on_slice(standing: SagittalVolume, where: Cut) -> FloatArray:
    """The disc's centre, moved along the slice axis onto its mid-slice (it should lie there already)."""
    voxel = standing.to_voxel(where.frame.center_lps_mm)
    voxel[0] = where.disc.slice_index
    return standing.to_patient(voxel)


def _present(where: Cut, standing: SagittalVolume) -> NDArray[np.bool_]:
    return np.array([0 <= index < standing.voxels.shape[0] for index in where.slice_indices])


def _bone_signals(standing: SagittalVolume, spine: Spine) -> dict[str, float]:
    """Median signal of each body's inner part, on the mid-slice of the disc next to it and its two neighbours."""
    slices = {disc.level.upper_vertebra: disc.slice_index for disc in spine.discs}
    slices |= {
        disc.level.lower_vertebra: disc.slice_index for disc in spine.discs if disc.level.lower_vertebra not in slices
    }
    signals = {}
    for body in spine.bodies:
        if body.level not in slices:
            continue
        near = range(max(slices[body.level] - 1, 0), min(slices[body.level] + 2, standing.voxels.shape[0]))
        mask = _body_mask(standing, body)
        if mask.sum() < 20:
            continue
        signal = float(np.median(standing.voxels[list(near)][:, mask]))
        if signal > 0:
            signals[body.level.value] = signal
    return signals


def _body_mask(standing: SagittalVolume, body: VertebralBody) -> NDArray[np.bool_]:
    """(rows, columns) inner part of a body: its corners drawn in by a sixth, away from cortex and discs."""
    corners = standing.to_voxel(body.corners_lps_mm)[:, 1:]
    center = corners.mean(axis=0)
    inner = center + (corners - center) * (5 / 6)
    canvas = Image.new("1", standing.voxels.shape[:0:-1])
    ImageDraw.Draw(canvas).polygon([(float(column), float(row)) for row, column in inner], fill=1)
    return np.asarray(canvas, bool)


def _bone_of(disc: Disc, spine: Spine, bones: dict[str, float], study_bone: float) -> float:
    around = [bones[b.level.value] for b in neighbours(disc, spine) if b is not None and b.level.value in bones]
    local = float(np.mean(around)) if around else study_bone
    return float(np.clip(local, study_bone / LARGEST_BONE_DEPARTURE, study_bone * LARGEST_BONE_DEPARTURE))


def _fallback_bone(standing: SagittalVolume, frames: Sequence[DiscFrame], spine: Spine) -> float:
    """No body was seen: the signal half a disc width above and below each disc's centre is most likely bone."""
    signals = []
    for disc, frame in zip(spine.discs, frames, strict=True):
        for sign in (-1, 1):
            spot = (
                standing.to_voxel(frame.center_lps_mm + sign * 0.5 * frame.depth_mm * frame.across).round().astype(int)
            )
            row, column = spot[1], spot[2]
            signals.append(
                standing.voxels[disc.slice_index, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            )
    values = np.concatenate([signal.ravel() for signal in signals])
    positive = values[values > 0]
    return float(np.median(positive)) if positive.size else 1.0


def to_describe(where: Cut, patch: VoxelArray, place: FloatArray, spine: Spine) -> CutDisc:
    """What describing needs of a disc cut as planned: ``patch`` (9, rows, columns), ``place`` its patch to patient."""
    inverse = np.linalg.inv(place)

    def in_patch(points_lps_mm: FloatArray) -> FloatArray:
        moved: FloatArray = points_lps_mm @ inverse[:3, :3].T + inverse[:3, 3]
        return moved[:, 1:]

    above, below = neighbours(where.disc, spine)
    canal = where.disc.canal_lps_mm
    return CutDisc(
        image=patch[MID],
        outline=in_patch(where.disc.outline_lps_mm),
        depth_px=where.frame.depth_mm / where.mm_per_px,
        mm_per_px=where.mm_per_px,
        upper_corners=None if above is None else in_patch(above.corners_lps_mm),
        lower_corners=None if below is None else in_patch(below.corners_lps_mm),
        canal=None if canal is None else in_patch(canal),
        bone_scale=float(np.log(where.bone / where.study_bone)),
        tilt=float(-where.frame.axis[2]),
        level=_level_of(where.disc),
    )


def _level_of(disc: Disc) -> float:
    """Counted headwards from L5/S1 = 1; NaN where the name is not sure."""
    if disc.level_confidence < LEAST_LEVEL_CONFIDENCE:
        return float("nan")
    return float(len(DiscLevel) - tuple(DiscLevel).index(disc.level))
