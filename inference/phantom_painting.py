"""Sagittal sections of the phantom as label images: tissues painted over one another, back to front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import PchipInterpolator

from inference.phantom_anatomy import Block, DiscCondition, Skeleton, narrowed
from inference.phantom_tissues import Tissue
from inference.volume import FloatArray

FIELD_MM = 300.0
TOP_MM = 138.0
"""z of the upper edge of the field."""
FRONT_MM = -160.0
"""y of the front edge of the field."""
SAC_HALF_WIDTH_MM = 10.5
CANAL_HALF_WIDTH_MM = 12.5
CONUS_LEVEL = "L1"

LUMBAR = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")


@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """A label image of the field; points are (y, z) mm."""

    image: Image.Image
    draw: ImageDraw.ImageDraw
    per_mm: float

    def polygon(self, points: FloatArray, tissue: Tissue) -> None:
        """Fill a closed outline."""
        self.draw.polygon(self._pixels(points), fill=int(tissue))

    def line(self, points: FloatArray, tissue: Tissue, width_mm: float) -> None:
        """Draw an open line."""
        self.draw.line(
            self._pixels(points), fill=int(tissue), width=max(1, round(width_mm * self.per_mm)), joint="curve"
        )

    def ellipse(self, center: FloatArray, half: tuple[float, float], tissue: Tissue, turn_deg: float = 0.0) -> None:
        """Fill an ellipse with half axes (backwards, upwards), turned so that its back goes up by ``turn_deg``."""
        angle, turn = np.linspace(0, 2 * np.pi, 28, endpoint=False), np.radians(turn_deg)
        along, up = half[0] * np.cos(angle), half[1] * np.sin(angle)
        around = [along * np.cos(turn) - up * np.sin(turn), along * np.sin(turn) + up * np.cos(turn)]
        self.polygon(center + np.stack(around, axis=1), tissue)

    def _pixels(self, points: FloatArray) -> list[tuple[float, float]]:
        columns, rows = (points[:, 0] - FRONT_MM) * self.per_mm, (TOP_MM - points[:, 1]) * self.per_mm
        return list(zip(columns.tolist(), rows.tolist(), strict=True))


def section(skeleton: Skeleton, x_mm: float, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(size, size) labels of the sagittal plane at ``x_mm``; rows head to foot, columns front to back."""
    image = Image.new("L", (size, size), int(Tissue.AIR))
    canvas = Canvas(image=image, draw=ImageDraw.Draw(image), per_mm=size / FIELD_MM)
    lines = _Lines.of(skeleton)
    _soft_tissue(canvas, lines, x_mm, rng)
    _front(canvas, skeleton, x_mm)
    if abs(x_mm) < 26:
        _posterior_elements(canvas, skeleton, lines, x_mm)
    if abs(x_mm) < CANAL_HALF_WIDTH_MM:
        _canal(canvas, skeleton, lines, x_mm, rng)
    elif abs(x_mm) < 20:
        _foramina(canvas, skeleton, x_mm)
    _bones_and_discs(canvas, skeleton, x_mm, rng)
    return np.asarray(image)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lines:
    """Lines along the spine as y over z: front and back wall of the canal in the midline, and the skin of the back."""

    front: PchipInterpolator
    back: PchipInterpolator
    skin: PchipInterpolator

    @staticmethod
    def of(skeleton: Skeleton) -> _Lines:
        points, depths = [], []
        for block in skeleton.blocks[:-1]:
            sacral = block.level.startswith("S")
            for up in (0.85, 0.15):
                points.append(block.at(1.0, up))
                depths.append(11.0 if block.level == "S1" else 7.0 if sacral else 16.0)
        for level, condition in skeleton.conditions.items():
            lower = skeleton.block(level.lower.value)
            upper = skeleton.block(level.upper.value)
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
        return _Lines(
            front=PchipInterpolator(z, front), back=PchipInterpolator(z, back), skin=PchipInterpolator(skin_z, skin_y)
        )


def _between(z: FloatArray, front: FloatArray, back: FloatArray) -> FloatArray:
    """Outline of the strip between two lines over the same z."""
    return np.concatenate([np.stack([front, z], axis=1), np.stack([back, z], axis=1)[::-1]])


def _soft_tissue(canvas: Canvas, lines: _Lines, x_mm: float, rng: np.random.Generator) -> None:
    z = np.linspace(-175, 150, 60)
    skin = lines.skin(z) - 0.0016 * x_mm**2
    front = np.full_like(z, FRONT_MM - 5)
    canvas.polygon(_between(z, front, skin), Tissue.SKIN)
    canvas.polygon(_between(z, front, skin - 2.0), Tissue.FAT)
    fascia = skin - np.interp(z, [-170, -110, -40, 30, 150], [24, 30, 20, 11, 8])
    wall = lines.back(np.clip(z, -150, 150))
    muscle = np.minimum(fascia, wall + np.interp(z, [-170, -120, -80, 0, 150], [10, 18, 34, 44, 42]))
    canvas.polygon(_between(z, wall - 12, muscle), Tissue.MUSCLE if abs(x_mm) > 5 else Tissue.INTERSPINOUS)
    canvas.line(np.stack([muscle, z], axis=1), Tissue.LIGAMENT, 1.2)
    for _ in range(7 if abs(x_mm) > 5 else 3):  # fat between the bundles of the multifidus
        start = rng.uniform(-110, 110)
        run = np.linspace(start, start + rng.uniform(20, 50), 8)
        share = rng.uniform(0.3, 0.95)
        y = lines.back(run) + 4 + share * (np.interp(run, z, muscle) - lines.back(run) - 6) - (run - start) * 0.15
        canvas.line(np.stack([y, run], axis=1), Tissue.FAT, rng.uniform(0.8, 2.2))


def _front(canvas: Canvas, skeleton: Skeleton, x_mm: float) -> None:
    """Abdomen, great vessels, psoas and the fat about them."""
    z = np.linspace(-175, 150, 40)
    middle = _front_wall(skeleton, z)
    canvas.polygon(_between(z, np.full_like(z, FRONT_MM - 5), middle - 34), Tissue.BOWEL)
    canvas.polygon(_between(z, np.full_like(z, FRONT_MM - 5), np.full_like(z, FRONT_MM + 22)), Tissue.FAT)
    bifurcation = skeleton.block("L4").center[1]
    for center_x, radius, tissue in ((8.0, 9.5, Tissue.VESSEL), (-14.0, 10.5, Tissue.VESSEL)):
        half = np.sqrt(max(radius**2 - (x_mm - center_x) ** 2, 0.0))
        if half > 1:
            run = np.linspace(bifurcation - 8, 150, 30)
            line = _front_wall(skeleton, run) - radius - 4
            canvas.polygon(_between(run, line - half, line + half), tissue)
    if 22 < abs(x_mm) < 62:
        run = np.linspace(-150, skeleton.block("L1").center[1], 30)
        belly = np.sqrt(max(1 - ((abs(x_mm) - 40) / 22) ** 2, 0.0)) * np.interp(
            run, [-150, -60, 60, 85], [22, 21, 12, 2]
        )
        line = _front_wall(skeleton, run) + 20
        canvas.polygon(_between(run, line - belly, line + belly), Tissue.MUSCLE)
    if abs(x_mm) < 26:
        near = np.linspace(skeleton.block("L5").corners[3][1], 150, 40)
        line = _front_wall(skeleton, near)
        canvas.line(np.stack([line - 0.8, near], axis=1), Tissue.LIGAMENT, 1.4)


def _front_wall(skeleton: Skeleton, z: FloatArray) -> FloatArray:
    points = np.array([block.at(0.0, up) for block in skeleton.blocks for up in (0.9, 0.1)])
    order = np.argsort(points[:, 1])
    wall: FloatArray = np.interp(z, points[order, 1], points[order, 0])
    return wall


def _bones_and_discs(canvas: Canvas, skeleton: Skeleton, x_mm: float, rng: np.random.Generator) -> None:
    sections = {block.level: narrowed(block, x_mm) for block in skeleton.blocks}
    for level, condition in skeleton.conditions.items():
        upper, lower = sections[level.upper.value], sections[level.lower.value]
        if upper is not None and lower is not None:
            _disc(canvas, upper, lower, condition, x_mm)
    for block in skeleton.blocks:
        corners = sections[block.level]
        if corners is not None:
            _body(canvas, block, corners, _fatty_ends(skeleton, block), x_mm)
    for upper_name, lower_name in (("S1", "S2"), ("S2", "S3"), ("S3", "S4")):
        upper, lower = sections[upper_name], sections[lower_name]
        if upper is not None and lower is not None and abs(x_mm) < 14:
            ends = np.stack([upper[3] + lower[0], upper[2] + lower[1]]) / 2
            inner = ends[0] + np.linspace(0.18, 0.72, 6)[:, None] * (ends[1] - ends[0])
            canvas.line(inner, Tissue.CORTEX, 3.6 if upper_name == "S1" else 2.2)
            if upper_name == "S1":
                canvas.line(inner[1:-1], Tissue.RIM_NUCLEUS, 1.4)


def _fatty_ends(skeleton: Skeleton, block: Block) -> tuple[bool, bool]:
    """Whether the marrow at the (upper, lower) end plate is fatty."""
    upper = lower = False
    for level, condition in skeleton.conditions.items():
        upper |= condition.fatty_marrow and level.lower.value == block.level
        lower |= condition.fatty_marrow and level.upper.value == block.level
    return upper, lower


def _bowed(start: FloatArray, end: FloatArray, inwards: FloatArray, depth_mm: float, power: float = 1.0) -> FloatArray:
    """(9, 2) points from start to end, bent inwards by ``depth_mm`` in the middle."""
    t = np.linspace(0, 1, 9)[:, None]
    return np.asarray(start + t * (end - start) + inwards * depth_mm * (4 * t * (1 - t)) ** power)


def _outline(corners: FloatArray, concavity_mm: float) -> FloatArray:
    """A body's outline: end plates and walls slightly hollow, corners blunt."""
    middle = corners.mean(axis=0)
    sides = []
    for index, hollow in enumerate((1.3, 1.0, 1.3, 1.9)):
        start, end = corners[index], corners[(index + 1) % 4]
        blunt = 0.03 * (end - start)
        inwards = middle - (start + end) / 2
        inwards = inwards / max(float(np.linalg.norm(inwards)), 1e-6)
        sides.append(_bowed(start + blunt, end - blunt, inwards, hollow * concavity_mm, 0.8))
    return np.concatenate(sides)


def _shrunk(corners: FloatArray, walls_mm: float, plates_mm: float) -> FloatArray:
    """Corners moved inwards from the walls and from the end plates."""
    back = corners[1] - corners[0]
    up = (corners[0] + corners[1] - corners[2] - corners[3]) / 2
    back, up = back / np.linalg.norm(back), up / np.linalg.norm(up)
    return corners + np.stack(
        [
            walls_mm * back - plates_mm * up,
            -walls_mm * back - plates_mm * up,
            -walls_mm * back + plates_mm * up,
            walls_mm * back + plates_mm * up,
        ]
    )


def _body(canvas: Canvas, block: Block, corners: FloatArray, fatty: tuple[bool, bool], x_mm: float) -> None:
    sacral = block.level.startswith("S")
    hollow = 0.5 if sacral else 1.0
    canvas.polygon(_outline(corners, hollow), Tissue.CORTEX)
    inner = _shrunk(corners, 0.8, 1.1 if not sacral else 0.9)
    canvas.polygon(_outline(inner, hollow), Tissue.MARROW)
    for is_fatty, near, far in ((fatty[0], (0, 1), (3, 2)), (fatty[1], (3, 2), (0, 1))):
        if is_fatty:
            band = np.stack([inner[near[0]], inner[near[1]]])
            away = np.stack([inner[far[0]], inner[far[1]]]) - band
            edge = _bowed(band[0] + 0.22 * away[0], band[1] + 0.3 * away[1], away[0] / np.linalg.norm(away[0]), 3.0)
            plate = _bowed(band[0], band[1], away[0] / np.linalg.norm(away[0]), 1.3 * hollow, 0.8)
            canvas.polygon(np.concatenate([plate, edge[::-1]]), Tissue.FATTY_MARROW)
    if abs(x_mm) < 5 and not sacral:
        back = (corners[1] + corners[2]) / 2 - [1.3, 0]
        inwards = (corners[0] + corners[3]) / 2 - back
        inwards = inwards / np.linalg.norm(inwards)
        up = np.array([-inwards[1], inwards[0]])
        canvas.polygon(np.stack([back + 2.6 * up, back + 9 * inwards, back - 2.6 * up]), Tissue.VEIN)


NUCLEUS = {
    1: (Tissue.NUCLEUS_1, 0.34, 0.40),
    2: (Tissue.NUCLEUS_2, 0.33, 0.36),
    3: (Tissue.NUCLEUS_3, 0.31, 0.32),
    4: (Tissue.NUCLEUS_4, 0.27, 0.26),
    5: (Tissue.NUCLEUS_5, 0.25, 0.20),
}
"""Pfirrmann grade -> tissue, half length and half height of the nucleus as shares of the disc's (Pfirrmann 2001)."""


def _disc(canvas: Canvas, upper: FloatArray, lower: FloatArray, condition: DiscCondition, x_mm: float) -> None:
    front, back = np.stack([upper[3], lower[0]]), np.stack([upper[2], lower[1]])
    back_out = np.array([1.0, 0.0]) * (0.8 + condition.bulge_mm)
    wall = _bowed(back[0], back[1], back_out, 1.0, 0.6)
    nose = _bowed(front[1], front[0], np.array([-1.0, 0.0]), 1.4 + 0.4 * condition.bulge_mm, 0.6)
    middle = (front.mean(axis=0) + back.mean(axis=0)) / 2
    overlap = 2.5 * np.array([0.0, 1.0])  # bodies are painted over the disc: their hollow end plates bound it
    sides = [upper[3] + overlap, upper[2] + overlap], [lower[1] - overlap, lower[0] - overlap]
    canvas.polygon(np.concatenate([np.stack(sides[0]), wall, np.stack(sides[1]), nose]), Tissue.ANNULUS)
    axis = back.mean(axis=0) - front.mean(axis=0)
    length = float(np.linalg.norm(axis))
    height = float(np.linalg.norm((upper[2] + upper[3]) / 2 - (lower[0] + lower[1]) / 2)) + 2.6
    tissue, half_length, half_height = NUCLEUS[condition.pfirrmann]
    turn = float(np.degrees(np.arctan2(axis[1], axis[0])))
    center = middle + 0.03 * axis
    grey = Tissue.RIM_NUCLEUS if condition.pfirrmann <= 3 else Tissue.NUCLEUS_5
    canvas.ellipse(center, (1.22 * half_length * length, 1.2 * half_height * height), grey, turn)
    canvas.ellipse(center, (half_length * length, half_height * height), tissue, turn)
    if condition.pfirrmann in {2, 3}:
        unit = axis / length
        reach = 0.75 * half_length * length
        canvas.line(np.stack([center - reach * unit, center + reach * unit]), Tissue.CLEFT, 0.9)


def _canal(canvas: Canvas, skeleton: Skeleton, lines: _Lines, x_mm: float, rng: np.random.Generator) -> None:
    end = skeleton.block("S2").at(1.0, 0.3)[1]
    z = np.linspace(end - 25, 150, 90)
    front, back = lines.front(z), lines.back(z)
    wide = np.sqrt(1 - (x_mm / CANAL_HALF_WIDTH_MM) ** 2)
    middle = (front + back) / 2
    canvas.polygon(_between(z, middle - wide * (back - front) / 2 - 1, middle + wide * (back - front) / 2), Tissue.FAT)
    if abs(x_mm) < SAC_HALF_WIDTH_MM:
        z = np.linspace(end, 150, 90)
        front, back = lines.front(z), lines.back(z)
        away = np.interp(z, [end, skeleton.block("L5").center[1], 10], [5.0, 3.0, 0.8])
        taper = np.clip((z - end) / 30, 0.12, 1.0) * np.sqrt(1 - (x_mm / SAC_HALF_WIDTH_MM) ** 2)
        sac_front, sac_back = front + away, back - np.interp(z, [end, 0, 150], [2.0, 2.2, 1.5])
        middle, half = (sac_front + sac_back) / 2, np.maximum((sac_back - sac_front) / 2 * taper, 0.3)
        canvas.polygon(_between(z, middle - half - 0.7, middle + half + 0.7), Tissue.LIGAMENT)
        canvas.polygon(_between(z, middle - half, middle + half), Tissue.FLUID)
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
        canvas.polygon(_between(run, y - thick, y + thick), Tissue.CORD)


def _posterior_elements(canvas: Canvas, skeleton: Skeleton, lines: _Lines, x_mm: float) -> None:
    for name in LUMBAR:
        block = skeleton.block(name)
        low, lumbar = block.at(1.0, 0.18), name.startswith("L")
        root = np.array([float(lines.back(low[1])), low[1]])
        if abs(x_mm) < 4.2:
            _spinous_process(canvas, root, lumbar)
        elif abs(x_mm) < 12:
            canvas.ellipse(root + np.array([4.0, 1.0]), (3.6, 9.0 if lumbar else 8.0), Tissue.CORTEX, -18)
            canvas.ellipse(root + np.array([4.0, 1.0]), (2.5, 7.8 if lumbar else 6.8), Tissue.MARROW, -18)
            canvas.line(np.stack([root + np.array([0.5, -8]), root + np.array([3.0, -20])]), Tissue.LIGAMENT, 2.6)
        elif abs(x_mm) < 21:
            _facets(canvas, block)
    for index in range(1, 4):  # median sacral crest
        segment = skeleton.block(f"S{index}")
        center = segment.at(1.0, 0.5) + np.array([13.0 - 2 * index, 3.0])
        if abs(x_mm) < 12:
            canvas.ellipse(center, (4.2, 9.0), Tissue.CORTEX, -40)
            canvas.ellipse(center, (3.0, 7.6), Tissue.MARROW, -40)


def _spinous_process(canvas: Canvas, root: FloatArray, lumbar: bool) -> None:
    if lumbar:
        outline = np.array(
            [[0.5, 5], [8, 6], [20, 3], [29, 1], [31, -6], [30, -15], [24, -18], [15, -14], [7, -9], [1, -6]]
        )
    else:
        outline = np.array([[0.5, 4], [10, 0], [22, -12], [30, -19], [29, -24], [22, -23], [10, -14], [1, -7]])
    middle = outline.mean(axis=0)
    canvas.polygon(root + outline, Tissue.CORTEX)
    canvas.polygon(root + middle + (outline - middle) * [0.92, 0.85], Tissue.MARROW)


def _facets(canvas: Canvas, block: Block) -> None:
    """Articular processes behind the foramina, and the pedicle where the plane meets it."""
    for up, tall in ((0.75, 11.0), (-0.02, 10.0)):
        center = block.at(1.0, up) + np.array([21.0, -6.0 if up > 0.5 else -9.0])
        canvas.ellipse(center, (6.0, tall), Tissue.CORTEX, -25)
        canvas.ellipse(center, (4.8, tall - 1.3), Tissue.MARROW, -25)


def _foramina(canvas: Canvas, skeleton: Skeleton, x_mm: float) -> None:
    """Fat with a nerve root and its vein between two pedicles."""
    for name in (*LUMBAR, "S1"):
        block = skeleton.block(name)
        if name != "S1":
            canvas.ellipse(block.at(1.0, 0.15) + np.array([7.0, -5.0]), (7.0, 12.5), Tissue.FAT, 0)
            canvas.ellipse(block.at(1.0, 0.22) + np.array([6.0, 0.0]), (2.6, 3.0), Tissue.NERVE, 0)
            canvas.ellipse(block.at(1.0, 0.0) + np.array([4.0, -2.0]), (1.2, 1.6), Tissue.VESSEL, 0)
        if abs(x_mm) < 19:
            for margin, tissue in ((0.0, Tissue.CORTEX), (1.2, Tissue.MARROW)):
                pedicle = np.stack([block.at(0.9, 0.93), block.at(1.0, 0.9), block.at(1.0, 0.42), block.at(0.9, 0.4)])
                pedicle[1:3] += np.array([[16.0, -margin], [16.0, margin]])
                pedicle[[0, 3]] += np.array([[0.0, -margin], [0.0, margin]])
                canvas.polygon(pedicle, tissue)
