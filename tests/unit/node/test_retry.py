"""What ends a delivery, what postpones it, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.retry import At, Failure, Never, Pace, Verdict, decide, judge

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PACE = Pace(first_s=5, longest_s=900)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.STORED),
        (0xB000, Verdict.STORED),  # coercion of data elements
        (0xB006, Verdict.STORED),  # elements discarded
        (0xB007, Verdict.STORED),  # data set does not match SOP class, stored all the same
        (0x0111, Verdict.STORED),  # it has it: our UIDs repeat when a step is repeated
        (0xA700, Verdict.LATER),
        (0xA7FF, Verdict.LATER),
        (0x0110, Verdict.LATER),
        (0x0124, Verdict.LATER),
        (0x0213, Verdict.LATER),
        (0xA900, Verdict.NEVER),
        (0xC000, Verdict.NEVER),
        (0xCFFF, Verdict.NEVER),
        (0x0117, Verdict.NEVER),
        (0x0122, Verdict.NEVER),
        (0xFE00, Verdict.LATER),
        (0x1234, Verdict.LATER),
    ],
)
def test_each_status_of_the_standard_has_its_verdict(status: int, verdict: Verdict) -> None:
    assert judge(status)[0] is verdict


def test_a_status_is_written_in_hexadecimal_with_its_meaning() -> None:
    assert judge(0xA701)[1] == "0xA701 refused: out of resources"
    assert judge(0x0000)[1] == "0x0000 success"


@given(st.integers(0, 0xFFFF))
def test_every_status_has_a_verdict_and_a_text(status: int) -> None:
    verdict, text = judge(status)
    assert verdict in Verdict
    assert text.startswith(f"0x{status:04X} ")


def delay_s(attempts: int, chance: float = 0.0, pace: Pace = PACE) -> float:
    decision = decide(Failure(what="down", permanent=False), attempts, NOON, pace=pace, chance=chance)
    assert isinstance(decision, At)
    return (decision.not_before - NOON).total_seconds()


def test_the_delay_doubles_from_the_first_to_the_longest() -> None:
    assert [delay_s(attempts) for attempts in range(10)] == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


def test_chance_takes_up_to_a_quarter_off_but_never_goes_below_the_first() -> None:
    assert delay_s(3, chance=1.0) == 30
    assert delay_s(0, chance=1.0) == 5


def test_a_permanent_failure_is_never_tried_again() -> None:
    decision = decide(Failure(what="0xA900 no", permanent=True), 0, NOON, pace=PACE, chance=0.5)
    assert decision == Never(reason="0xA900 no")


@given(
    attempts=st.integers(0, 10**6),
    chance=st.floats(0, 1),
    first=st.floats(0.1, 60),
    longest=st.floats(0.1, 86400),
)
def test_no_delay_leaves_its_bounds_however_long_the_outage(
    attempts: int, chance: float, first: float, longest: float
) -> None:
    waited = delay_s(attempts, chance, Pace(first_s=first, longest_s=longest))
    assert first - 1e-6 <= waited <= max(first, longest) + 1e-6
