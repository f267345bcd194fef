"""When results are sent to an archive, when it is only probed, and when it is left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.breaker import BreakerState, Health, Move, Rules, answered, failed, next_move, probed, unknown
from node.retry import Failure, Pace

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RULES = Rules(failures=3, pace=Pace(first_s=5, longest_s=900, give_up_after_s=604800))
FULL = Failure(what="0xA700 full", permanent=False, of_archive=True)
AWAY = Failure(what="cannot connect", permanent=False, of_archive=True, tried=False, out_of_reach=True)


def after(health: Health, *failures: Failure, now: datetime = NOON) -> Health:
    for failure in failures:
        health = failed(health, failure, now, rules=RULES, chance=0.0)
    return health


def pause_s(health: Health) -> float:
    assert health.not_before is not None
    return (health.not_before - NOON).total_seconds()


def test_an_archive_that_nothing_is_known_of_gets_results() -> None:
    assert next_move(unknown(NOON), NOON) is Move.SEND


def test_one_out_of_reach_is_left_alone_at_once_and_probed_after_its_pause() -> None:
    health = after(unknown(NOON), AWAY)
    assert (health.state, pause_s(health), health.last_answer) == (BreakerState.OPEN, 5, "cannot connect")
    assert next_move(health, NOON + timedelta(seconds=4.9)) is Move.WAIT
    assert next_move(health, NOON + timedelta(seconds=5)) is Move.PROBE


def test_one_that_is_full_has_three_chances_with_a_pause_after_each() -> None:
    states = [after(unknown(NOON), *[FULL] * count) for count in (1, 2, 3)]
    assert [health.state for health in states] == [BreakerState.CLOSED, BreakerState.CLOSED, BreakerState.OPEN]
    assert [pause_s(health) for health in states] == [5, 10, 20]
    assert next_move(states[0], NOON + timedelta(seconds=4)) is Move.WAIT
    assert next_move(states[0], NOON + timedelta(seconds=5)) is Move.SEND


def test_a_probe_that_is_answered_lets_results_through_but_forgets_nothing() -> None:
    """An archive that is full answers a C-ECHO too: the next failure opens it at once, for longer than before."""
    half_open = probed(after(unknown(NOON), FULL, FULL, FULL), "it answers a probe", NOON)
    assert half_open.state is BreakerState.HALF_OPEN
    assert next_move(half_open, NOON) is Move.SEND
    again = after(half_open, FULL)
    assert (again.state, pause_s(again)) == (BreakerState.OPEN, 40)


def test_an_answer_about_an_object_closes_it_and_forgets_the_failures() -> None:
    half_open = probed(after(unknown(NOON), AWAY), "it answers a probe", NOON)
    health = answered(half_open, "0xA900 no", NOON)
    assert (health.state, health.failures, health.not_before) == (BreakerState.CLOSED, 0, None)
    assert health.last_success_at == NOON


LATER = Failure(what="0x0110 processing failure", permanent=False)
NEVER = Failure(what="0xA900 no", permanent=True)


def test_it_is_down_from_its_first_failure_until_it_takes_an_object_whatever_probes_say() -> None:
    down = after(unknown(NOON), AWAY)
    half_open = probed(after(down, AWAY, now=NOON + timedelta(hours=1)), "it answers a probe", NOON)
    again = after(half_open, FULL, now=NOON + timedelta(hours=2))
    assert [health.down_since for health in (down, half_open, again)] == [NOON] * 3
    assert answered(again, "0x0000 success", NOON).down_since is None


def test_an_archive_that_answers_and_takes_nothing_is_down_though_its_breaker_is_closed() -> None:
    refusing = answered(unknown(NOON), LATER.what, NOON, failure=LATER)
    still = answered(refusing, LATER.what, NOON + timedelta(hours=1), failure=LATER)
    assert (still.state, still.down_since) == (BreakerState.CLOSED, NOON)
    assert answered(still, NEVER.what, NOON, failure=NEVER).down_since == NOON
    assert answered(unknown(NOON), NEVER.what, NOON, failure=NEVER).down_since is None


def test_since_when_it_is_open_stays_while_probes_fail() -> None:
    down = after(unknown(NOON - timedelta(days=9)), AWAY)
    later = after(down, AWAY, now=NOON + timedelta(hours=1))
    assert (down.since, later.since) == (NOON, NOON)


@pytest.mark.parametrize(("asked_s", "pause"), [(1, 5), (60, 60), (10**6, 900)])
def test_what_it_asks_for_is_kept_to_up_to_the_longest_pause(asked_s: float, pause: float) -> None:
    busy = Failure(what="HTTP 503", permanent=False, of_archive=True, retry_after_s=asked_s)
    assert pause_s(after(unknown(NOON), busy)) == pause


@given(st.lists(st.sampled_from([FULL, AWAY]), min_size=1, max_size=60), st.floats(0, 1))
def test_however_long_the_outage_it_is_asked_again_within_the_longest_pause(
    failures: list[Failure], chance: float
) -> None:
    health = unknown(NOON)
    for failure in failures:
        health = failed(health, failure, NOON, rules=RULES, chance=chance)
    assert 5 <= pause_s(health) <= 900
    assert next_move(health, NOON + timedelta(seconds=900)) is not Move.WAIT
