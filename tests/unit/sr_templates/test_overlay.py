"""Drawing: labels stay apart and inside, words fit, heat leaves anatomy visible."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sr_templates import overlay

wanted_and_heights = st.lists(
    st.tuples(st.floats(-200, 900), st.floats(1, 60)), min_size=1, max_size=10
)  # ten blocks of at most 60 px fit into 600


@given(blocks=wanted_and_heights)
def test_blocks_never_overlap_and_never_leave_the_column(blocks: list[tuple[float, float]]) -> None:
    tops = overlay.apart([w for w, _ in blocks], [h for _, h in blocks], 0.0, 600.0)
    spans = sorted((top, top + height) for top, (_, height) in zip(tops, blocks, strict=True))
    assert spans[0][0] >= -1e-6
    assert spans[-1][1] <= 600.0 + 1e-6
    assert all(upper[1] <= lower[0] + 1e-6 for upper, lower in pairwise(spans))


def test_blocks_that_have_room_stand_where_they_are_wanted() -> None:
    assert overlay.apart([10.0, 100.0, 300.0], [50.0, 50.0, 50.0], 0.0, 600.0) == (10.0, 100.0, 300.0)


def test_crowded_blocks_keep_their_order() -> None:
    assert overlay.apart([100.0, 100.0, 90.0], [20.0, 20.0, 20.0], 0.0, 600.0) == (110.0, 130.0, 90.0)


def test_a_block_wanted_below_the_column_is_lifted() -> None:
    assert overlay.apart([590.0, 595.0], [20.0, 20.0], 0.0, 600.0) == (560.0, 580.0)


def test_too_many_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        overlay.apart([0.0, 0.0], [400.0, 400.0], 0.0, 600.0)


@given(words=st.text("abcdef ghi", max_size=80), width=st.integers(40, 400))
def test_wrapped_lines_fit_their_width(words: str, width: int) -> None:
    assert all(overlay.width_of(line, 15) <= width for line in overlay.wrapped(words, 15, width))


def test_wrapping_keeps_every_word() -> None:
    words = "Central canal stenosis was not assessed at L1/L2"
    assert " ".join(overlay.wrapped(words, 15, 120)) == words


def test_words_that_fit_are_left_as_they_are() -> None:
    assert overlay.fitted("L4/L5", 15, 400) == "L4/L5"


def test_words_that_do_not_fit_end_in_dots() -> None:
    shortened = overlay.fitted("a very long word for a very short place", 15, 100)
    assert shortened.endswith("...")
    assert overlay.width_of(shortened, 15) <= 100


def test_weak_saliency_leaves_the_picture_untouched() -> None:
    picture = np.full((20, 20, 3), 100, np.uint8)
    strength = np.full((20, 20), overlay.HEAT_FLOOR - 0.01, np.float32)
    np.testing.assert_array_equal(overlay.with_heat(picture, strength), picture)


def test_the_strongest_saliency_leaves_at_least_a_third_of_the_picture_visible() -> None:
    dark, bright = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    hottest = np.ones((8, 8), np.float32)
    visible = overlay.with_heat(bright, hottest).astype(int) - overlay.with_heat(dark, hottest)
    assert visible.min() >= 255 * 0.33


def test_hotter_is_lighter() -> None:
    lightness = overlay.heat_colours(np.linspace(0.0, 1.0, 50)) @ np.array([0.2126, 0.7152, 0.0722])
    assert np.all(np.diff(lightness) > 0)


def test_grey_runs_from_black_to_white_and_a_gamma_lifts_the_middle() -> None:
    plane = np.array([[-5.0, 0.0, 25.0, 100.0, 900.0]], np.float32)
    linear = overlay.grey_picture(plane, overlay.Tone(black=0.0, white=100.0, gamma=1.0), 5, 1)
    lifted = overlay.grey_picture(plane, overlay.Tone(black=0.0, white=100.0, gamma=0.5), 5, 1)
    assert linear[0, :, 0].tolist() == [0, 0, 63, 255, 255]
    assert lifted[0, :, 0].tolist() == [0, 0, 127, 255, 255]


def test_an_outline_is_drawn_through_its_points() -> None:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (40, 40))
    square = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]])
    overlay.draw_outline(ImageDraw.Draw(image), square, overlay.NORMAL, dotted=False)
    assert all(image.getpixel(point) == overlay.NORMAL for point in ((10, 10), (20, 10), (30, 20), (10, 20)))
    assert image.getpixel((20, 20)) == (0, 0, 0)
