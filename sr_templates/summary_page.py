"""The first page: the mid-sagittal slice with its levels beside a table of levels and gradings."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from inference.grades import TITLES, Basis, Finding, is_abnormal
from inference.report import DiscGrading, Report
from sr_templates import codes, overlay
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

MEASURED_ROWS = ("disc_height_mm", "canal_ap_mm", "slip_mm")
CLEAR_SLIP_MM = 5.0
"""As the remarks have it: a larger slip, forward or backward, is marked, whatever the grade says of it."""


def draw_summary(report: Report, note: str = "") -> overlay.Pixels:
    """The summary page, RGB (768, 1024, 3); ``note`` is the last line beneath its table."""
    page = blank_page()
    compose_summary(page, ImageDraw.Draw(page), report, note)
    return np.asarray(page)


def blank_page() -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), overlay.PAPER)


def compose_summary(page: Image.Image, draw: ImageDraw.ImageDraw, report: Report, note: str) -> None:
    """Draw the summary onto ``page``, all words but those over the spine by ``draw``."""
    draw_banner(draw, WIDTH, "Lumbar disc grading: summary")
    view = make_view(report, 2 * PICTURE_WIDTH, HEIGHT - HEADER - 40)
    picture = _spine_picture(report, view)
    page.paste(picture, (MARGIN, HEADER))
    caption = f"Slice {middle_slice(report) + 1}; outlines from each disc's own mid-slice"
    overlay.write(draw, MARGIN, HEADER + picture.height + 6, caption, 13, overlay.FAINT)
    left = 2 * MARGIN + PICTURE_WIDTH
    bottom = _draw_table(draw, report, left, HEADER + 4)
    _draw_notes(draw, report, left, bottom + 10, note)


def middle_slice(report: Report) -> int:
    """The slice on which, or nearest to which, most discs have their mid-slice."""
    return int(np.median([disc.slice_index for disc in report.discs]))


def _spine_picture(report: Report, view: View) -> Image.Image:
    """The mid-sagittal slice, cut to a strip about the spine so that the discs are large."""
    picture = Image.fromarray(view.picture(middle_slice(report), heat=False))
    draw = ImageDraw.Draw(picture)
    for disc in report.discs:
        overlay.draw_outline(draw, view.pixels(disc.outline_lps_mm), colour_of(disc), dotted=False)
    draw_names(draw, report.discs, view)
    if picture.width <= PICTURE_WIDTH:
        return picture
    x = np.concatenate([view.pixels(disc.outline_lps_mm)[:, 0] for disc in report.discs])
    left = int(np.clip((x.min() + x.max()) / 2 - PICTURE_WIDTH / 2, 0, picture.width - PICTURE_WIDTH))
    return picture.crop((left, 0, left + PICTURE_WIDTH, picture.height))


def _draw_table(draw: ImageDraw.ImageDraw, report: Report, left: int, top: int) -> int:
    """One column per level, one row per grading or measurement; returns the y below it."""
    column = (WIDTH - MARGIN - left - NAME_COLUMN) / len(report.discs)
    is_narrow = any(overlay.width_of(shown_level(disc), CELL_PX) > column - 8 for disc in report.discs)
    for index, disc in enumerate(report.discs):
        words = shown_level(disc).replace("/", "/ ").split() if is_narrow else [shown_level(disc)]
        x = left + NAME_COLUMN + index * column
        for line, word in enumerate(words):
            overlay.write(draw, x + 4, top + 18 * line, word, CELL_PX, colour_of(disc))
    y = top + (40 if is_narrow else 22)
    rows = [(TITLES[finding], [_grade_cell(disc, finding) for disc in report.discs]) for finding in Finding]
    for name in MEASURED_ROWS:
        cells = [_measured_cell(disc, name) for disc in report.discs]
        rows.append((f"{codes.quantity(name).title}, mm", cells))
    rows.append(("Level certainty", [_level_cell(disc) for disc in report.discs]))
    for title, cells in rows:
        draw.line((left, y, WIDTH - MARGIN, y), fill=overlay.RULE)
        overlay.write(draw, left, y + 8, overlay.fitted(title, NAME_PX, NAME_COLUMN - 6), NAME_PX)
        for index, (word, small, is_marked) in enumerate(cells):
            x = left + NAME_COLUMN + index * column
            _draw_cell(draw, x, y, column, (word, small, is_marked))
        y += ROW_HEIGHT
    draw.line((left, y, WIDTH - MARGIN, y), fill=overlay.RULE)
    return y


def _draw_cell(draw: ImageDraw.ImageDraw, x: float, y: int, width: float, cell: tuple[str, str, bool]) -> None:
    word, small, is_marked = cell
    if is_marked:
        draw.rectangle((x + 1, y + 2, x + width - 2, y + ROW_HEIGHT - 2), fill=overlay.ABNORMAL_PAPER)
    colour = overlay.ABNORMAL if is_marked else overlay.FAINT if word == "n/a" else overlay.WORDS
    overlay.write(draw, x + 4, y + 3, word, CELL_PX, colour)
    if small:
        overlay.write(draw, x + 4, y + 19, overlay.fitted(small, SMALL_PX, width - 5), SMALL_PX, overlay.WORDS)


def _grade_cell(disc: DiscGrading, finding: Finding) -> tuple[str, str, bool]:
    grade = disc.grades.get(finding)
    if grade is None:
        return "n/a", "", False
    marked = is_abnormal(finding, grade)
    word = str(grade.value) if finding is Finding.PFIRRMANN else ("yes" if grade.value else "no")
    if grade.basis is Basis.MEASURED:
        small = "by mm"
    else:
        chance = grade.probabilities.get(grade.value)
        small = "" if chance is None else f"{100 * chance:.0f} %"
    return f"{word} !" if marked else word, small, marked


def _measured_cell(disc: DiscGrading, name: str) -> tuple[str, str, bool]:
    value = disc.measurements.get(name)
    if value is None:
        return "n/a", "", False
    marked = name == "slip_mm" and abs(value) > CLEAR_SLIP_MM
    return f"{value:.1f}{' !' if marked else ''}", "", marked


def _level_cell(disc: DiscGrading) -> tuple[str, str, bool]:
    doubtful = is_level_doubtful(disc)
    return f"{100 * disc.level_confidence:.0f} %{' !' if doubtful else ''}", "", doubtful


def _draw_notes(draw: ImageDraw.ImageDraw, report: Report, left: int, top: int, note: str) -> None:
    """Quality, then how to read the page; what does not fit is in the text report."""
    width = WIDTH - MARGIN - left
    notes = [(note, overlay.ABNORMAL) for note in dict.fromkeys((*report.quality, *report.spine.doubts))]
    if not any(abnormal_findings(disc) for disc in report.discs):
        notes.insert(0, ("No abnormal grading.", overlay.NORMAL))
    closing = [
        "! = abnormal: Pfirrmann 3 or more, finding present, slip beyond 5 mm. n/a = not assessed. "
        "Per cent: probability. By mm: from a measurement, not learned. "
        "Slip: minus = body above behind the one below (retrolisthesis).",
        model_words(report),
    ]
    if any(has_marrow_change(disc) for disc in report.discs):
        closing[0] += " The side of a marrow change is inferred, not labelled."
    lines = [(line, overlay.FAINT) for words in closing for line in overlay.wrapped(words, 13, width)]
    lines += [(line, overlay.WORDS) for line in overlay.wrapped(note, 13, width)]
    room = int((HEIGHT - MARGIN - top) // (NOTE_PX + 4)) - len(lines)
    wrapped = [[(line, colour) for line in overlay.wrapped(words, NOTE_PX, width)] for words, colour in notes]
    is_cut = sum(map(len, wrapped)) > room
    while wrapped and sum(map(len, wrapped)) > room - is_cut:
        wrapped.pop()  # no sentence is cut short: its end may turn what it says
    shown = [line for note_lines in wrapped for line in note_lines]
    shown += [("More in the text report.", overlay.ABNORMAL)] if is_cut else []
    y = top
    for line, colour in [*shown, *lines]:
        overlay.write(draw, left, y, line, 13 if colour in {overlay.FAINT, overlay.WORDS} else NOTE_PX, colour)
        y += NOTE_PX + 4
