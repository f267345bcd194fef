"""A study closes when it has been quiet long enough, or has taken too long; never for another reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from node.assembly import due
from node.records import OpenStudy

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def study(first: datetime, last: datetime, images: int = 15) -> OpenStudy:
    return OpenStudy(study_id=7, first_received_at=first, last_received_at=last, instance_count=images)


def test_a_study_that_was_quiet_for_the_quiet_time_closes_and_says_so() -> None:
    (closing,) = due([study(NOON, NOON)], quiet_s=30, maximum_wait_s=3600, now=NOON + timedelta(seconds=30))
    assert closing.study_id == 7
    assert closing.reason == "closed with 15 images: no new image for 30 s"


def test_a_study_that_got_an_image_29_seconds_ago_stays_open() -> None:
    first = NOON - timedelta(minutes=5)
    assert due([study(first, NOON)], quiet_s=30, maximum_wait_s=3600, now=NOON + timedelta(seconds=29)) == ()


def test_a_study_that_never_falls_quiet_closes_after_the_longest_wait() -> None:
    now = NOON + timedelta(hours=1)
    (closing,) = due([study(NOON, now, images=9000)], quiet_s=30, maximum_wait_s=3600, now=now)
    assert closing.reason == "closed with 9000 images: still receiving 3600 s after the first image"


def test_a_single_image_is_not_called_images() -> None:
    (closing,) = due([study(NOON, NOON, images=1)], quiet_s=2, maximum_wait_s=3600, now=NOON + timedelta(seconds=2))
    assert closing.reason == "closed with 1 image: no new image for 2 s"


def test_the_closing_names_the_last_image_it_rests_on() -> None:
    last = NOON + timedelta(seconds=5)
    (closing,) = due([study(NOON, last)], quiet_s=1, maximum_wait_s=3600, now=NOON + timedelta(minutes=1))
    assert closing.last_received_at == last


@given(
    received_for=st.floats(0, 7200),
    quiet_for=st.floats(0, 7200),
    quiet_s=st.floats(0.1, 600),
    maximum_wait_s=st.floats(1, 7200),
)
def test_it_closes_exactly_when_one_of_the_two_times_is_over(
    received_for: float, quiet_for: float, quiet_s: float, maximum_wait_s: float
) -> None:
    last = NOON + timedelta(seconds=received_for)
    now = last + timedelta(seconds=quiet_for)
    closes = bool(due([study(NOON, last)], quiet_s=quiet_s, maximum_wait_s=maximum_wait_s, now=now))
    is_quiet = now - last >= timedelta(seconds=quiet_s)
    is_too_long = now - NOON >= timedelta(seconds=maximum_wait_s)
    assert closes == (is_quiet or is_too_long)
