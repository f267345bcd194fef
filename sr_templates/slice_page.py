"""One source slice as a page: outlines, level names and evidence on it, what was graded beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from inference.anatomy import DiscLevel
from inference.grades import Finding, is_abnormal
from inference.report import DiscGrading, Report
from sr_templates import overlay
from sr_templates.phrases import Phrases
from sr_templates.view import View, explained_on, is_level_doubtful, shown_level

MARGIN = 10
HEADER = 38
FOOTER = 62
PANEL = 316
PICTURE_MAX = 1024 - PANEL - 3 * MARGIN
MINIMUM_BODY = 420
FULL_HEIGHT = 1024
MINIMUM_WIDTH = 760
"""The legend's line needs as much."""

NAME_PX, LINE_PX, LEADING = 19, 15, 4
SMALLER = (2, 4)
"""So many pixels smaller are the words where all that is to be said would not fit beside a picture of full height."""
LETTERS_PX = 22
"""Height at the foot of a picture that A and P have for themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What stands beside the picture for one disc: lines of (words, size, colour)."""

    wanted_y: float
    lines: tuple[tuple[str, int, overlay.Colour], ...]

    @property
    def height(self) -> float:
        return sum(size + LEADING for _, size, _ in self.lines) + 12


def discs_on(report: Report, slice_index: int) -> tuple[DiscGrading, ...]:
    """The discs that a slice shows: those whose mid-slice it is, and those with evidence of a finding on it."""
    return tuple(d for d in report.discs if d.slice_index == slice_index or explained_on(d, slice_index))


def draw_slice(report: Report, view: View, slice_index: int, words: Phrases, note: str = "") -> overlay.Pixels:
    """The page of one slice, RGB; ``note`` is the last line at its foot."""
    discs = discs_on(report, slice_index)
    blocks = _fitting(discs, view, slice_index, words)
    body = max(view.height, MINIMUM_BODY, int(np.ceil(sum(block.height for block in blocks))))
    width = max(view.width + PANEL + 3 * MARGIN, MINIMUM_WIDTH)
    page = Image.new("RGB", (width, HEADER + body + FOOTER), overlay.PAPER)
    page.paste(Image.fromarray(_annotated(report.discs, discs, view, slice_index, words)), (MARGIN, HEADER))
    draw = ImageDraw.Draw(page)
    place = words.pages["slice_of"].format(slice=slice_index + 1, slices=report.volume.voxels.shape[0])
    draw_banner(draw, page.width, place, words)
    x = view.width + 2 * MARGIN
    tops = overlay.apart([b.wanted_y for b in blocks], [b.height for b in blocks], 0.0, body)
    for block, top in zip(blocks, tops, strict=True):
        y = HEADER + top
        for line, size, colour in block.lines:
            overlay.write(draw, x, y, line, size, colour)
            y += size + LEADING
    _draw_legend(draw, HEADER + body, report, words, note)
    return np.asarray(page)


def draw_banner(draw: ImageDraw.ImageDraw, width: int, right: str, words: Phrases) -> None:
    """The head of every page: research use, and which page it is."""
    draw.rectangle((0, 0, width, HEADER - 8), fill=overlay.ABNORMAL_PAPER)
    overlay.write(draw, MARGIN, 5, words.pages["use"], 17, overlay.ABNORMAL)
    overlay.write(draw, width - MARGIN - overlay.width_of(right, 16), 6, right, 16)


def draw_names(
    draw: ImageDraw.ImageDraw,
    discs: tuple[DiscGrading, ...],
    view: View,
    words: Phrases,
    faint: Collection[DiscLevel] = (),
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
        name = shown_level(disc, words)
        width = overlay.width_of(name, NAME_PX - 3)
        colour = overlay.FAINT if disc.level in faint else colour_of(disc)
        x = min(max(float(outline[:, 0].min()) - width - 10, 3.0), max(view.width - width - 3, 0.0))
        overlay.write(draw, x, top, name, NAME_PX - 3, colour, halo=True)


def draw_directions(draw: ImageDraw.ImageDraw, view: View) -> None:
    """A (anterior) and P (posterior) in the lower corners of the picture: views are always upright."""
    for letter, x in (("A", 5.0), ("P", view.width - 16.0)):
        overlay.write(draw, x, view.height - LETTERS_PX + 2, letter, 15, overlay.FAINT, halo=True)


def colour_of(disc: DiscGrading) -> overlay.Colour:
    return overlay.ABNORMAL if abnormal_findings(disc) else overlay.NORMAL


def abnormal_findings(disc: DiscGrading) -> tuple[Finding, ...]:
    return tuple(finding for finding, grade in disc.grades.items() if is_abnormal(finding, grade))


def _annotated(
    all_discs: tuple[DiscGrading, ...], discs: tuple[DiscGrading, ...], view: View, slice_index: int, words: Phrases
) -> overlay.Pixels:
    picture = Image.fromarray(view.picture(slice_index, heat=True))
    draw = ImageDraw.Draw(picture)
    for disc in discs:
        dotted = disc.slice_index != slice_index
        overlay.draw_outline(draw, view.pixels(disc.outline_lps_mm), colour_of(disc), dotted=dotted)
    unsaid = frozenset(d.level for d in all_discs) - {d.level for d in discs}
    draw_names(draw, all_discs, view, words, faint=unsaid)
    draw_directions(draw, view)
    return np.asarray(picture)


def _fitting(discs: tuple[DiscGrading, ...], view: View, slice_index: int, words: Phrases) -> list[Block]:
    """The blocks of a slice, in the largest letters that fit beside a picture of full height, else in the smallest."""
    blocks: list[Block] = []
    for smaller in (0, *SMALLER):
        blocks = [block_of(disc, view, slice_index, words, smaller) for disc in discs]
        if HEADER + sum(block.height for block in blocks) + FOOTER <= FULL_HEIGHT:
            break
    return blocks


def block_of(disc: DiscGrading, view: View, slice_index: int, words: Phrases, smaller: int = 0) -> Block:
    """The words beside the picture for one disc; letters are ``smaller`` pixels smaller than usual."""
    width, size = PANEL - MARGIN, LINE_PX - smaller
    lines: list[tuple[str, int, overlay.Colour]] = [(_headline(disc, words), NAME_PX - smaller, colour_of(disc))]

    def add(key: str, colour: overlay.Colour, findings: Iterable[Finding] = ()) -> None:
        said = words.pages[key].format(findings=", ".join(words.marked(f, disc.grades[f]) for f in findings))
        lines.extend((line, size, colour) for line in overlay.wrapped(said, size, width))

    abnormal = [finding for finding in abnormal_findings(disc) if finding is not Finding.PFIRRMANN]
    if abnormal:
        add("abnormal", overlay.ABNORMAL, abnormal)
    elif Finding.PFIRRMANN not in abnormal_findings(disc):
        add("none_abnormal", overlay.FAINT)
    hot = explained_on(disc, slice_index)
    if hot and set(hot) == set(abnormal_findings(disc)):
        add("evidence_all", overlay.WORDS)
    elif hot:
        add("evidence_for", overlay.WORDS, hot)
    if is_level_doubtful(disc):
        add("level_uncertain" if disc.withheld_place is None else "level_withheld", overlay.ABNORMAL)
    return Block(wanted_y=float(view.pixels(disc.center_lps_mm)[1]) - NAME_PX / 2, lines=tuple(lines))


def pfirrmann_words(disc: DiscGrading, words: Phrases) -> str:
    """The grade in a word or two, or that there is none."""
    grade = disc.grades.get(Finding.PFIRRMANN)
    if grade is None:
        return words.pages["pfirrmann"].format(grade=words.pages["not_assessed"])
    return words.pages["pfirrmann"].format(grade=f"{grade.value}{'?' if grade.doubt else ''}")


def _headline(disc: DiscGrading, words: Phrases) -> str:
    said = f"{shown_level(disc, words)}   {pfirrmann_words(disc, words)}"
    grade = disc.grades.get(Finding.PFIRRMANN)
    if grade is None:
        return said
    sure = f" ({words.percent(grade.probabilities[grade.value])})" if grade.value in grade.probabilities else ""
    return f"{said}{sure}{' !' if is_abnormal(Finding.PFIRRMANN, grade) else ''}"


def _draw_legend(draw: ImageDraw.ImageDraw, y: int, report: Report, words: Phrases, note: str) -> None:
    overlay.write(draw, MARGIN, y + 4, words.pages["evidence"], 14, overlay.FAINT)
    overlay.draw_heat_bar(draw, MARGIN + 68, y + 7, 90, 11)
    overlay.write(draw, MARGIN + 162, y + 4, words.pages["slice_legend"], 14, overlay.FAINT)
    overlay.write(draw, MARGIN, y + 23, model_words(report, words), 14, overlay.FAINT)
    overlay.write(draw, MARGIN, y + 42, note, 14)


def model_words(report: Report, words: Phrases) -> str:
    """Which weights spoke, in one line."""
    model = report.model
    return words.pages["model"].format(name=model.name, version=model.version, sha256=model.sha256[:12])
