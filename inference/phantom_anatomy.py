"""The shape of the synthetic lumbar spine: vertebrae and discs in its mid-sagittal plane, and how they narrow sideways.

Coordinates are mm in the phantom's own frame: x to the patient's left, y posterior, z head; L3's centre is the origin.
In-plane points are (y, z). Sizes follow usual adult morphometry (Panjabi 1992, White and Panjabi 1990), rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inference.anatomy import DiscLevel, Vertebra
from inference.volume import FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscCondition:
    """What is built into one disc."""

    pfirrmann: int
    height_mm: float
    bulge_mm: float = 0.0
    """How far the disc stands out into the canal."""
    slip_mm: float = 0.0
    """How far the vertebra above stands in front of the one below."""
    fatty_marrow: bool = False
    """Fatty (type 2) marrow beside both end plates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """A vertebral body in the mid-sagittal plane."""

    height_mm: float
    depth_mm: float
    upper_deg: float
    """Slope of the upper end plate: positive where its front lies lower than its back."""
    lower_deg: float
    half_width_mm: float


SIZES: Mapping[Vertebra, Size] = {
    Vertebra.L5: Size(height_mm=27.0, depth_mm=35.0, upper_deg=17.0, lower_deg=26.0, half_width_mm=26.0),
    Vertebra.L4: Size(height_mm=27.5, depth_mm=35.0, upper_deg=8.0, lower_deg=11.0, half_width_mm=25.0),
    Vertebra.L3: Size(height_mm=27.5, depth_mm=34.5, upper_deg=1.0, lower_deg=3.0, half_width_mm=24.0),
    Vertebra.L2: Size(height_mm=27.0, depth_mm=34.0, upper_deg=-6.0, lower_deg=-4.0, half_width_mm=23.0),
    Vertebra.L1: Size(height_mm=26.0, depth_mm=32.5, upper_deg=-10.0, lower_deg=-9.0, half_width_mm=22.0),
    Vertebra.T12: Size(height_mm=24.5, depth_mm=31.0, upper_deg=-10.0, lower_deg=-11.0, half_width_mm=21.0),
    Vertebra.T11: Size(height_mm=22.5, depth_mm=30.0, upper_deg=-8.0, lower_deg=-9.5, half_width_mm=20.0),
    Vertebra.T10: Size(height_mm=21.5, depth_mm=29.0, upper_deg=-5.0, lower_deg=-7.0, half_width_mm=19.0),
}
"""Bottom up, as they are built."""

SACRUM_SLOPE_DEG = 37.0
SACRAL_SEGMENTS: tuple[tuple[float, float, float, float], ...] = (
    (29.0, 33.0, 22.0, 40.0),
    (23.0, 20.0, 15.0, 44.0),
    (19.0, 14.0, 11.0, 34.0),
    (16.0, 10.0, 8.0, 18.0),
)
"""S1 to S4: height, depth at the top, depth at the bottom (mm), slope (degrees)."""

CONDITIONS: Mapping[DiscLevel, DiscCondition] = {
    DiscLevel.L5_S1: DiscCondition(pfirrmann=4, height_mm=7.0, bulge_mm=2.5, fatty_marrow=True),
    DiscLevel.L4_L5: DiscCondition(pfirrmann=5, height_mm=5.5, bulge_mm=3.5, slip_mm=6.5),
    DiscLevel.L3_L4: DiscCondition(pfirrmann=3, height_mm=10.0, bulge_mm=1.0),
    DiscLevel.L2_L3: DiscCondition(pfirrmann=2, height_mm=10.0),
    DiscLevel.L1_L2: DiscCondition(pfirrmann=1, height_mm=9.0),
    DiscLevel.T12_L1: DiscCondition(pfirrmann=2, height_mm=7.5),
    DiscLevel.T11_T12: DiscCondition(pfirrmann=2, height_mm=6.5),
    DiscLevel.T10_T11: DiscCondition(pfirrmann=2, height_mm=5.5),
}
"""A spine with healthy discs above and worn ones below, as most are; an anterolisthesis of L4 on L5."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A vertebral body (or sacral segment) as a trapezium in the mid-sagittal plane."""

    level: str
    corners: FloatArray
    """(4, 2) (y, z): upper front, upper back, lower back, lower front."""
    half_width_mm: float

    @property
    def center(self) -> FloatArray:
        center: FloatArray = self.corners.mean(axis=0)
        return center

    def at(self, back: float, up: float) -> FloatArray:
        """(2,) point by fractions: back 0 (front wall) to 1 (back wall), up 0 (lower) to 1 (upper end plate)."""
        upper = self.corners[0] + back * (self.corners[1] - self.corners[0])
        lower = self.corners[3] + back * (self.corners[2] - self.corners[3])
        return np.asarray(lower + up * (upper - lower))


@dataclass(frozen=True, kw_only=True, slots=True)
class Skeleton:
    """All blocks head to foot, sacrum included, and the conditions of the discs between them."""

    blocks: tuple[Block, ...]
    conditions: Mapping[DiscLevel, DiscCondition]

    def block(self, level: str) -> Block:
        return next(block for block in self.blocks if block.level == level)


def build(conditions: Mapping[DiscLevel, DiscCondition], rng: np.random.Generator) -> Skeleton:
    """Stack the spine from the sacrum upwards; ``rng`` gives each spine its own size and curve."""
    build_of = _Build(scale=rng.uniform(0.97, 1.04), bend=rng.uniform(0.9, 1.1))
    blocks = _sacrum(build_of)
    for level in SIZES:
        below = blocks[-1]
        condition = conditions[DiscLevel(f"{level.value}/{below.level}")]
        blocks.append(_on_top(below, level, condition, build_of, rng.uniform(0.98, 1.02)))
    centre = next(block for block in blocks if block.level == Vertebra.L3).center
    moved = [
        Block(level=block.level, corners=block.corners - centre, half_width_mm=block.half_width_mm) for block in blocks
    ]
    return Skeleton(blocks=tuple(reversed(moved)), conditions=conditions)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Build:
    """How this spine departs from the usual one, as factors."""

    scale: float
    bend: float


def _sacrum(build_of: _Build) -> list[Block]:
    """S4 to S1, with the middle of S1's upper end plate at the origin."""
    scale, bend = build_of.scale, build_of.bend
    segments: list[Block] = []
    top, slope = np.zeros(2), SACRUM_SLOPE_DEG * bend
    for index, (height, depth_top, depth_bottom, next_slope) in enumerate(SACRAL_SEGMENTS, start=1):
        back, up = _axes(slope)
        lower_back, lower_up = _axes(next_slope * bend)
        bottom = top - height * scale * (up + lower_up) / 2
        corners = np.stack(
            [
                top - depth_top * scale / 2 * back,
                top + depth_top * scale / 2 * back,
                bottom + depth_bottom * scale / 2 * lower_back,
                bottom - depth_bottom * scale / 2 * lower_back,
            ]
        )
        segments.append(Block(level=f"S{index}", corners=corners, half_width_mm=(30.0 - 4 * index) * scale))
        top, slope = bottom - 1.5 * lower_up, next_slope * bend
    return segments[::-1]


def _on_top(below: Block, level: Vertebra, condition: DiscCondition, build_of: _Build, own_scale: float) -> Block:
    size, scale, bend = SIZES[level], build_of.scale, build_of.bend
    lower_deg, upper_deg = size.lower_deg * bend, size.upper_deg * bend
    seat = (below.corners[0] + below.corners[1]) / 2
    seat_back = below.corners[1] - below.corners[0]
    seat_back = seat_back / np.linalg.norm(seat_back)
    lower_back, lower_up = _axes(lower_deg)
    upper_back, upper_up = _axes(upper_deg)
    bisector = np.array([-seat_back[1], seat_back[0]]) + lower_up
    bisector /= np.linalg.norm(bisector)
    depth, height = size.depth_mm * scale * own_scale, size.height_mm * scale * own_scale
    lower = seat + condition.height_mm * bisector - condition.slip_mm * seat_back
    upper = lower + height * (lower_up + upper_up) / 2
    corners = np.stack(
        [
            upper - depth / 2 * upper_back,
            upper + depth / 2 * upper_back,
            lower + depth / 2 * lower_back,
            lower - depth / 2 * lower_back,
        ]
    )
    return Block(level=level.value, corners=corners, half_width_mm=size.half_width_mm * scale)


def _axes(slope_deg: float) -> tuple[FloatArray, FloatArray]:
    """Unit vectors (backwards, upwards) of an end plate with this slope."""
    slope = np.radians(slope_deg)
    return np.array([np.cos(slope), np.sin(slope)]), np.array([-np.sin(slope), np.cos(slope)])


def narrowed(block: Block, x_mm: float) -> FloatArray | None:
    """The block's (4, 2) corners in a sagittal plane beside the midline; None where the plane misses it.

    The front recedes as on an axial section; the back wall stays behind the canal and recedes only near the side.
    """
    share = abs(x_mm) / block.half_width_mm
    if share >= 0.98:
        return None
    front = 1 - np.sqrt(1 - share**2.4)
    back = 0.35 * max(share - 0.5, 0.0) ** 1.5
    return np.stack([block.at(front, 1.0), block.at(1 - back, 1.0), block.at(1 - back, 0.0), block.at(front, 0.0)])
