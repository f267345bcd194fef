"""The first page: the mid-sagittal slice with its levels beside a table of levels and gradings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from inference.grades import CLASSES, Basis, Finding, is_abnormal
from inference.report import DiscGrading, Report
from sr_templates import overlay
from sr_templates.phrases import Phrases
from sr_templates.slice_page import (
    HEADER,
    MARGIN,
    abnormal_findings,
    colour_of,
    draw_banner,
    draw_names,
    model_words,
)
from sr_templates.view import View, has_marrow_change, is_level_doubtful, make_view, shown_level

WIDTH, HEIGHT = 1024, 768
PICTURE_WIDTH = 388
ROW_HEIGHT = 34
NAME_COLUMN = 172
CELL_PX, SMALL_PX, NAME_PX, NOTE_PX = 15, 13, 15, 14

Cell = tuple[str, str, bool]
"""A word, small words below it, whether it is marked as abnormal."""

MEASURED_ROWS = ("disc_height_mm", "canal_ap_mm", "slip_mm")
CLEAR_SLIP_MM = 5.0
"""As the remarks have it: a larger slip, forward or backward, is marked, whatever the grade says of it."""


def draw_summary(report: Report, words: Phrases, note: str = "") -> overlay.Pixels:
    """The summary page, RGB (768, 1024, 3); ``note`` is the last line beneath its table."""
    page = blank_page()
    compose_summary(page, ImageDraw.Draw(page), report, words, note)
    return np.asarray(page)


def blank_page() -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), overlay.PAPER)


def compose_summary(page: Image.Image, draw: ImageDraw.ImageDraw, report: Report, words: Phrases, note: str) -> None:
    """Draw the summary onto ``page``, all words but those over the spine by ``draw``."""
    draw_banner(draw, WIDTH, words.pages["summary"], words)
    view = make_view(report, 2 * PICTURE_WIDTH, HEIGHT - HEADER - 40)
    picture = _spine_picture(report, view, words)
    page.paste(picture, (MARGIN, HEADER))
    caption = words.pages["slices_shown"].format(slice=middle_slice(report) + 1)
    overlay.write(draw, MARGIN, HEADER + picture.height + 6, caption, 13, overlay.FAINT)
    left = 2 * MARGIN + PICTURE_WIDTH
    bottom = _draw_table(draw, report, words, left, HEADER + 4)
    _draw_notes(draw, report, words, left, bottom + 10, note)


def middle_slice(report: Report) -> int:
    """The slice on which, or nearest to which, most discs have their mid-slice."""
    return int(np.median([disc.slice_index for disc in report.discs]))


def _spine_picture(report: Report, view: View, words: Phrases) -> Image.Image:
    """The mid-sagittal slice, cut to a strip about the spine so that the discs are large."""
    picture = Image.fromarray(view.picture(middle_slice(report), heat=False))
    draw = ImageDraw.Draw(picture)
    for disc in report.discs:
        overlay.draw_outline(draw, view.pixels(disc.outline_lps_mm), colour_of(disc), dotted=False)
    draw_names(draw, report.discs, view, words)
    if picture.width <= PICTURE_WIDTH:
        return picture
    x = np.concatenate([view.pixels(disc.outline_lps_mm)[:, 0] for disc in report.discs])
    left = int(np.clip((x.min() + x.max()) / 2 - PICTURE_WIDTH / 2, 0, picture.width - PICTURE_WIDTH))
    return picture.crop((left, 0, left + PICTURE_WIDTH, picture.height))


def _draw_table(draw: ImageDraw.ImageDraw, report: Report, words: Phrases, left: int, top: int) -> int:
    """One column per level, one row per grading or measurement; returns the y below it."""
    column = (WIDTH - MARGIN - left - NAME_COLUMN) / len(report.discs)
    names = [shown_level(disc, words) for disc in report.discs]
    is_narrow = any(overlay.width_of(name, CELL_PX) > column - 8 for name in names)
    for index, (name, disc) in enumerate(zip(names, report.discs, strict=True)):
        x = left + NAME_COLUMN + index * column
        for line, word in enumerate(name.replace("/", "/ ").split() if is_narrow else [name]):
            overlay.write(draw, x + 4, top + 18 * line, word, CELL_PX, colour_of(disc))
    y = top + (40 if is_narrow else 22)
    for title, cells in _rows(report, words):
        draw.line((left, y, WIDTH - MARGIN, y), fill=overlay.RULE)
        overlay.write(draw, left, y + 8, overlay.fitted(title, NAME_PX, NAME_COLUMN - 6), NAME_PX)
        for index, cell in enumerate(cells):
            is_unknown = cell[0] == words.pages["not_assessed"]
            colour = overlay.ABNORMAL if cell[2] else overlay.FAINT if is_unknown else overlay.WORDS
            _draw_cell(draw, left + NAME_COLUMN + index * column, y, column, cell, colour)
        y += ROW_HEIGHT
    draw.line((left, y, WIDTH - MARGIN, y), fill=overlay.RULE)
    return y


def _rows(report: Report, words: Phrases) -> Iterator[tuple[str, list[Cell]]]:
    """Heading and cells of each row of the table."""
    for finding in Finding:
        yield words.rows[finding.value], [_grade_cell(disc, finding, words) for disc in report.discs]
    for name in MEASURED_ROWS:
        title = words.pages["in_mm"].format(quantity=words.rows[name])
        yield title, [_measured_cell(disc, name, words) for disc in report.discs]
    yield words.pages["level_certainty"], [_level_cell(disc, words) for disc in report.discs]


def _draw_cell(  # noqa: PLR0913, PLR0917 - a place, words and how they look
    draw: ImageDraw.ImageDraw, x: float, y: int, width: float, cell: Cell, colour: overlay.Colour
) -> None:
    word, small, is_marked = cell
    if is_marked:
        draw.rectangle((x + 1, y + 2, x + width - 2, y + ROW_HEIGHT - 2), fill=overlay.ABNORMAL_PAPER)
    overlay.write(draw, x + 4, y + 3, word, CELL_PX, colour)
    if small:
        overlay.write(draw, x + 4, y + 19, overlay.fitted(small, SMALL_PX, width - 5), SMALL_PX, overlay.WORDS)


def _grade_cell(disc: DiscGrading, finding: Finding, words: Phrases) -> Cell:
    grade = disc.grades.get(finding)
    if grade is None:
        return words.pages["not_assessed"], "", False
    marked = is_abnormal(finding, grade)
    word = str(grade.value) if len(CLASSES[finding]) > 2 else words.pages["yes" if grade.value else "no"]
    if finding in disc.modic_types:
        word = f"M{disc.modic_types[finding].value}"
    chance = grade.probabilities.get(grade.value)
    if chance is not None:
        small = words.percent(chance)
    else:
        small = words.pages["by_measurement"] if grade.basis is Basis.MEASURED else ""
    modic = disc.modic_types.get(finding)
    uncertain = "?" if grade.doubt or (modic is not None and modic.doubt) else ""
    return f"{word}{uncertain} !" if marked else f"{word}{uncertain}", small, marked


def _measured_cell(disc: DiscGrading, name: str, words: Phrases) -> Cell:
    value = disc.measurements.get(name)
    if value is None:
        return words.pages["not_assessed"], "", False
    marked = name == "slip_mm" and abs(value) > CLEAR_SLIP_MM
    return f"{words.number(value, 1)}{' !' if marked else ''}", "", marked


def _level_cell(disc: DiscGrading, words: Phrases) -> Cell:
    doubtful = is_level_doubtful(disc)
    return f"{words.percent(disc.level_confidence)}{' !' if doubtful else ''}", "", doubtful


def _draw_notes(  # noqa: PLR0913, PLR0917 - a place, words and what they tell of
    draw: ImageDraw.ImageDraw, report: Report, words: Phrases, left: int, top: int, note: str
) -> None:
    """Quality, then how to read the page; what does not fit is in the text report."""
    width = WIDTH - MARGIN - left
    doubts = dict.fromkeys((*report.quality, *report.spine.doubts))
    notes = [(words.sentence(doubt), overlay.ABNORMAL) for doubt in doubts]
    if not any(abnormal_findings(disc) for disc in report.discs):
        notes.insert(0, (words.pages["none_abnormal_of_all"], overlay.NORMAL))
    legend = [words.pages["legend"]]
    if any(disc.withheld_place is not None for disc in report.discs):
        legend.append(words.pages["withheld_legend"])
    if any(has_marrow_change(disc) for disc in report.discs):
        legend.append(words.pages["marrow_side"])
    closing = " ".join(legend), model_words(report, words)
    lines = [(line, overlay.FAINT) for told in closing for line in overlay.wrapped(told, 13, width)]
    lines += [(line, overlay.WORDS) for line in overlay.wrapped(note, 13, width)]
    room = int((HEIGHT - MARGIN - top) // (NOTE_PX + 4)) - len(lines)
    wrapped = [[(line, colour) for line in overlay.wrapped(told, NOTE_PX, width)] for told, colour in notes]
    is_cut = sum(map(len, wrapped)) > room
    while wrapped and sum(map(len, wrapped)) > room - is_cut:
        wrapped.pop()  # no sentence is cut short: its end may turn what it says
    shown = [line for note_lines in wrapped for line in note_lines]
    shown += [(words.pages["more"], overlay.ABNORMAL)] if is_cut else []
    y = top
    for line, colour in [*shown, *lines]:
        overlay.write(draw, left, y, line, 13 if colour in {overlay.FAINT, overlay.WORDS} else NOTE_PX, colour)
        y += NOTE_PX + 4
