"""Notices: an outage is told once when it begins and once when it ends; dead letters are gathered."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from node import notices
from node.health import About, Check
from node.notices import Casualties, Event, Listener, Notice, NoticeState
from tests.unit.node.received_instances import NOON, after

ALL = tuple(event.value for event in Event)
LISTENER = Listener(channel="webhook", machine="here", events=ALL, gather_s=600, alarm_after_s=60)
DOWN = Check(name="archive pacs", about=About.ARCHIVE, is_red=True, reason="takes nothing", is_of_machine=False)
UP = replace(DOWN, is_red=False, reason="answers")
DEAD = Casualties(newest=17, studies=(3, 5), count=4, why="0xA900 data set does not match SOP class")


def told(event: Event, *, number: int = 1, occasion: str = "x", at_s: float = 0) -> Notice:
    return Notice(
        notice_id=number,
        occasion=occasion,
        subject="archive pacs",
        event=event.value,
        text="",
        channel="webhook",
        state=NoticeState.SENT,
        attempts=1,
        not_before=NOON,
        last_status="",
        made_at=after(at_s),
        sent_at=NOON,
    )


def test_an_outage_is_told_when_it_begins_and_when_it_is_over() -> None:
    begun = notices.of_check(DOWN, 0, None, LISTENER)
    over = notices.of_check(UP, 0, told(Event.ARCHIVE_DOWN), LISTENER)

    assert begun is not None
    assert (begun.event, begun.subject, begun.text) == (
        Event.ARCHIVE_DOWN,
        "archive pacs",
        "archive pacs: takes nothing",
    )
    assert over is not None
    assert over.event is Event.ARCHIVE_UP


def test_nothing_is_told_twice_and_an_end_without_a_beginning_is_not_told() -> None:
    assert notices.of_check(DOWN, 0, told(Event.ARCHIVE_DOWN), LISTENER) is None
    assert notices.of_check(UP, 0, told(Event.ARCHIVE_UP), LISTENER) is None
    assert notices.of_check(UP, 0, None, LISTENER) is None


def test_the_second_outage_is_another_occasion_than_the_first() -> None:
    first = notices.of_check(DOWN, 0, None, LISTENER)
    second = notices.of_check(DOWN, 0, told(Event.ARCHIVE_UP, number=2), LISTENER)

    assert first is not None
    assert second is not None
    assert first.occasion != second.occasion


def test_what_cannot_be_told_now_is_neither_red_nor_well() -> None:
    unknown = replace(DOWN, is_red=None)

    assert notices.of_check(unknown, 0, None, LISTENER) is None
    assert notices.of_check(unknown, 0, told(Event.ARCHIVE_DOWN), LISTENER) is None


def test_a_disk_at_its_watermark_does_not_make_a_flood() -> None:
    near = Check(name="disk", about=About.DISK, is_red=False, reason="", is_near=True)

    assert notices.of_check(near, 0, told(Event.DISK_LOW), LISTENER) is None
    over = notices.of_check(replace(near, is_near=False), 0, told(Event.DISK_LOW), LISTENER)
    assert over is not None
    assert over.event is Event.DISK_OK


def test_the_nodes_health_is_told_when_it_stays_red() -> None:
    hung = Check(name="worker", about=About.NODE, is_red=True, reason="no sign of life")

    assert notices.of_check(hung, 59, None, LISTENER) is None
    raised = notices.of_check(hung, 60, None, LISTENER)
    assert raised is not None
    assert raised.event is Event.HEALTH_RED


def test_who_hears_of_health_alone_hears_of_archives_as_of_health() -> None:
    of_health_alone = replace(LISTENER, events=("health_red",))

    raised = notices.of_check(DOWN, 0, None, of_health_alone)
    assert raised is not None
    assert raised.event is Event.HEALTH_RED
    assert notices.of_check(DOWN, 0, None, replace(LISTENER, events=("dead_letter",))) is None


def test_two_machines_that_share_a_ledger_speak_of_their_own_disks_and_of_the_same_archives() -> None:
    disk = Check(name="disk", about=About.DISK, is_red=True, reason="low")
    there = replace(LISTENER, machine="there")

    subjects = [item.subject for item in (notices.of_check(disk, 0, None, who) for who in (LISTENER, there)) if item]
    assert len(set(subjects)) == 2
    assert {notices.said_subject(subject) for subject in subjects} == {"disk"}
    assert notices.of_check(DOWN, 0, None, LISTENER) == notices.of_check(DOWN, 0, None, there)


def test_dead_letters_name_their_studies_by_number_and_what_to_do() -> None:
    raised = notices.of_dead_letters("pacs", DEAD, None, LISTENER, NOON)

    assert raised is not None
    assert raised.text == (
        "4 results of studies 3, 5 did not reach the archive pacs: 0xA900 data set does not match SOP class. "
        "Nothing is lost: `spinenode dead-letters` lists them."
    )


def test_dead_letters_of_a_bad_night_are_a_few_notices() -> None:
    last = told(Event.DEAD_LETTER, occasion="dead letters of pacs 17")
    more = replace(DEAD, newest=18)

    assert notices.of_dead_letters("pacs", DEAD, last, LISTENER, after(601)) is None, "told already"
    assert notices.of_dead_letters("pacs", more, last, LISTENER, after(599)) is None, "too soon"
    assert notices.of_dead_letters("pacs", more, last, LISTENER, after(600)) is not None
    assert notices.of_dead_letters("pacs", DEAD, None, replace(LISTENER, events=()), NOON) is None


def test_many_studies_are_counted_instead_of_named() -> None:
    failed = Casualties(newest=1, studies=tuple(range(1, 31)), count=30, why="a fault of the node")

    raised = notices.of_failed_studies(failed, None, LISTENER, NOON)
    assert raised is not None
    assert raised.text.startswith("studies 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 20 more failed: a fault of the node.")


@pytest.mark.parametrize(("attempts", "wait_s"), [(0, 10), (1, 20), (6, 640), (7, 900), (500, 900)])
def test_a_channel_that_fails_is_tried_again_ever_more_slowly(attempts: int, wait_s: float) -> None:
    assert notices.next_try(attempts, NOON) - NOON == timedelta(seconds=wait_s)
