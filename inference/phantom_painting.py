"""Sagittal sections of the phantom as label images: tissues painted over one another, back to front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import PchipInterpolator

from inference.phantom_abdomen import Loops, abdomen
from inference.phantom_anatomy import Skeleton
from inference.phantom_bones import bones_and_discs, foramina, posterior_elements
from inference.phantom_canvas import FIELD_MM, FRONT_MM, Canvas, between
from inference.phantom_tissues import Tissue
from inference.volume import FloatArray

SAC_HALF_WIDTH_MM = 10.5
CANAL_HALF_WIDTH_MM = 12.5
CONUS_LEVEL = "L1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """All that is painted, the same for every section."""

    skeleton: Skeleton
    lines: Lines
    loops: Loops

    @staticmethod
    def of(skeleton: Skeleton, rng: np.random.Generator) -> Scene:
        return Scene(skeleton=skeleton, lines=Lines.of(skeleton), loops=Loops.scattered(skeleton, rng))


def section(scene: Scene, x_mm: float, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(size, size) labels of the sagittal plane at ``x_mm``; rows head to foot, columns front to back."""
    skeleton, lines = scene.skeleton, scene.lines
    image = Image.new("L", (size, size), int(Tissue.AIR))
    canvas = Canvas(image=image, draw=ImageDraw.Draw(image), per_mm=size / FIELD_MM)
    _soft_tissue(canvas, lines, x_mm, rng)
    abdomen(canvas, skeleton, scene.loops, x_mm)
    if abs(x_mm) < 26:
        posterior_elements(canvas, skeleton, lines.back, x_mm)
    if abs(x_mm) < CANAL_HALF_WIDTH_MM:
        _canal(canvas, skeleton, lines, x_mm, rng)
    elif abs(x_mm) < 20:
        foramina(canvas, skeleton, x_mm)
    bones_and_discs(canvas, skeleton, x_mm, rng)
    return np.asarray(image)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """Lines along the spine as y over z: front and back wall of the canal in the midline, and the skin of the back."""

    front: PchipInterpolator
    back: PchipInterpolator
    skin: PchipInterpolator

    @staticmethod
    def of(skeleton: Skeleton) -> Lines:
        points, depths = [], []
        for block in skeleton.blocks[:-1]:
            sacral = block.level.startswith("S")
            for up in (0.85, 0.15):
                points.append(block.at(1.0, up))
                depths.append(11.0 if block.level == "S1" else 7.0 if sacral else 16.0)
        for level, condition in skeleton.conditions.items():
            lower = skeleton.block(level.lower_vertebra.value)
            upper = skeleton.block(level.upper_vertebra.value)
            points.append((lower.corners[1] + upper.corners[2]) / 2 + np.array([condition.bulge_mm + 1.0, 0]))
            depths.append(14.5 - 1.2 * condition.bulge_mm)
        order = np.argsort([point[1] for point in points])
        z = np.array([points[i][1] for i in order]) + np.arange(len(order)) * 1e-6
        front = np.array([points[i][0] for i in order]) + 1.0
        back = front + np.array([depths[i] for i in order])
        top = z[-1] + 40
        z, front, back = np.append(z, top), np.append(front, front[-1] - 2), np.append(back, back[-1] - 2)
        l5, t12 = skeleton.block("L5").center, skeleton.block("T12").center
        skin_z = np.array([-190.0, -150.0, l5[1] - 45, l5[1], 20.0, t12[1], 170.0])
        skin_y = np.array([128.0, 116.0, 106.0, 93.0, 84.0, t12[0] + 84.0, t12[0] + 88.0])
        return Lines(
            front=PchipInterpolator(z, front), back=PchipInterpolator(z, back), skin=PchipInterpolator(skin_z, skin_y)
        )


def _soft_tissue(canvas: Canvas, lines: Lines, x_mm: float, rng: np.random.Generator) -> None:
    z = np.linspace(-175, 150, 60)
    skin = lines.skin(z) - 0.0016 * x_mm**2
    front = np.full_like(z, FRONT_MM - 5)
    canvas.polygon(between(z, front, skin), Tissue.SKIN)
    canvas.polygon(between(z, front, skin - 2.0), Tissue.FAT)
    fascia = skin - np.interp(z, [-170, -110, -40, 30, 150], [24, 26, 15, 11, 8])
    wall = lines.back(np.clip(z, -150, 150))
    muscle = np.minimum(fascia, wall + np.interp(z, [-170, -120, -80, 0, 150], [10, 18, 34, 44, 42]))
    canvas.polygon(between(z, wall - 12, muscle), Tissue.MUSCLE if abs(x_mm) > 5 else Tissue.INTERSPINOUS)
    canvas.line(np.stack([muscle, z], axis=1), Tissue.LIGAMENT, 1.2)
    for _ in range(7 if abs(x_mm) > 5 else 3):  # fat between the bundles of the multifidus
        start = rng.uniform(-110, 110)
        run = np.linspace(start, start + rng.uniform(20, 50), 8)
        share = rng.uniform(0.3, 0.95)
        y = lines.back(run) + 4 + share * (np.interp(run, z, muscle) - lines.back(run) - 6) - (run - start) * 0.15
        canvas.line(np.stack([y, run], axis=1), Tissue.FAT, rng.uniform(0.8, 2.2))


def _canal(canvas: Canvas, skeleton: Skeleton, lines: Lines, x_mm: float, rng: np.random.Generator) -> None:
    end = skeleton.block("S2").at(1.0, 0.3)[1]
    z = np.linspace(end - 25, 150, 90)
    front, back = lines.front(z), lines.back(z)
    wide = np.sqrt(1 - (x_mm / CANAL_HALF_WIDTH_MM) ** 2)
    middle = (front + back) / 2
    canvas.polygon(between(z, middle - wide * (back - front) / 2 - 1, middle + wide * (back - front) / 2), Tissue.FAT)
    if abs(x_mm) < SAC_HALF_WIDTH_MM:
        z = np.linspace(end, 150, 90)
        front, back = lines.front(z), lines.back(z)
        away = np.interp(z, [end, skeleton.block("L5").center[1], 10], [5.0, 3.0, 0.8])
        taper = np.clip((z - end) / 30, 0.12, 1.0) * np.sqrt(1 - (x_mm / SAC_HALF_WIDTH_MM) ** 2)
        sac_front, sac_back = front + away, back - np.interp(z, [end, 0, 150], [2.0, 2.2, 1.5])
        middle, half = (sac_front + sac_back) / 2, np.maximum((sac_back - sac_front) / 2 * taper, 0.3)
        canvas.polygon(between(z, middle - half - 0.7, middle + half + 0.7), Tissue.LIGAMENT)
        canvas.polygon(between(z, middle - half, middle + half), Tissue.FLUID)
        _cord_and_roots(canvas, skeleton, np.stack([z, middle, half]), x_mm, rng)
    if abs(x_mm) < 9:
        near = np.linspace(skeleton.block("L5").center[1], 150, 60)
        canvas.line(np.stack([lines.front(near) - 0.6, near], axis=1), Tissue.LIGAMENT, 1.0)


def _cord_and_roots(canvas: Canvas, skeleton: Skeleton, sac: FloatArray, x_mm: float, rng: np.random.Generator) -> None:
    """``sac`` is (3, n): z, y of the middle, and half the depth of the thecal sac."""
    z, middle, half = sac
    conus = skeleton.block(CONUS_LEVEL).at(0.5, 0.2)[1]
    for _ in range(5):  # the roots of the cauda equina lie at the back in a supine patient
        start, share = conus + rng.uniform(5, 30), rng.uniform(0.25, 0.8)
        run = np.linspace(rng.uniform(-110, -60), start, 24)
        y = np.interp(run, z, middle) + share * np.interp(run, z, half) * np.clip((start - run) / 25, 0.3, 1)
        canvas.line(np.stack([y, run], axis=1), Tissue.NERVE, rng.uniform(0.5, 0.9))
    if abs(x_mm) < 4.6:
        run = np.linspace(conus, 150, 40)
        radius = 3.9 * np.clip((run - conus) / 32, 0.05, 1) ** 0.7
        thick = radius * np.sqrt(1 - (x_mm / 4.6) ** 2)
        y = np.interp(run, z, middle) + np.interp(run, [conus, conus + 40, 150], [2.2, 0.6, 0.0])
        canvas.polygon(between(run, y - thick, y + thick), Tissue.CORD)
