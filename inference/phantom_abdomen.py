"""What lies in front of the phantom's spine: bowel, pelvic organs, great vessels, psoas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.phantom_anatomy import Skeleton
from inference.phantom_canvas import FRONT_MM, Canvas, between
from inference.phantom_tissues import Tissue
from inference.volume import FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Loops:
    """Loops of bowel and organs as ellipsoids."""

    centers_mm: FloatArray
    """(n, 3) x, y, z."""
    half_axes_mm: FloatArray
    """(n, 3)"""
    tissues: tuple[Tissue, ...]

    @staticmethod
    def scattered(skeleton: Skeleton, rng: np.random.Generator) -> Loops:
        """Loops anywhere in the abdomen, clear of the spine; gas and fat among them."""
        count = 90
        z = rng.uniform(-165, 140, count)
        half = rng.uniform(7, 19, (count, 3))
        reach = front_wall(skeleton, z) - 40 - half[:, 1]
        y = FRONT_MM + 22 + rng.uniform(0, 1, count) * np.maximum(reach - FRONT_MM - 22, 1)
        kinds = (Tissue.BOWEL, Tissue.FAT, Tissue.VESSEL, Tissue.MUSCLE, Tissue.INTERSPINOUS)
        picked = rng.choice(len(kinds), count, p=[0.2, 0.35, 0.13, 0.12, 0.2])
        return Loops(
            centers_mm=np.stack([rng.uniform(-85, 85, count), y, z], axis=1),
            half_axes_mm=half,
            tissues=tuple(kinds[index] for index in picked),
        )

    def paint(self, canvas: Canvas, x_mm: float) -> None:
        """Paint the sections of all loops that the plane meets."""
        for center, half, tissue in zip(self.centers_mm, self.half_axes_mm, self.tissues, strict=True):
            share = 1 - ((x_mm - center[0]) / half[0]) ** 2
            if share > 0.02:
                wide = float(np.sqrt(share))
                canvas.ellipse(center[1:], (half[1] * wide, half[2] * wide), tissue, 3 * float(center[2]))


def abdomen(canvas: Canvas, skeleton: Skeleton, loops: Loops, x_mm: float) -> None:
    """Bowel, great vessels, psoas and the fat about them."""
    z = np.linspace(-175, 150, 40)
    middle = front_wall(skeleton, z)
    depth = np.interp(z, [-170, -120, -70, 20, 150], [44, 30, 22, 30, 34]) + 3 * np.sin(z / 17) + 2 * np.sin(z / 7 + 1)
    canvas.polygon(between(z, np.full_like(z, FRONT_MM - 5), middle - depth), Tissue.BOWEL)
    loops.paint(canvas, x_mm)
    canvas.polygon(between(z, np.full_like(z, FRONT_MM - 5), np.full_like(z, FRONT_MM + 22)), Tissue.FAT)
    bifurcation = skeleton.block("L4").center[1]
    for center_x, radius, tissue in ((8.0, 9.5, Tissue.VESSEL), (-14.0, 10.5, Tissue.VESSEL)):
        half = np.sqrt(max(radius**2 - (x_mm - center_x) ** 2, 0.0))
        if half > 1:
            run = np.linspace(bifurcation - 8, 150, 30)
            line = front_wall(skeleton, run) - radius - 4
            taper = half * np.sqrt(np.clip((run - run[0]) / 12, 0, 1))
            canvas.polygon(between(run, line - taper, line + taper), tissue)
    if 22 < abs(x_mm) < 62:
        run = np.linspace(-150, skeleton.block("L1").center[1], 30)
        belly = np.sqrt(max(1 - ((abs(x_mm) - 40) / 22) ** 2, 0.0)) * np.interp(
            run, [-150, -60, 60, 85], [22, 21, 12, 2]
        )
        line = front_wall(skeleton, run) + 20
        canvas.polygon(between(run, line - belly, line + belly), Tissue.MUSCLE)
    if abs(x_mm) < 11:
        near = np.linspace(skeleton.block("L5").corners[3][1], 150, 40)
        line = front_wall(skeleton, near)
        canvas.line(np.stack([line - 0.8, near], axis=1), Tissue.LIGAMENT, 1.4)


def front_wall(skeleton: Skeleton, z: FloatArray) -> FloatArray:
    """y of the front of the spine at these z."""
    points = np.array([block.at(0.0, up) for block in skeleton.blocks for up in (0.9, 0.1)])
    order = np.argsort(points[:, 1])
    wall: FloatArray = np.interp(z, points[order, 1], points[order, 0])
    return wall
