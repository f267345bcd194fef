"""Every word on every page stands inside it, clear of the others, and no colour says anything alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import ImageDraw

from inference.anatomy import DiscLevel
from inference.grades import CLASSES, Basis, Finding, Grade
from inference.report import Report
from sr_templates import overlay
from sr_templates.phrases import Phrases, languages, phrases
from sr_templates.printed_page import can_print
from sr_templates.secondary_capture import pages
from sr_templates.slice_page import MARGIN
from sr_templates.summary_page import (
    MEASURED_ROWS,
    NAME_COLUMN,
    NAME_PX,
    SMALL_PX,
    WIDTH,
    _grade_cell,
    _measured_cell,
    draw_summary,
)
from tests.report_factories import GradedStudy

EN = phrases("en")

MACHADO_2009 = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""Linear RGB as a dichromat sees it: Machado, Oliveira, Fernandes 2009 (doi 10.1109/TVCG.2009.113), severity 1."""

Box = tuple[float, float, float, float]


def random_report(report: Report, seed: int) -> Report:
    """Any number of discs at any distance, on any curve, with any grades, in an image of any shape."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(5, 9)), int(rng.integers(40, 200)), int(rng.integers(40, 200)))
    volume = replace(
        report.volume,
        voxels=rng.random(shape, dtype=np.float32),
        sources=(report.volume.sources * 2)[: shape[0]],
    )
    count = int(rng.integers(1, 10))
    rows = np.sort(rng.uniform(-5, shape[1] + 5, count))
    columns = shape[2] * (0.5 + 0.3 * np.sin(rng.uniform(0, 6) + rows / rng.uniform(10, 60)))
    first_level = int(rng.integers(0, 10 - count))
    discs = []
    for index, level in enumerate(tuple(DiscLevel)[first_level : first_level + count]):
        template = report.discs[int(rng.integers(0, 6))]
        center = volume.to_patient(np.array([rng.integers(0, shape[0]), rows[index], columns[index]]))
        moved = center - template.center_lps_mm
        discs.append(
            replace(
                template,
                level=level,
                level_confidence=float(rng.random()),
                slice_index=int(rng.integers(0, shape[0])),
                center_lps_mm=center,
                outline_lps_mm=template.outline_lps_mm + moved,
                grades=random_grades(rng),
                evidence=tuple(
                    replace(evidence, first_voxel=(0, int(rows[index]), int(columns[index])))
                    for evidence in template.evidence
                ),
            )
        )
    quality = tuple(f"Reason {n} to doubt these results, told at some length." for n in range(int(rng.integers(0, 6))))
    return replace(report, volume=volume, discs=tuple(discs), quality=quality)


def random_grades(rng: np.random.Generator) -> dict[Finding, Grade]:
    grades = {}
    for finding in Finding:
        if rng.random() < 0.85:
            value = int(rng.choice(CLASSES[finding]))
            grades[finding] = Grade(value=value, probabilities={value: float(rng.random())}, basis=Basis.LEARNED)
    return grades


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[ImageDraw.ImageDraw, list[Box]]:
    """Where each word was written, by the picture it was written on."""
    boxes: dict[ImageDraw.ImageDraw, list[Box]] = {}
    write = overlay.write

    def recorded(
        draw: ImageDraw.ImageDraw, x: float, y: float, words: str, size_px: int, *rest: Any, **more: Any
    ) -> None:
        if words:
            boxes.setdefault(draw, []).append(draw.textbbox((x, y), words, font=overlay.font(size_px)))
        write(draw, x, y, words, size_px, *rest, **more)

    monkeypatch.setattr(overlay, "write", recorded)
    return boxes


def overlapping(boxes: list[Box]) -> Iterator[tuple[Box, Box]]:
    for one, other in combinations(boxes, 2):
        across = min(one[2], other[2]) - max(one[0], other[0])
        down = min(one[3], other[3]) - max(one[1], other[1])
        if across > 1 and down > 1:
            yield one, other


def assert_legible(report: Report, words: Phrases, written: dict[ImageDraw.ImageDraw, list[Box]]) -> None:
    note = words.pages["replaces"].format(number=12, made="2026-03-14 15:09 UTC+05:30")
    for page in pages(report, words, note):
        assert max(page.pixels.shape) <= 1600, page.name
    assert written
    for draw, boxes in written.items():
        width, height = draw.im.size
        for left, top, right, bottom in boxes:
            assert -1 <= left <= right <= width + 1, (left, right, width)
            assert -1 <= top <= bottom <= height + 2, (top, bottom, height)
        assert list(overlapping(boxes)) == []
    written.clear()


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("seed", range(12))
def test_no_words_overlap_or_leave_the_page(
    seed: int, language: str, study: GradedStudy, written: dict[ImageDraw.ImageDraw, list[Box]]
) -> None:
    assert_legible(random_report(study.report, seed), phrases(language), written)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", languages())
def test_nor_for_hundreds_of_spines(
    language: str, study: GradedStudy, written: dict[ImageDraw.ImageDraw, list[Box]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def blank(_plane: object, _tone: object, width: int, height: int) -> overlay.Pixels:
        return np.zeros((height, width, 3), np.uint8)

    monkeypatch.setattr(overlay, "grey_picture", blank)  # only the words matter here
    monkeypatch.setattr(overlay, "with_heat", lambda picture, _strength: picture)
    for seed in range(100, 300):
        assert_legible(random_report(study.report, seed), phrases(language), written)


@pytest.mark.parametrize("language", languages())
def test_the_table_s_headings_and_the_font_have_room_for_every_word(language: str) -> None:
    words = phrases(language)
    of_mm = [words.pages["in_mm"].format(quantity=words.rows[name]) for name in MEASURED_ROWS]
    for heading in (*words.rows.values(), *of_mm, words.pages["level_certainty"]):
        assert overlay.fitted(heading, NAME_PX, NAME_COLUMN - 6) == heading
    assert all(can_print(told) for told in (*words.pages.values(), *words.rows.values(), *words.methods.values()))


def test_each_page_says_what_its_words_and_colours_do_not(study: GradedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What minus means and what is inferred on the summary, of what a map is the evidence beneath each map."""
    said: list[str] = []
    write = overlay.write

    def recorded(draw: ImageDraw.ImageDraw, x: float, y: float, words: str, *rest: Any, **more: Any) -> None:
        said.append(words)
        write(draw, x, y, words, *rest, **more)

    monkeypatch.setattr(overlay, "write", recorded)
    for page in pages(study.report, EN):
        told = " ".join(said)
        if page.name == "summary":
            assert "Slip: minus = body above behind the one below (retrolisthesis)." in told
            assert "The side of a marrow change is inferred, not labelled." in told
        elif page.name.startswith("evidence"):
            assert told.count("measured numbers, the rest, have no map.") == 1
        else:
            assert "the network's share of an abnormal grade" in told
        said.clear()


def test_a_clear_slip_is_marked_in_either_direction_whatever_the_grade(study: GradedStudy) -> None:
    def cell(slip_mm: float) -> tuple[str, str, bool]:
        return _measured_cell(replace(study.report.discs[1], measurements={"slip_mm": slip_mm}), "slip_mm", EN)

    assert cell(-7.9) == ("-7.9 !", "", True)
    assert cell(6.6) == ("6.6 !", "", True)
    assert cell(-4.9) == ("-4.9", "", False)
    assert _measured_cell(replace(study.report.discs[1], measurements={}), "slip_mm", EN) == ("n/a", "", False)


def test_notes_that_do_not_fit_are_left_out_whole(study: GradedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tuple(f"Sentence {n} {'is long enough to need a second line on the summary ' * 2}end{n}." for n in range(9))
    said: list[str] = []
    monkeypatch.setattr(overlay, "write", lambda _draw, _x, _y, words, *_rest, **_more: said.append(words))
    draw_summary(replace(study.report, quality=long), EN)
    told = " ".join(said)
    shown = [n for n in range(9) if f"Sentence {n} " in told]
    assert shown == list(range(len(shown)))
    assert 0 < len(shown) < 9
    assert all(f"end{n}." in told for n in shown)
    assert "More in the text report." in told


def test_the_small_words_of_the_table_are_large_enough_for_a_photograph() -> None:
    assert SMALL_PX >= 13
    assert overlay.width_of("100%", SMALL_PX) < (WIDTH - MARGIN - 408 - NAME_COLUMN) / 9 - 5  # of nine levels


def linear(colour: overlay.Colour) -> np.ndarray:
    share = np.array(colour) / 255.0
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def cie_lab(rgb_linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(to_xyz @ np.clip(rgb_linear, 0, 1) / (0.9505, 1.0, 1.089), 0.008856, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", MACHADO_2009)
def test_abnormal_and_normal_differ_for_every_colour_blindness(kind: str) -> None:
    matrix = np.array(MACHADO_2009[kind])
    normal, abnormal = (cie_lab(matrix @ linear(colour)) for colour in (overlay.NORMAL, overlay.ABNORMAL))
    assert np.linalg.norm(normal - abnormal) > 30  # 2.3 is a just noticeable difference


@pytest.mark.parametrize("kind", MACHADO_2009)
def test_the_heat_s_strength_is_still_in_its_lightness(kind: str) -> None:
    colours = overlay.heat_colours(np.linspace(0, 1, 12))
    lightness = [cie_lab(np.array(MACHADO_2009[kind]) @ linear(tuple(colour)))[0] for colour in colours]
    assert np.all(np.diff(lightness) > 0)


def test_what_colour_says_words_say_too(study: GradedStudy) -> None:
    """An abnormal cell carries "!", a normal one never does; so a page in grey says the same."""
    for disc in study.report.discs:
        for finding in Finding:
            word, _, is_marked = _grade_cell(disc, finding, EN)
            assert word.endswith("!") is is_marked
