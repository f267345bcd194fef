"""Drawing only: pictures, outlines, heat and words as RGB pixels. Knows no report and no DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
"""(rows, columns, 3) RGB."""
Colour = tuple[int, int, int]
Points = NDArray[np.float64]
"""(n, 2) x, y in pixels."""

PAPER: Colour = (14, 16, 20)
WORDS: Colour = (232, 234, 238)
FAINT: Colour = (150, 156, 166)
RULE: Colour = (58, 63, 72)
NORMAL: Colour = (94, 203, 214)
ABNORMAL: Colour = (255, 176, 59)
"""Cyan and amber stay apart for every common colour blindness; words always say the same as the colour."""
ABNORMAL_PAPER: Colour = (84, 54, 6)

HEAT_FLOOR = 0.2
"""Weaker evidence is left out, so that anatomy stays readable under the hot spots."""
HEAT_OPACITY = 0.6

_HEAT_ANCHORS: Points = np.array(
    [[126, 3, 168], [168, 34, 150], [203, 70, 121], [229, 107, 93], [248, 148, 65], [253, 195, 40], [240, 249, 33]],
    dtype=np.float64,
)
"""The upper part of the perceptually uniform map "plasma" (S. van der Walt, N. Smith, 2015, CC0)."""


FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""It comes with matplotlib, so that no file of the machine is needed and pixels repeat everywhere. It has Latin, Greek,
Cyrillic, Hebrew and Arabic letters; Pillow's own font has those of English only."""
LETTER_SIZE = 0.88
"""DejaVu Sans is wide and its small letters are tall: this share of a size reads like other fonts at all of it."""


@lru_cache(maxsize=16)
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """The pages' font for lines of a nominal height."""
    return ImageFont.truetype(FONT, LETTER_SIZE * size_px)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tone:
    """From signal to grey: ``black`` and ``white`` as of a window, ``gamma`` below 1 lifts what lies between."""

    black: float
    white: float
    gamma: float


def grey_picture(plane: NDArray[np.float32], tone: Tone, width: int, height: int) -> Pixels:
    """One slice (rows, columns) as RGB pixels (height, width, 3), enlarged smoothly."""
    scaled = Image.fromarray(_levels(plane, tone)).resize((width, height), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(scaled)[:, :, None], 3, axis=2)


def _levels(plane: NDArray[np.float32], tone: Tone) -> NDArray[np.uint8]:
    share = np.clip((plane - tone.black) / (tone.white - tone.black), 0.0, 1.0)
    levels: NDArray[np.uint8] = (share**tone.gamma * 255.0).astype(np.uint8)
    return levels


def cutting(
    plane: NDArray[np.float32],
    tone: Tone,
    corner: tuple[int, int],
    steps: tuple[float, float],
    size: tuple[int, int],
) -> Pixels:
    """Part of an enlarged slice as RGB pixels; black beyond the slice.

    ``corner`` (x, y) and ``size`` (width, height) are in pixels of the enlarged slice, ``steps`` are voxels per pixel
    along x and y.
    """
    cut = _cut(Image.fromarray(_levels(plane, tone)), corner, steps, size, Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(cut)[:, :, None], 3, axis=2)


def heat_cutting(
    strength: NDArray[np.float32], corner: tuple[int, int], steps: tuple[float, float], size: tuple[int, int]
) -> NDArray[np.float32]:
    """As ``cutting``, of evidence: (height, width) 0-1."""
    return np.asarray(_cut(Image.fromarray(strength), corner, steps, size, Image.Resampling.BILINEAR))


def _cut(
    picture: Image.Image,
    corner: tuple[int, int],
    steps: tuple[float, float],
    size: tuple[int, int],
    resampling: Image.Resampling,
) -> Image.Image:
    affine = (steps[0], 0.0, corner[0] * steps[0], 0.0, steps[1], corner[1] * steps[1])
    return picture.transform(size, Image.Transform.AFFINE, affine, resampling)


def heat_colours(strength: NDArray[np.float64]) -> Points:
    """(...,) 0-1 -> (..., 3) RGB 0-255."""
    stops = np.linspace(0.0, 1.0, len(_HEAT_ANCHORS))
    return np.stack([np.interp(strength, stops, _HEAT_ANCHORS[:, channel]) for channel in range(3)], axis=-1)


def with_heat(picture: Pixels, strength: NDArray[np.float32]) -> Pixels:
    """``picture`` with evidence over it: colour and opacity grow with strength (rows, columns; 0-1)."""
    height, width = picture.shape[:2]
    smooth = Image.fromarray(strength.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    scaled = np.asarray(smooth)
    hot = scaled >= HEAT_FLOOR
    relative = (scaled[hot].astype(np.float64) - HEAT_FLOOR) / (1.0 - HEAT_FLOOR)
    opacity = (HEAT_OPACITY * (0.35 + 0.65 * relative))[:, None]
    blended = picture.copy()
    blended[hot] = ((1.0 - opacity) * picture[hot] + opacity * heat_colours(relative)).astype(np.uint8)
    return blended


def draw_outline(draw: ImageDraw.ImageDraw, points: Points, colour: Colour, *, dotted: bool) -> None:
    """A closed outline; dotted where it was found on another slice."""
    if not dotted:
        draw.line([tuple(point) for point in (*points, points[0], points[1])], fill=colour, width=2, joint="curve")
        return
    for x, y in _along(points, step_px=6.0):
        draw.rectangle((x - 0.5, y - 0.5, x + 0.5, y + 0.5), fill=colour)


def _along(points: Points, step_px: float) -> Points:
    closed = np.vstack([points, points[:1]])
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.arange(0.0, travelled[-1], step_px)
    return np.stack([np.interp(at, travelled, closed[:, axis]) for axis in (0, 1)], axis=1)


def write(  # noqa: PLR0913, PLR0917 - a place, words and how they look
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    words: str,
    size_px: int,
    colour: Colour = WORDS,
    *,
    halo: bool = False,
) -> None:
    """One line of words from its top left corner; a dark halo makes it legible on a picture."""
    stroke = 2 if halo else 0
    draw.text((x, y), words, font=font(size_px), fill=colour, stroke_width=stroke, stroke_fill=(0, 0, 0))


def width_of(words: str, size_px: int) -> float:
    return float(font(size_px).getlength(words))


def fitted(words: str, size_px: int, width_px: float) -> str:
    """``words``, shortened with dots at their end where they would not fit."""
    if width_of(words, size_px) <= width_px:
        return words
    while words and width_of(words + "...", size_px) > width_px:
        words = words[:-1]
    return words + "..."


def wrapped(words: str, size_px: int, width_px: float) -> tuple[str, ...]:
    """Lines of at most ``width_px``; a single longer word is shortened."""
    lines: list[str] = []
    for word in words.split():
        candidate = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(candidate, size_px) <= width_px:
            lines[-1] = candidate
        else:
            lines.append(fitted(word, size_px, width_px))
    return tuple(lines)


def apart(wanted_tops: Sequence[float], heights: Sequence[float], first: float, last: float) -> tuple[float, ...]:
    """Tops of blocks that neither overlap nor leave ``first``..``last``, each near where it is wanted.

    Blocks keep the order of their wanted tops. Raises ValueError where they do not fit at all.
    """
    if sum(heights) > last - first + 1e-9:
        raise ValueError(f"blocks of {sum(heights):.0f} px do not fit into {last - first:.0f} px")
    order = sorted(range(len(wanted_tops)), key=lambda index: wanted_tops[index])
    tops = [0.0] * len(wanted_tops)
    floor = first
    for index in order:
        tops[index] = max(wanted_tops[index], floor)
        floor = tops[index] + heights[index]
    ceiling = last
    for index in reversed(order):
        tops[index] = min(tops[index], ceiling - heights[index])
        ceiling = tops[index]
    return tuple(tops)


def draw_heat_bar(draw: ImageDraw.ImageDraw, x: int, y: int, width: int, height: int) -> None:
    """The colours of the heat from weak (left) to strong (right)."""
    for offset, colour in enumerate(heat_colours(np.linspace(0.0, 1.0, width))):
        draw.line((x + offset, y, x + offset, y + height), fill=tuple(int(channel) for channel in colour))
