"""Notices in the ledger: each occasion once for each channel, sent until taken, never given to two senders at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from node.ledger import Ledger
from node.ledger_notices import Notices
from node.notices import Event, NoticeState, NoticeToRaise
from tests.unit.node.received_instances import NOON, after


@pytest.fixture
def notices(ledger: Ledger) -> Notices:
    return Notices(ledger._database)


def about(occasion: str, channel: str = "webhook", subject: str = "archive pacs") -> NoticeToRaise:
    return NoticeToRaise(
        occasion=occasion, subject=subject, event=Event.ARCHIVE_DOWN, text="it is down", channel=channel
    )


def take(notices: Notices, at_s: float) -> list[str]:
    until = after(at_s) + timedelta(minutes=5)
    return [item.occasion for item in notices.take(("webhook", "email"), now=after(at_s), until=until, limit=10)]


def test_an_occasion_is_listed_once_for_each_channel(notices: Notices) -> None:
    assert notices.raise_once([about("a"), about("a", "email")], now=NOON) == 2
    assert notices.raise_once([about("a"), about("b")], now=after(1)) == 1

    assert [(item.occasion, item.channel) for item in notices.newest(limit=100)] == [
        ("a", "webhook"),
        ("a", "email"),
        ("b", "webhook"),
    ]


def test_what_was_said_last_about_a_subject_is_known_for_each_channel(notices: Notices) -> None:
    notices.raise_once([about("a"), about("b", subject="disk"), about("c"), about("d", "email")], now=NOON)

    assert {subject: item.occasion for subject, item in notices.last_of("webhook").items()} == {
        "archive pacs": "c",
        "disk": "b",
    }
    assert notices.last_of("pager") == {}


def test_a_notice_is_sent_by_one_and_by_another_if_that_one_dies(notices: Notices) -> None:
    notices.raise_once([about("a"), about("b")], now=NOON)

    assert take(notices, 1) == ["a", "b"]
    assert take(notices, 2) == []
    assert take(notices, 302) == ["a", "b"]


def test_what_was_taken_is_not_sent_again(notices: Notices) -> None:
    notices.raise_once([about("a")], now=NOON)
    (notice,) = notices.take(("webhook", "email"), now=after(1), until=after(2), limit=10)
    notices.sent(notice.notice_id, status="HTTP 204", now=after(3))

    assert take(notices, 1000) == []
    (sent,) = notices.newest(limit=100)
    assert (sent.state, sent.attempts, sent.last_status, sent.sent_at) == (NoticeState.SENT, 1, "HTTP 204", after(3))
    assert notices.counts() == {("webhook", NoticeState.SENT): 1}


def test_what_was_not_taken_waits_for_its_time(notices: Notices) -> None:
    notices.raise_once([about("a"), about("b")], now=NOON)
    first, second = notices.take(("webhook", "email"), now=after(1), until=after(2), limit=10)
    notices.postponed(first.notice_id, status="HTTP 503", not_before=after(60))
    notices.held(second.notice_id, not_before=after(70))

    assert take(notices, 59) == []
    assert take(notices, 60) == ["a"]
    waiting = notices.oldest_waiting()
    assert waiting is not None
    assert (waiting.attempts, waiting.last_status) == (1, "HTTP 503")
    assert take(notices, 70) == ["b"]


def test_a_notice_that_is_given_up_is_kept(notices: Notices) -> None:
    notices.raise_once([about("a")], now=NOON)
    (notice,) = notices.take(("webhook", "email"), now=after(1), until=after(2), limit=10)
    notices.given_up(notice.notice_id, status="HTTP 404")

    assert take(notices, 10_000) == []
    assert notices.counts() == {("webhook", NoticeState.GIVEN_UP): 1}


def test_what_was_said_without_the_ledger_is_written_down_as_said_or_as_due(notices: Notices) -> None:
    notices.note(about("said"), is_said=True, now=NOON)
    notices.note(about("unsaid", "email"), is_said=False, now=NOON)
    notices.note(about("said"), is_said=True, now=after(9))

    assert take(notices, 1) == ["unsaid"]
    assert notices.counts() == {("webhook", NoticeState.SENT): 1, ("email", NoticeState.DUE): 1}


def test_who_lacks_a_channel_leaves_its_notices_to_those_that_have_it(notices: Notices) -> None:
    notices.raise_once([about("a"), about("b", "email")], now=NOON)
    taken = notices.take(("email",), now=after(1), until=after(2), limit=10)

    assert [item.occasion for item in taken] == ["b"]
    assert take(notices, 1) == ["a"]


def test_what_nobody_tells_any_more_is_given_up_in_the_end(notices: Notices) -> None:
    notices.raise_once([about("old")], now=NOON)
    notices.raise_once([about("new")], now=after(10))
    notices.give_up_older(after(10), status="nobody has this channel")

    assert take(notices, 1000) == ["new"]
    assert notices.counts()["webhook", NoticeState.GIVEN_UP] == 1
