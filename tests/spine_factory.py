"""A drawn spine for tests of grading: bodies and discs as plain polygons, all positions known by construction."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from inference.anatomy import Disc, DiscLevel, Spine, Vertebra, VertebralBody
from inference.volume import FloatArray, SagittalVolume, SliceSource

BONE, DISC, CSF, ELSEWHERE = 400.0, 100.0, 800.0, 40.0
DEPTH_MM, HEIGHT_MM, BODY_MM, CANAL_MM = 36.0, 8.0, 28.0, 14.0
SPINENESS = (DiscLevel.L3_L4, DiscLevel.L4_L5, DiscLevel.L5_S1)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    volume: SagittalVolume
    spine: Spine


def drawn_spine(
    *, slices: int = 9, slice_step_mm: float = 4.0, tilt_deg: float = 0.0, slip_mm: float = 0.0, bone: float = BONE
) -> Drawn:
    """Three discs, the whole spine turned by ``tilt_deg`` in the image plane; the middle disc's upper neighbour, and
    all above it, stand ``slip_mm`` forward.

    Upright, 0.5 mm pixels, sagittal. The middle disc's centre lies at 0, 0, 0 on the middle slice.
    """
    middle = slices // 2
    rows = columns = 300
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-slice_step_mm, 0, 0], [0, 0, 0.5], [0, -0.5, 0]])
    affine[:3, 3] = -affine[:3, :3] @ [middle, (rows - 1) / 2, (columns - 1) / 2]
    turn = np.radians(tilt_deg)
    down, back = np.array([0, np.sin(turn), -np.cos(turn)]), np.array([0, np.cos(turn), np.sin(turn)])

    def at(below_mm: float, behind_mm: float) -> FloatArray:
        shift = slip_mm if below_mm < 0 else 0.0
        return below_mm * down + (behind_mm - shift) * back

    step = HEIGHT_MM + BODY_MM
    discs = tuple(_disc(level, middle, (i - 1) * step, at) for i, level in enumerate(SPINENESS))
    bodies = tuple(
        _body(v, (i - 1.5) * step, at) for i, v in enumerate((Vertebra.L3, Vertebra.L4, Vertebra.L5, Vertebra.S1))
    )
    spine = Spine(bodies=bodies, discs=discs, doubts=())
    volume = SagittalVolume(
        voxels=np.zeros((slices, rows, columns), np.float32),
        voxel_to_patient=affine,
        sources=tuple(SliceSource(sop_instance_uid=f"1.2.{k}", frame=1) for k in range(slices)),
        series_instance_uid="1.2",
        series_description="drawn",
    )
    return Drawn(volume=_painted(volume, bone, slip_mm, down=down, back=back), spine=spine)


def flipped(drawn: Drawn) -> Drawn:
    """The same patient, stored with rows from foot to head and columns from back to front."""
    volume, affine = drawn.volume, drawn.volume.voxel_to_patient.copy()
    for axis in (1, 2):
        affine[:3, 3] += affine[:3, axis] * (volume.voxels.shape[axis] - 1)
        affine[:3, axis] *= -1
    turned = replace(volume, voxels=np.ascontiguousarray(volume.voxels[:, ::-1, ::-1]), voxel_to_patient=affine)
    return Drawn(volume=turned, spine=drawn.spine)


def _disc(level, middle, below_mm, at):  # type: ignore[no-untyped-def]
    half, deep = HEIGHT_MM / 2, DEPTH_MM / 2
    line = [(0.0, -deep), (0.0, deep)]
    outline = [(-half, -deep), (-half, deep), (half, deep), (half, -deep)]
    canal = [(0.0, deep + 3), (0.0, deep + 3 + CANAL_MM)]

    def placed(points):  # type: ignore[no-untyped-def]
        # A disc does not shear with the slip: all of it is placed by its own centre.
        return np.array([at(below_mm, 0) + (at(below + 1e3, behind) - at(1e3, 0)) for below, behind in points])

    return Disc(
        level=level,
        level_confidence=0.9,
        slice_index=middle,
        outline_lps_mm=placed(outline),
        center_lps_mm=at(below_mm, 0),
        anterior_lps_mm=placed(line)[0],
        posterior_lps_mm=placed(line)[1],
        canal_lps_mm=placed(canal),
    )


def _body(level, below_mm, at):  # type: ignore[no-untyped-def]
    half, deep = BODY_MM / 2, DEPTH_MM / 2
    corners = [(-half, -deep), (-half, deep), (half, deep), (half, -deep)]
    return VertebralBody(level=level, corners_lps_mm=np.array([at(below_mm + b, behind) for b, behind in corners]))


def _painted(volume, bone, slip_mm, *, down, back):  # type: ignore[no-untyped-def]
    rows, columns = np.indices(volume.voxels.shape[1:])
    grid = np.stack([np.full(rows.shape, volume.voxels.shape[0] // 2), rows, columns], axis=-1).astype(float)
    place = volume.to_patient(grid)
    below, behind = place @ down, place @ back
    behind = behind + np.where(below < 0, slip_mm, 0.0)
    plane = np.full(rows.shape, ELSEWHERE)
    step = HEIGHT_MM + BODY_MM
    inside = (np.abs(behind) <= DEPTH_MM / 2) & (np.abs(below) <= 2 * step)
    plane[inside] = bone
    disc = np.abs((below + step / 2) % step - step / 2) <= HEIGHT_MM / 2
    plane[inside & disc & (np.abs(below) < 1.5 * step)] = DISC
    plane[(behind >= DEPTH_MM / 2 + 3) & (behind <= DEPTH_MM / 2 + 3 + CANAL_MM)] = CSF
    return replace(volume, voxels=np.repeat(plane[None].astype(np.float32), volume.voxels.shape[0], axis=0))
