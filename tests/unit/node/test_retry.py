"""What ends a delivery, what postpones it, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.retry import At, Failure, Never, Pace, Tries, Verdict, decide, judge

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WEEK_S = 7 * 86400
PACE = Pace(first_s=5, longest_s=900, give_up_after_s=WEEK_S)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.STORED),
        (0x0001, Verdict.WARNED),
        (0x0107, Verdict.WARNED),
        (0x0116, Verdict.WARNED),
        (0xB000, Verdict.WARNED),  # coercion of data elements
        (0xB006, Verdict.WARNED),  # elements discarded
        (0xB007, Verdict.WARNED),  # data set does not match SOP class, stored all the same
        (0xBFFF, Verdict.WARNED),
        (0x0111, Verdict.STORED),  # it has it: our UIDs repeat when a step is repeated
        (0xA700, Verdict.FULL),
        (0xA7FF, Verdict.FULL),
        (0x0110, Verdict.LATER),
        (0x0124, Verdict.LATER),
        (0x0213, Verdict.FULL),
        (0xA900, Verdict.NEVER),
        (0xC000, Verdict.NEVER),
        (0xCFFF, Verdict.NEVER),
        (0xA9FF, Verdict.NEVER),
        (0x0105, Verdict.LATER),
        (0x0106, Verdict.LATER),
        (0x0117, Verdict.NEVER),
        (0x0210, Verdict.LATER),
        (0x0211, Verdict.NEVER),
        (0x0212, Verdict.NEVER),
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


def delay_s(attempts: int, chance: float = 0.0, pace: Pace = PACE, asked_s: float = 0.0) -> float:
    failure = Failure(what="down", permanent=False, retry_after_s=asked_s)
    decision = decide(failure, Tries(attempts=attempts, due_since=NOON), NOON, pace=pace, chance=chance)
    assert isinstance(decision, At)
    return (decision.not_before - NOON).total_seconds()


def after_days(days: float) -> At | Never:
    """What is decided about a delivery that was listed at noon and fails so many days later."""
    full = Failure(what="0xA700 full", permanent=False)
    tries = Tries(attempts=500, due_since=NOON)
    return decide(full, tries, NOON + timedelta(days=days), pace=PACE, chance=0.0)


def test_the_delay_doubles_from_the_first_to_the_longest() -> None:
    assert [delay_s(attempts) for attempts in range(10)] == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


def test_chance_takes_up_to_a_quarter_off_but_never_goes_below_the_first() -> None:
    assert delay_s(3, chance=1.0) == 30
    assert delay_s(0, chance=1.0) == 5


def test_a_permanent_failure_is_never_tried_again() -> None:
    refused = Failure(what="0xA900 no", permanent=True)
    decision = decide(refused, Tries(attempts=0, due_since=NOON), NOON, pace=PACE, chance=0.5)
    assert decision == Never(reason="0xA900 no")


def test_an_outage_of_a_long_weekend_is_waited_out_a_quarter_of_an_hour_at_a_time() -> None:
    assert after_days(4) == At(not_before=NOON + timedelta(days=4, seconds=900))


def test_the_last_attempt_is_made_when_the_time_is_up_and_then_it_ends_with_the_reason() -> None:
    ten_minutes = 600 / 86400
    assert after_days(7 - ten_minutes) == At(not_before=NOON + timedelta(days=7))
    assert after_days(7) == Never(reason="not delivered within 7 days: 0xA700 full")


def test_what_an_archive_asks_for_is_waited_for_but_not_for_ever() -> None:
    assert delay_s(0, asked_s=120) == 120
    assert delay_s(0, asked_s=10**6) == 900
    assert delay_s(3, asked_s=1) == 40


@given(
    attempts=st.integers(0, 10**6),
    chance=st.floats(0, 1),
    first=st.floats(0.1, 60),
    longest=st.floats(0.1, 86400),
)
def test_no_delay_leaves_its_bounds_however_long_the_outage(
    attempts: int, chance: float, first: float, longest: float
) -> None:
    waited = delay_s(attempts, chance, Pace(first_s=first, longest_s=longest, give_up_after_s=WEEK_S))
    assert first - 1e-6 <= waited <= max(first, longest) + 1e-6
