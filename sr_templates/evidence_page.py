"""Where the gradings of one disc come from: a row for each abnormal finding, a cell for each slice that shows why.

Cells keep the order and the orientation of the source; the finding, its grade and its probability stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from inference.grades import CLASSES, Basis, Finding
from inference.report import DiscGrading, EvidenceMap, Report
from sr_templates import overlay
from sr_templates.phrases import Phrases
from sr_templates.slice_page import HEADER, MARGIN, colour_of, draw_banner, model_words
from sr_templates.view import SHOWN_FROM, View, explained, heat_of, shown_level

WIDTH = 1024
NAMES = 212
CELLS = 4
CELL_WIDTH = (WIDTH - NAMES - (CELLS + 2) * MARGIN) // CELLS
CELL_HEIGHT = 158
CAPTION = 20
FOOTER = 86
ROWS_ON_A_PAGE = 4
FIELD_MM = 62.0
"""Width of what a cell shows: a lumbar disc is about 35 mm deep, the canal behind it about 15 mm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceRow:
    """One map of an abnormal finding, and the slices on which it is shown."""

    evidence: EvidenceMap
    slices: tuple[int, ...]
    """In the order of the source; those where the map is strongest."""


def evidence_rows(disc: DiscGrading, slice_count: int) -> tuple[EvidenceRow, ...]:
    """The maps of a disc that reach ``SHOWN_FROM`` on some slice of the volume."""
    rows = []
    for evidence in explained(disc):
        first = evidence.first_voxel[0]
        peaks = {
            first + offset: float(plane.max(initial=0.0))
            for offset, plane in enumerate(evidence.values)
            if 0 <= first + offset < slice_count
        }
        strongest = sorted((index for index in peaks if peaks[index] >= SHOWN_FROM), key=lambda i: (-peaks[i], i))
        if strongest:
            rows.append(EvidenceRow(evidence=evidence, slices=tuple(sorted(strongest[:CELLS]))))
    return tuple(rows)


def draw_evidence(
    report: Report, view: View, disc: DiscGrading, words: Phrases, note: str = ""
) -> Iterator[tuple[overlay.Pixels, tuple[int, ...]]]:
    """(RGB pixels, indices of the slices shown) of each page about a disc; none where nothing is to be shown.

    ``note`` is the last line at the foot of each.
    """
    rows = evidence_rows(disc, report.volume.voxels.shape[0])
    near = replace(view, pixels_per_mm=CELL_WIDTH / FIELD_MM)
    shown = [rows[start : start + ROWS_ON_A_PAGE] for start in range(0, len(rows), ROWS_ON_A_PAGE)]
    for number, part in enumerate(shown, start=1):
        slices = tuple(sorted({index for row in part for index in row.slices}))
        key = "evidence_of_part" if len(shown) > 1 else "evidence_of"
        title = words.pages[key].format(level=shown_level(disc, words), part=number, parts=len(shown))
        page = _page(report, near, disc, part, words)
        draw = ImageDraw.Draw(page)
        draw_banner(draw, WIDTH, title, words)
        _draw_legend(draw, page.height - FOOTER, report, words, note)
        yield np.asarray(page), slices


def finding_words(finding: Finding, disc: DiscGrading, words: Phrases) -> tuple[str, str]:
    """(the grade, how sure) of a finding, e.g. ("Pfirrmann grade 4", "probability 70%")."""
    grade, name = disc.grades[finding], words.rows[finding.value]
    if len(CLASSES[finding]) > 2:
        name += f" {grade.value}"
    chance = grade.probabilities.get(grade.value)
    if chance is not None:
        told = [words.pages["probability"].format(percent=words.percent(chance))]
        told += [words.disc["step_measured"]] if grade.basis is Basis.MEASURED else []
    else:
        told = [words.pages["measured"]] if grade.basis is Basis.MEASURED else []
    return name, ", ".join([*told, words.disc["uncertain"]] if grade.doubt else told)


def _page(report: Report, view: View, disc: DiscGrading, rows: tuple[EvidenceRow, ...], words: Phrases) -> Image.Image:
    """A page without its head and foot."""
    row_height = CELL_HEIGHT + CAPTION + MARGIN
    height = HEADER + len(rows) * row_height + FOOTER
    page = Image.new("RGB", (WIDTH, height), overlay.PAPER)
    draw = ImageDraw.Draw(page)
    for number, row in enumerate(rows):
        top = HEADER + number * row_height
        _draw_names(draw, row.evidence, disc, words, top)
        alone = replace(view, heat=heat_of(report.volume, (row.evidence,)))
        for place, index in enumerate(row.slices):
            left = NAMES + MARGIN + place * (CELL_WIDTH + MARGIN)
            page.paste(_cell(alone, disc, index), (left, top))
            caption = words.pages["mid_slice" if index == disc.slice_index else "slice"].format(slice=index + 1)
            overlay.write(draw, left, top + CELL_HEIGHT + 3, caption, 13, overlay.FAINT)
    return page


def _draw_names(draw: ImageDraw.ImageDraw, evidence: EvidenceMap, disc: DiscGrading, words: Phrases, top: int) -> None:
    name, sure = finding_words(evidence.finding, disc, words)
    method = words.methods[evidence.method.value]
    y = float(top)
    heading = (f"{name} !", 17, overlay.ABNORMAL)
    for told, size, colour in (heading, (sure, 15, overlay.WORDS), (method, 13, overlay.FAINT)):
        for line in overlay.wrapped(told, size, NAMES - MARGIN):
            overlay.write(draw, MARGIN, y, line, size, colour)
            y += size + 5


def _cell(view: View, disc: DiscGrading, slice_index: int) -> Image.Image:
    """The part of a slice about the disc; where the image ends the cell stays dark."""
    outline = view.pixels(disc.outline_lps_mm)
    middle = (outline.min(axis=0) + outline.max(axis=0)) / 2
    left, top = (int(v) for v in np.round(middle - (CELL_WIDTH / 2, CELL_HEIGHT / 2)))
    picture = view.part(slice_index, left, top, (CELL_WIDTH, CELL_HEIGHT))
    cell = Image.fromarray(picture)
    dotted = slice_index != disc.slice_index
    overlay.draw_outline(ImageDraw.Draw(cell), outline - (left, top), colour_of(disc), dotted=dotted)
    return cell


def _draw_legend(draw: ImageDraw.ImageDraw, y: int, report: Report, words: Phrases, note: str) -> None:
    overlay.write(draw, MARGIN, y + 6, words.pages["evidence"], 14, overlay.FAINT)
    overlay.draw_heat_bar(draw, MARGIN + 68, y + 9, 110, 11)
    floor, whole = words.percent(overlay.HEAT_FLOOR), words.percent(1.0)
    legend = words.pages["evidence_legend"].format(floor=floor, whole=whole)
    overlay.write(draw, MARGIN + 186, y + 6, legend, 14, overlay.FAINT)
    overlay.write(draw, MARGIN, y + 26, words.pages["share"], 14, overlay.FAINT)
    overlay.write(draw, MARGIN, y + 46, model_words(report, words), 14, overlay.FAINT)
    overlay.write(draw, MARGIN, y + 65, note, 14)
