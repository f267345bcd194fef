"""Times and counts as the operator reads them."""

from __future__ import annotations

import pytest

from node.words import count, moment, span
from tests.unit.node.received_instances import NOON


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0.0 s"),
        (0.44, "0.4 s"),
        (12.4, "12 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
        (86_400 * 6 + 3600 * 3 + 59, "6 d 3 h"),
    ],
)
def test_a_span_has_at_most_two_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_counts_have_their_plurals() -> None:
    assert [count(1, "study"), count(2, "study"), count(0, "result")] == ["1 study", "2 studies", "0 results"]


def test_moments_are_utc_and_say_so() -> None:
    assert moment(NOON) == "2026-03-01 12:00:00Z"
