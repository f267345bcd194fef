"""Refusals: each is counted, and the log does not drown in them."""

from __future__ import annotations

import pytest

from node.refusals import MOST_REMEMBERED, SAY_AGAIN_AFTER_S, Refusals


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_same_refusal_is_said_once_in_a_while_with_how_many_there_were(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for _ in range(5):
        refusals.note("10.0.0.9", "not allowed")
    clock.now += SAY_AGAIN_AFTER_S
    refusals.note("10.0.0.9", "not allowed")
    assert [record.getMessage() for record in caplog.records] == [
        "10.0.0.9: not allowed",
        "10.0.0.9: not allowed (4 more of these since it was last said)",
    ]


def test_every_one_is_counted_under_its_kind_until_the_counts_are_taken() -> None:
    refusals = Refusals()
    refusals.note("A", "it called 'X'", kind="called another title")
    refusals.note("B", "it called 'Y'", kind="called another title")
    refusals.note("C", "not allowed")
    assert refusals.take() == {"called another title": 2, "not allowed": 1}
    assert refusals.take() == {}


def test_a_peer_with_a_new_name_each_time_fills_no_memory() -> None:
    refusals = Refusals()
    for number in range(3 * MOST_REMEMBERED):
        refusals.note(f"peer {number}", "not allowed")
    assert len(refusals._said) <= MOST_REMEMBERED
    assert refusals.take() == {"not allowed": 3 * MOST_REMEMBERED}


def test_the_counts_since_the_beginning_outlast_their_being_taken() -> None:
    refusals = Refusals(Clock())
    refusals.note("10.0.0.9", "not allowed")
    refusals.take()
    refusals.note("10.0.0.8", "it called X", kind="another title")
    refusals.note("10.0.0.9", "not allowed")

    assert refusals.all() == {"not allowed": 2, "another title": 1}
    assert refusals.take() == {"not allowed": 1, "another title": 1}
    assert refusals.all() == {"not allowed": 2, "another title": 1}
