"""Where the evidence of a grading is expected, from a mask of the disc, its bones and the canal.

Everything here is in the frame of a cut disc: (9, 112, 224) pixels, rows head to foot across the disc, columns front to
back along it. The widths of the bands were fixed before any map was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.evidence import CELL_PX
from inference.grades import Finding
from inference.training.spider import MaskValue
from inference.volume import DiscVolume, FloatArray, SagittalVolume

Mask = NDArray[np.bool_]

ENDPLATE_MM = 4.0
"""Half height of the band about an end plate: maps are smoothed over about 4 mm."""
MARROW_MM = 10.0
"""How far into the bone the band for marrow changes reaches: a third of a lumbar body's height."""
MARGIN_MM = 5.0
"""Half width of the band about the disc's back edge, where it bulges or herniates."""

REGIONS: Mapping[Finding, str] = {
    Finding.PFIRRMANN: "disc",
    Finding.DISC_NARROWING: "disc",
    Finding.UPPER_ENDPLATE_DEFECT: "upper end plate",
    Finding.LOWER_ENDPLATE_DEFECT: "lower end plate",
    Finding.UPPER_MARROW_CHANGE: "bone above",
    Finding.LOWER_MARROW_CHANGE: "bone below",
    Finding.DISC_HERNIATION: "disc's back edge",
    Finding.DISC_BULGING: "disc's back edge",
}
"""Judged gradings -> name of the region. A slip shows at corners all about the disc: no region is expected of it."""


def mask_in_patch(mask: NDArray[np.uint8], volume: SagittalVolume, disc: DiscVolume) -> NDArray[np.uint8]:
    """(9, 112, 224) of ``MaskValue``: the volume's mask at the nearest voxels; background outside the volume."""
    to_voxel = np.linalg.inv(volume.voxel_to_patient) @ disc.patch_to_patient
    sampled: NDArray[np.uint8] = ndimage.affine_transform(
        mask, to_voxel[:3, :3], to_voxel[:3, 3], disc.voxels.shape, order=0, mode="constant", prefilter=False
    )
    return sampled


def mm_per_px(disc: DiscVolume) -> float:
    """Edge of the patch's square pixels."""
    return float(np.linalg.norm(disc.patch_to_patient[:3, 1]))


def expected(mask: NDArray[np.uint8], pixel_mm: float) -> Mapping[str, Mask]:
    """Region's name -> (9, 112, 224) mask; empty where the patch's middle shows no disc.

    ``mask``: from ``mask_in_patch``. Bands follow the disc's own edge, column by column and slice by slice.
    """
    disc = _middle_component(mask == MaskValue.DISC)
    if not disc.any():
        return {}
    rows = np.arange(disc.shape[1])[None, :, None]
    has_disc = disc.any(axis=1)
    top = np.where(has_disc, disc.argmax(axis=1), -1000)[:, None, :]
    bottom = np.where(has_disc, disc.shape[1] - 1 - disc[:, ::-1].argmax(axis=1), 2000)[:, None, :]
    plate, marrow = ENDPLATE_MM / pixel_mm, MARROW_MM / pixel_mm
    return {
        "disc": disc,
        "upper end plate": np.abs(rows - top) <= plate,
        "lower end plate": np.abs(rows - bottom) <= plate,
        "bone above": (rows < top) & (rows >= top - marrow),
        "bone below": (rows > bottom) & (rows <= bottom + marrow),
        "disc's back edge": _back_edge(disc, MARGIN_MM / pixel_mm),
    }


def in_cells(region: Mask) -> FloatArray:
    """(9, 112, 224) -> (9, 28, 56): the share of each cell that lies in the region."""
    slices, rows, columns = region.shape
    cells = region.reshape(slices, rows // CELL_PX, CELL_PX, columns // CELL_PX, CELL_PX)
    return np.asarray(cells.mean(axis=(2, 4)), np.float64)


def _middle_component(disc: Mask) -> Mask:
    """The connected part that fills most of the patch's middle: neighbours may look into its corners."""
    labels, count = ndimage.label(disc)
    middle = labels[:, disc.shape[1] // 3 : -(disc.shape[1] // 3), disc.shape[2] // 4 : -(disc.shape[2] // 4)]
    sizes = np.bincount(middle.ravel(), minlength=count + 1)
    sizes[0] = 0
    if sizes.max() == 0:
        return np.zeros_like(disc)
    chosen: Mask = labels == sizes.argmax()
    return chosen


def _back_edge(disc: Mask, reach_px: float) -> Mask:
    """Pixels within reach of the disc's hindmost pixels (the last tenth of its columns), on each slice."""
    band = np.zeros_like(disc)
    for k, plane in enumerate(disc):
        columns = np.flatnonzero(plane.any(axis=0))
        if columns.size:
            back = plane & (np.arange(plane.shape[1]) >= columns[-1] - 0.1 * (columns[-1] - columns[0]))[None, :]
            band[k] = ndimage.distance_transform_edt(~back) <= reach_px
    return band
