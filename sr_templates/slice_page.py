"""One source slice as a page: outlines, level names and evidence on it, what was graded beside it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from inference.anatomy import DiscLevel
from inference.grades import TITLES, Finding, is_abnormal
from inference.report import DiscGrading, Report
from sr_templates import overlay
from sr_templates.provenance import RESEARCH_USE_ONLY
from sr_templates.view import View, explained_on, is_level_doubtful, shown_level

MARGIN = 10
HEADER = 38
FOOTER = 62
PANEL = 316
PICTURE_MAX = 1024 - PANEL - 3 * MARGIN
MINIMUM_BODY = 420
MINIMUM_WIDTH = 760
"""The legend's line needs as much."""

NAME_PX, LINE_PX = 19, 15
LETTERS_PX = 22
"""Height at the foot of a picture that A and P have for themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What stands beside the picture for one disc: lines of (words, size, colour)."""

    wanted_y: float
    lines: tuple[tuple[str, int, overlay.Colour], ...]

    @property
    def height(self) -> float:
        return sum(size + 5 for _, size, _ in self.lines) + 12


def discs_on(report: Report, slice_index: int) -> tuple[DiscGrading, ...]:
    """The discs that a slice shows: those whose mid-slice it is, and those with evidence of a finding on it."""
    return tuple(d for d in report.discs if d.slice_index == slice_index or explained_on(d, slice_index))


def draw_slice(report: Report, view: View, slice_index: int, note: str = "") -> overlay.Pixels:
    """The page of one slice, RGB; ``note`` is the last line at its foot."""
    discs = discs_on(report, slice_index)
    blocks = [block_of(disc, view, slice_index) for disc in discs]
    body = max(view.height, MINIMUM_BODY, int(np.ceil(sum(block.height for block in blocks))))
    width = max(view.width + PANEL + 3 * MARGIN, MINIMUM_WIDTH)
    page = Image.new("RGB", (width, HEADER + body + FOOTER), overlay.PAPER)
    page.paste(Image.fromarray(_annotated(report.discs, discs, view, slice_index)), (MARGIN, HEADER))
    draw = ImageDraw.Draw(page)
    draw_banner(draw, page.width, f"slice {slice_index + 1} of {report.volume.voxels.shape[0]}")
    x = view.width + 2 * MARGIN
    tops = overlay.apart([b.wanted_y for b in blocks], [b.height for b in blocks], 0.0, body)
    for block, top in zip(blocks, tops, strict=True):
        y = HEADER + top
        for words, size, colour in block.lines:
            overlay.write(draw, x, y, words, size, colour)
            y += size + 5
    _draw_legend(draw, HEADER + body, report, note)
    return np.asarray(page)


def draw_banner(draw: ImageDraw.ImageDraw, width: int, right: str) -> None:
    """The head of every page: research use, and which page it is."""
    draw.rectangle((0, 0, width, HEADER - 8), fill=overlay.ABNORMAL_PAPER)
    overlay.write(draw, MARGIN, 5, RESEARCH_USE_ONLY, 17, overlay.ABNORMAL)
    overlay.write(draw, width - MARGIN - overlay.width_of(right, 16), 6, right, 16)


def draw_names(
    draw: ImageDraw.ImageDraw, discs: tuple[DiscGrading, ...], view: View, faint: Collection[DiscLevel] = ()
) -> None:
    """Level names in front of the discs, inside the picture and apart from each other.

    ``faint`` are the levels that this slice says nothing of: named for orientation only.
    """
    outlines = [view.pixels(disc.outline_lps_mm) for disc in discs]
    wanted = [float(outline[:, 1].mean()) - NAME_PX / 2 for outline in outlines]
    room = float(view.height - LETTERS_PX)
    if room < NAME_PX * len(discs):
        return
    tops = overlay.apart(wanted, [float(NAME_PX)] * len(discs), 0.0, room)
    for disc, outline, top in zip(discs, outlines, tops, strict=True):
        width = overlay.width_of(shown_level(disc), NAME_PX - 3)
        colour = overlay.FAINT if disc.level in faint else colour_of(disc)
        x = min(max(float(outline[:, 0].min()) - width - 10, 3.0), max(view.width - width - 3, 0.0))
        overlay.write(draw, x, top, shown_level(disc), NAME_PX - 3, colour, halo=True)


def draw_directions(draw: ImageDraw.ImageDraw, view: View) -> None:
    """A (anterior) and P (posterior) in the lower corners of the picture: views are always upright."""
    for letter, x in (("A", 5.0), ("P", view.width - 16.0)):
        overlay.write(draw, x, view.height - LETTERS_PX + 2, letter, 15, overlay.FAINT, halo=True)


def colour_of(disc: DiscGrading) -> overlay.Colour:
    return overlay.ABNORMAL if abnormal_findings(disc) else overlay.NORMAL


def in_sentence(finding: Finding) -> str:
    """A finding's title within a sentence; Pfirrmann was a person."""
    return TITLES[finding] if finding is Finding.PFIRRMANN else TITLES[finding].lower()


def abnormal_findings(disc: DiscGrading) -> tuple[Finding, ...]:
    return tuple(finding for finding, grade in disc.grades.items() if is_abnormal(finding, grade))


def _annotated(
    all_discs: tuple[DiscGrading, ...], discs: tuple[DiscGrading, ...], view: View, slice_index: int
) -> overlay.Pixels:
    picture = Image.fromarray(view.picture(slice_index, heat=True))
    draw = ImageDraw.Draw(picture)
    for disc in discs:
        dotted = disc.slice_index != slice_index
        overlay.draw_outline(draw, view.pixels(disc.outline_lps_mm), colour_of(disc), dotted=dotted)
    draw_names(draw, all_discs, view, faint=frozenset(d.level for d in all_discs) - {d.level for d in discs})
    draw_directions(draw, view)
    return np.asarray(picture)


def block_of(disc: DiscGrading, view: View, slice_index: int) -> Block:
    """The words beside the picture for one disc."""
    width = PANEL - MARGIN
    lines: list[tuple[str, int, overlay.Colour]] = [(_headline(disc), NAME_PX, colour_of(disc))]

    def add(words: str, colour: overlay.Colour) -> None:
        lines.extend((line, LINE_PX, colour) for line in overlay.wrapped(words, LINE_PX, width))

    abnormal = [in_sentence(f) for f in abnormal_findings(disc) if f is not Finding.PFIRRMANN]
    if abnormal:
        add(f"Abnormal: {', '.join(abnormal)}", overlay.ABNORMAL)
    elif Finding.PFIRRMANN not in abnormal_findings(disc):
        add("no abnormal grading", overlay.FAINT)
    hot = explained_on(disc, slice_index)
    if hot and set(hot) == set(abnormal_findings(disc)):
        add("Evidence: all of these", overlay.WORDS)
    elif hot:
        add(f"Evidence: {', '.join(in_sentence(f) for f in hot)}", overlay.WORDS)
    if is_level_doubtful(disc):
        told = "uncertain" if disc.withheld_place is None else "withheld"
        add(f"Level {told}: count the levels", overlay.ABNORMAL)
    return Block(wanted_y=float(view.pixels(disc.center_lps_mm)[1]) - NAME_PX / 2, lines=tuple(lines))


def _headline(disc: DiscGrading) -> str:
    grade = disc.grades.get(Finding.PFIRRMANN)
    if grade is None:
        return f"{shown_level(disc)}   Pfirrmann n/a"
    sure = f" ({100 * grade.probabilities[grade.value]:.0f} %)" if grade.value in grade.probabilities else ""
    mark = " !" if is_abnormal(Finding.PFIRRMANN, grade) else ""
    return f"{shown_level(disc)}   Pfirrmann {grade.value}{sure}{mark}"


def _draw_legend(draw: ImageDraw.ImageDraw, y: int, report: Report, note: str) -> None:
    overlay.write(draw, MARGIN, y + 4, "Evidence", 14, overlay.FAINT)
    overlay.draw_heat_bar(draw, MARGIN + 68, y + 7, 90, 11)
    legend = "weak to strong: the network's half of an abnormal grade; dotted: outline of the mid-slice"
    overlay.write(draw, MARGIN + 162, y + 4, legend, 14, overlay.FAINT)
    overlay.write(draw, MARGIN, y + 23, model_words(report), 14, overlay.FAINT)
    overlay.write(draw, MARGIN, y + 42, note, 14)


def model_words(report: Report) -> str:
    """Which weights spoke, in one line."""
    model = report.model
    return f"{model.name} {model.version}, weights {model.sha256[:12]}. Not verified by a person."
