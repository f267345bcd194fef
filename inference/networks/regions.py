"""Where on a patch each finding is looked for: shares of a map's cells, from the zones that were drawn on the disc."""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor
from torch.nn import functional

from inference.zones import Zone

CELL_PX = 8
"""A cell of the maps that are pooled is 8 x 8 pixels of the patch."""


class Region(IntEnum):
    """Order of the regions in ``shares``."""

    DISC = 0
    FRONT = 1
    MIDDLE = 2
    BACK = 3
    ENDPLATE_ABOVE = 4
    ENDPLATE_BELOW = 5
    BONE_ABOVE = 6
    BONE_BELOW = 7
    BACK_EDGE = 8
    SAC = 9


def shares(zones: Tensor) -> Tensor:
    """(n, 112, 224) of ``Zone`` -> (n, len(Region), 14, 28) float32: how much of each cell belongs to each region.

    End plates and bone are widened by 4 pixels up and down, so that the edge itself lies inside; the back edge is the
    disc's back with what lies within 12 pixels of it outside the rest of the disc; the sac reaches 8 pixels further up
    and down than the line it was drawn from.
    """
    halves = torch.stack([zones[:, 1::4, 1::4], zones[:, 3::4, 3::4]], 1)  # two samples of each 4 x 4 pixels

    def drawn(*wanted: Zone) -> Tensor:
        return torch.stack([halves == zone for zone in wanted]).any(0).float().mean(1, keepdim=True)

    back, above, below = drawn(Zone.DISC_BACK), drawn(Zone.ENDPLATE_ABOVE), drawn(Zone.ENDPLATE_BELOW)
    fore = drawn(Zone.DISC_FRONT, Zone.DISC_MIDDLE)
    by_region = [
        drawn(Zone.DISC_FRONT, Zone.DISC_MIDDLE, Zone.DISC_BACK),
        drawn(Zone.DISC_FRONT),
        drawn(Zone.DISC_MIDDLE),
        back,
        _widened(above, 1, 0),
        _widened(below, 1, 0),
        _widened(drawn(Zone.ENDPLATE_ABOVE, Zone.MARROW_ABOVE), 1, 0),
        _widened(drawn(Zone.ENDPLATE_BELOW, Zone.MARROW_BELOW), 1, 0),
        _widened(back, 1, 3) * (1 - fore),
        _widened(drawn(Zone.SAC), 2, 1),
    ]
    return functional.avg_pool2d(torch.cat(by_region, 1), 2)


def _widened(region: Tensor, rows: int, columns: int) -> Tensor:
    return functional.max_pool2d(region, (2 * rows + 1, 2 * columns + 1), 1, (rows, columns))
