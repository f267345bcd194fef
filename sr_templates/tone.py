"""How signal becomes grey: chosen from the spine itself, so that bone, disc and fluid can all be read.

A surface coil makes what lies near it several times as bright as the vertebral bodies. A window of the whole image,
or of a box that holds fat, then leaves the spine dark.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inference.report import Report
from inference.volume import FloatArray, SagittalVolume, VoxelArray
from sr_templates.overlay import Tone

MARROW_GREY = 0.34
"""Marrow is shown at least this bright (0-1): a third leaves room for darker discs and much room for brighter fluid."""
STEEPEST_GAMMA = 0.45
"""Below this, noise of the background would look like tissue."""
BEHIND_DISC_MM = 14.0
"""The spinal canal lies within this distance behind the discs (a normal one is about 15 mm deep)."""
BEFORE_DISC_MM = 2.0
MARROW_HALF_MM = 5.0
"""Half side of the square that is looked at in each vertebral body; bodies are about 25 mm high."""


def spine_tone(report: Report, volume: SagittalVolume) -> Tone:
    """The tone of a report's pictures; ``volume`` is the report's, upright."""
    corridor = _corridor(report, volume)
    black, white = (float(level) for level in np.percentile(corridor, (0.5, 99.0)))
    if white <= black:
        return Tone(black=black, white=black + 1e-6, gamma=1.0)
    marrow = float(np.median(_marrow(report, volume, corridor)))
    share = (marrow - black) / (white - black)
    gamma = np.log(MARROW_GREY) / np.log(share) if 0.0 < share < MARROW_GREY else 1.0
    return Tone(black=black, white=white, gamma=float(max(gamma, STEEPEST_GAMMA)))


def _corridor(report: Report, volume: SagittalVolume) -> VoxelArray:
    """Voxels of the bodies, discs and canal on the discs' mid-slices: a band that follows the discs."""
    outlines = [volume.to_voxel(disc.outline_lps_mm) for disc in report.discs]
    outlines.sort(key=lambda outline: float(outline[:, 1].mean()))
    middles = [float(outline[:, 1].mean()) for outline in outlines]
    column_mm = volume.spacing_mm[2]
    front = [float(outline[:, 2].min()) - BEFORE_DISC_MM / column_mm for outline in outlines]
    back = [float(outline[:, 2].max()) + BEHIND_DISC_MM / column_mm for outline in outlines]
    _, row_count, column_count = volume.voxels.shape
    first = int(np.clip(min(o[:, 1].min() for o in outlines), 0, row_count - 1))
    last = int(np.clip(max(o[:, 1].max() for o in outlines), first, row_count - 1))
    rows = np.arange(first, last + 1)
    columns = np.arange(column_count)
    from_column, to_column = (np.interp(rows, middles, edge)[:, None] for edge in (front, back))
    inside = (columns >= from_column) & (columns <= to_column)
    slices = sorted({disc.slice_index for disc in report.discs})
    band: VoxelArray = volume.voxels[slices][:, first : last + 1][:, inside]
    return band if band.size else volume.voxels[slices]


def _marrow(report: Report, volume: SagittalVolume, otherwise: VoxelArray) -> NDArray[np.float32]:
    """Voxels about the middles between neighbouring discs, which lie in the vertebral bodies."""
    centers = [disc.center_lps_mm for disc in report.discs]
    squares = [_square(volume, (upper + lower) / 2) for upper, lower in pairwise(centers)]
    filled = [square.ravel() for square in squares if square.size]
    return np.concatenate(filled) if filled else otherwise.ravel()


def _square(volume: SagittalVolume, center_lps_mm: FloatArray) -> VoxelArray:
    at = volume.to_voxel(center_lps_mm)
    index = int(np.clip(round(float(at[0])), 0, volume.voxels.shape[0] - 1))
    half = MARROW_HALF_MM / np.array(volume.spacing_mm[1:])
    low = np.maximum(np.round(at[1:] - half), 0).astype(int)
    high = np.maximum(np.round(at[1:] + half).astype(int) + 1, low)
    return volume.voxels[index, low[0] : high[0], low[1] : high[1]]
