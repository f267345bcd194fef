"""Whose turn it is: the higher priority first, and none waits for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from node.precedence import LAST_IN_LINE, number_in_line, place

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR_S = 3600.0

PRIORITIES = st.integers(-9, 9)
WAITS_S = st.integers(0, 10**7)


def at(priority: int, after_s: float) -> datetime:
    return place(priority, NOON + timedelta(seconds=after_s), HOUR_S)


def test_among_equals_the_first_comes_first() -> None:
    assert at(2, 0) < at(2, 1)


def test_a_step_of_priority_is_worth_an_hour() -> None:
    assert at(1, 3599) < at(0, 0)
    assert at(1, 3600) == at(0, 0)
    assert at(1, 3601) > at(0, 0)


@given(PRIORITIES, PRIORITIES, WAITS_S)
def test_nobody_is_overtaken_by_one_that_comes_later_than_the_steps_between_them(
    low: int, high: int, more_s: int
) -> None:
    head_start_s = max(0, high - low) * HOUR_S
    assert at(low, 0) < at(high, head_start_s + 1 + more_s)


@given(PRIORITIES, WAITS_S, PRIORITIES, WAITS_S)
def test_the_numbers_stand_in_the_order_of_the_places(a: int, a_s: int, b: int, b_s: int) -> None:
    first, second = sorted((at(a, a_s), at(b, b_s)))
    assert 1 <= number_in_line(first) <= number_in_line(second) <= LAST_IN_LINE


def test_a_number_stays_within_its_bounds_long_ago_and_far_ahead() -> None:
    assert number_in_line(datetime(1990, 1, 1, tzinfo=UTC)) == 1
    assert number_in_line(datetime(2199, 1, 1, tzinfo=UTC)) == LAST_IN_LINE
