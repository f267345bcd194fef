"""A drawn page as a PDF to print and to search: whose it is above the picture, the picture's words beneath it.

matplotlib writes the PDF and embeds what is used of the pages' font.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font
from PIL import ImageDraw

from sr_templates import overlay

DOTS_PER_INCH = 100.0
"""A page of 1024 x 768 pixels with its header is then as large as a sheet of A4 across."""
HEADER_INCH = 0.56
LINE_INCH = 0.17
FIRST_LINE_PT, LINE_PT = 11.0, 9.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedWords:
    """Words as they were drawn: their top left corner and their size in pixels of the page."""

    x: float
    y: float
    size_px: float
    words: str


class RecordingDraw(ImageDraw.ImageDraw):
    """Draws, and keeps what it was told to write."""

    def __init__(self, page: Any) -> None:
        super().__init__(page)
        self.written: list[PlacedWords] = []

    def text(self, xy: Any, text: Any, *args: Any, **kwargs: Any) -> None:
        size_px = float(getattr(kwargs.get("font"), "size", 10))
        self.written.append(PlacedWords(x=float(xy[0]), y=float(xy[1]), size_px=size_px, words=str(text)))
        super().text(xy, text, *args, **kwargs)


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    return frozenset(get_font(str(overlay.FONT)).get_charmap())


def can_print(words: str) -> bool:
    """Whether the font has every character."""
    return all(ord(character) in _characters() for character in words)


def printable(words: str) -> str:
    """``words`` with "?" for what the font lacks."""
    return "".join(character if ord(character) in _characters() else "?" for character in words)


def as_pdf(
    picture: overlay.Pixels,
    written: Sequence[PlacedWords],
    header: Sequence[str],
    title: str,
    created_at: datetime,
) -> bytes:
    """One page: up to three lines of ``header`` in black on white, below them the picture with its words as text.

    The words lie under the picture, so that they can be searched and copied and are not seen. The same arguments give
    the same bytes.
    """
    height, width = picture.shape[:2]
    inches = width / DOTS_PER_INCH, height / DOTS_PER_INCH + HEADER_INCH
    stream = BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42, "text.usetex": False, "savefig.bbox": None}):
        figure = Figure(figsize=inches)
        FigureCanvasPdf(figure)
        for number, line in enumerate(header):
            size = LINE_PT if number else FIRST_LINE_PT
            _write(figure, 0.1, 0.06 + number * LINE_INCH, printable(line), size, inches)
        for item in written:
            across, down = item.x / DOTS_PER_INCH, HEADER_INCH + item.y / DOTS_PER_INCH
            size = item.size_px * 72 / DOTS_PER_INCH
            _write(figure, across, down, printable(item.words), size, inches)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0 - HEADER_INCH / inches[1]))
        axes.set_axis_off()
        axes.imshow(picture, aspect="auto", interpolation="none")
        metadata = {"Title": title, "Creator": "spinenode", "Producer": "spinenode", "CreationDate": created_at}
        figure.savefig(stream, format="pdf", metadata=metadata)
    return stream.getvalue()


def _write(  # noqa: PLR0913, PLR0917 - a place, words and the page that it is a place on
    figure: Figure, across: float, down: float, words: str, size_pt: float, page_inches: tuple[float, float]
) -> None:
    """A line from its top left corner, in inches of the page, beneath all pictures."""
    figure.text(
        across / page_inches[0],
        1.0 - down / page_inches[1],
        words,
        font=overlay.FONT,
        fontsize=size_pt,
        verticalalignment="top",
        parse_math=False,
        zorder=-1,
    )
