"""Vertebral bodies, discs and posterior elements of the phantom, painted on one sagittal section."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from inference.phantom_anatomy import Block, DiscCondition, Skeleton, narrowed
from inference.phantom_canvas import Canvas
from inference.phantom_tissues import Tissue
from inference.volume import FloatArray

LUMBAR = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")


def bones_and_discs(canvas: Canvas, skeleton: Skeleton, x_mm: float, rng: np.random.Generator) -> None:
    sections = {block.level: narrowed(block, x_mm) for block in skeleton.blocks}
    for level, condition in skeleton.conditions.items():
        upper, lower = sections[level.upper_vertebra.value], sections[level.lower_vertebra.value]
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
        upper |= condition.fatty_marrow and level.lower_vertebra.value == block.level
        lower |= condition.fatty_marrow and level.upper_vertebra.value == block.level
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
    shrunk: FloatArray = corners + np.stack(
        [
            walls_mm * back - plates_mm * up,
            -walls_mm * back - plates_mm * up,
            -walls_mm * back + plates_mm * up,
            walls_mm * back + plates_mm * up,
        ]
    )
    return shrunk


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


def posterior_elements(canvas: Canvas, skeleton: Skeleton, canal_back: Callable[[float], float], x_mm: float) -> None:
    for name in LUMBAR:
        block = skeleton.block(name)
        low, lumbar = block.at(1.0, 0.18), name.startswith("L")
        root = np.array([float(canal_back(low[1])), low[1]])
        if abs(x_mm) < 4.2:
            _spinous_process(canvas, root, lumbar, 0.72 if name == "L5" else 1.0)
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


def _spinous_process(canvas: Canvas, root: FloatArray, lumbar: bool, size: float) -> None:
    if lumbar:
        outline = np.array(
            [[0.5, 5], [8, 6], [20, 3], [29, 1], [31, -6], [30, -15], [24, -18], [15, -14], [7, -9], [1, -6]]
        )
    else:
        outline = np.array([[0.5, 4], [10, 0], [22, -12], [30, -19], [29, -24], [22, -23], [10, -14], [1, -7]])
    outline = size * outline
    middle = outline.mean(axis=0)
    canvas.polygon(root + outline, Tissue.CORTEX)
    canvas.polygon(root + middle + (outline - middle) * [0.92, 0.85], Tissue.MARROW)


def _facets(canvas: Canvas, block: Block) -> None:
    """Articular processes behind the foramina, and the pedicle where the plane meets it."""
    for up, tall in ((0.75, 11.0), (-0.02, 10.0)):
        center = block.at(1.0, up) + np.array([21.0, -6.0 if up > 0.5 else -9.0])
        canvas.ellipse(center, (6.0, tall), Tissue.CORTEX, -25)
        canvas.ellipse(center, (4.8, tall - 1.3), Tissue.MARROW, -25)


def foramina(canvas: Canvas, skeleton: Skeleton, x_mm: float) -> None:
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
