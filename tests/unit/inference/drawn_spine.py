"""Spines drawn from known numbers, and a stand-in for the localiser that reads them without any learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from inference.marks import Plane, Tissue
from inference.volume import FloatArray, SagittalVolume, SliceSource

DISC_WIDTH_MM, DISC_HEIGHT_MM = 36.0, 10.0
STEP_MM = 34.0
"""From one disc to the next: a disc of 10 mm and a body of 24 mm."""
SAC_GAP_MM, SAC_DEPTH_MM = 5.0, 14.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnDisc:
    """A disc's centre (row, column) in mm, and its tilt: positive when its front points down."""

    row_mm: float
    column_mm: float
    tilt_degrees: float = 0.0


def column_of_discs(count: int = 6, top_mm: float = 20.0, column_mm: float = 100.0) -> tuple[DrawnDisc, ...]:
    """Discs one above the other, ``STEP_MM`` apart."""
    return tuple(DrawnDisc(row_mm=top_mm + STEP_MM * k, column_mm=column_mm) for k in range(count))


def drawn(
    discs: Sequence[DrawnDisc],
    size: tuple[int, int] = (240, 200),
    *,
    sacrum: bool = True,
    missing: Sequence[int] = (),
    pixel_mm: float = 1.0,
) -> Plane:
    """Marks of a spine: discs, bodies between (and one above, S1 or L5 beneath), and the sac behind.

    ``missing`` discs are not marked, but the bodies about them are.
    """
    rows, columns = np.meshgrid(np.arange(size[0]) * pixel_mm, np.arange(size[1]) * pixel_mm, indexing="ij")
    marks = np.zeros((4, *size))
    for index, disc in enumerate(discs):
        along, down = _frame(rows, columns, disc)
        shape = _soft(DISC_WIDTH_MM / 2 - np.abs(along)) * _soft(DISC_HEIGHT_MM / 2 - np.abs(down))
        body = STEP_MM - DISC_HEIGHT_MM
        wide = _soft(DISC_WIDTH_MM / 2 - np.abs(along))
        beneath = wide * _soft(body / 2 - np.abs(down - STEP_MM / 2))
        above = wide * _soft(body / 2 - np.abs(down + STEP_MM / 2))
        last = index == len(discs) - 1
        channel = Tissue.SACRUM if last and sacrum else Tissue.VERTEBRA
        marks[channel] = np.maximum(marks[channel], beneath)
        marks[Tissue.VERTEBRA] = np.maximum(marks[Tissue.VERTEBRA], above)
        if index not in missing:
            marks[Tissue.DISC] = np.maximum(marks[Tissue.DISC], shape)
        front = DISC_WIDTH_MM / 2 + SAC_GAP_MM
        middle = front + SAC_DEPTH_MM / 2
        sac = _soft(SAC_DEPTH_MM / 2 - np.abs(along - middle)) * _soft(STEP_MM / 2 + 1 - np.abs(down))
        marks[Tissue.CANAL] = np.maximum(marks[Tissue.CANAL], sac)
    return Plane(probabilities=marks.astype(np.float32), pixel_mm=np.array([pixel_mm, pixel_mm]))


class PaintedLocaliser(nn.Module):
    """Reads the tissue off the grey value: 0 background, 1 disc, 2 vertebra, 3 sac, 4 sacrum, each +-0.5.

    Stands in for the trained network where the geometry about it is tested. It expects slices scaled by
    ``networks.localiser.standardised`` from volumes whose 2 and 98 percentiles are 0 and ``SCALE``.
    """

    SCALE = 4.0
    stride = 16
    pixel_mm = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, slices: Tensor) -> Tensor:
        grey = slices.float() * self.SCALE
        values = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
        return (0.5 - (grey - values).abs()) * 20


def painted_volume(planes: Sequence[Plane], slice_spacing_mm: float = 4.0, slice_shift: float = 0.0) -> SagittalVolume:
    """A volume for ``PaintedLocaliser``: one painted slice per plane, upright, first pixel's centre at 0, 0, 0 mm.

    A strip at the right edge holds the whole range of grey values, so that percentiles are the same on every slice.
    Edges are speckled, as noise is: edges of one value would be margins.
    """
    voxels = np.stack([_paint(plane) for plane in planes])
    affine = np.zeros((4, 4))
    pixel = planes[0].pixel_mm
    affine[0, 0], affine[1, 2], affine[2, 1], affine[3, 3] = -slice_spacing_mm, pixel[1], -pixel[0], 1.0
    affine[0, 3] = slice_shift
    return SagittalVolume(
        voxels=voxels.astype(np.float32),
        voxel_to_patient=affine,
        sources=tuple(SliceSource(sop_instance_uid=f"1.2.{k}", frame=1) for k in range(len(voxels))),
        series_instance_uid="1.2",
        series_description="painted",
    )


def _paint(plane: Plane) -> FloatArray:
    grey = np.zeros(plane.probabilities.shape[1:])
    for tissue, value in ((Tissue.VERTEBRA, 2), (Tissue.SACRUM, 4), (Tissue.CANAL, 3), (Tissue.DISC, 1)):
        grey[plane.probabilities[tissue] > 0.5] = value
    grey[:, -12:] = 4.0
    grey[::9, 0] = grey[0, ::9] = grey[-1, ::9] = grey[::9, -1] = 0.2
    return grey


def _frame(rows: FloatArray, columns: FloatArray, disc: DrawnDisc) -> tuple[FloatArray, FloatArray]:
    """Coordinates along the disc (front to back) and down across it."""
    angle = np.deg2rad(disc.tilt_degrees)
    along = (columns - disc.column_mm) * np.cos(angle) - (rows - disc.row_mm) * np.sin(angle)
    down = (columns - disc.column_mm) * np.sin(angle) + (rows - disc.row_mm) * np.cos(angle)
    return along, down


def _soft(inside_mm: FloatArray) -> FloatArray:
    """0.5 at the edge, rising to 1 within a millimetre."""
    return np.clip(0.5 + inside_mm / 2, 0, 1)
