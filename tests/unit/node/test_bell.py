"""The bell: what is seen is told once, in order, to every channel, whatever is away meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from node import bell
from node.bell import Bell
from node.health import About, Backlog, Check
from node.ledger import Ledger
from node.ledger_figures import Counts
from node.ledger_notices import Notices
from node.notices import Casualties, NoticeState, said_subject
from node.records import DeliveryState
from node.settings import NodeSettings, NoticeSettings, Settings
from node.watch import Reading
from node.webhook import NotTold
from tests.unit.node.received_instances import after

DATABASE = Check(name="database", about=About.NODE, is_red=False, reason="the ledger answers")
PACS = Check(name="archive pacs", about=About.ARCHIVE, is_red=False, reason="answers", is_of_machine=False)
DOWN = replace(PACS, is_red=True, reason="takes nothing")
AWAY = replace(DATABASE, is_red=True, reason="connection refused")
WELL = (DATABASE, PACS)
READING = Reading(
    backlog=Backlog(queued=0, oldest_queued_at=None, oldest_receiving_at=None, oldest_due_at={}, archives=()),
    counts=Counts(studies={}, deliveries={"pacs": {DeliveryState.DUE: 12}}),
    totals=None,
    dead_letters={},
    failed_studies=None,
    notices={},
)


@dataclass
class Channel:
    """Keeps what it is told, unless it is away."""

    is_away: bool = False
    told: list[Mapping[str, Any]] = field(default_factory=list)

    def tell(self, content: Mapping[str, object]) -> str:
        if self.is_away:
            raise NotTold("HTTP 503")
        self.told.append(dict(content))
        return "taken"

    def events(self) -> list[str]:
        return [content["event"] for content in self.told]


class Bench:
    """A bell, two channels, and a clock."""

    def __init__(self, ledger: Ledger, **settings: Any) -> None:
        self.hook, self.mail = Channel(), Channel()
        self.now = after(0)
        self._ledger = ledger
        self._settings = Settings(notices=NoticeSettings(**({"alarm_after_s": 0} | settings)))
        self.restart()

    def restart(self) -> None:
        """Another process, which knows what the ledger knows."""
        self.bell = Bell(self._settings, self.clock, {"webhook": self.hook, "email": self.mail})

    def clock(self) -> datetime:
        return self.now

    def see(self, *checks: Check, at_s: float, reading: Reading | None = READING) -> None:
        self.now = after(at_s)
        self.bell.hear(checks, reading, self._ledger._database)
        self.bell.send_due()

    @property
    def notices(self) -> Notices:
        return Notices(self._ledger._database)


@pytest.fixture
def bench(ledger: Ledger) -> Bench:
    return Bench(ledger)


def test_an_outage_is_told_to_every_channel_once_however_often_it_is_seen_and_the_node_starts(bench: Bench) -> None:
    bench.see(*WELL, at_s=0)
    for at_s in (1, 2, 3):
        bench.see(DATABASE, DOWN, at_s=at_s)
    bench.restart()
    bench.see(DATABASE, DOWN, at_s=4)
    bench.see(*WELL, at_s=5)
    bench.see(*WELL, at_s=6)

    assert bench.hook.events() == ["archive_down", "archive_up"]
    assert bench.mail.events() == ["archive_down", "archive_up"]


def test_a_notice_says_when_where_and_what_waits(bench: Bench) -> None:
    bench.see(DATABASE, DOWN, at_s=60)

    (content,) = bench.hook.told
    assert content["schema"] == 1
    assert content["at"] == "2026-03-01T12:01:00+00:00"
    assert content["node"].startswith("SPINENODE@")
    assert content["text"] == (
        "archive pacs: takes nothing. 12 results wait for it; nothing is lost, and it is asked again and again."
    )


def test_an_outage_of_the_hook_loses_nothing_and_keeps_the_order(bench: Bench) -> None:
    bench.hook.is_away = True
    bench.see(DATABASE, DOWN, at_s=0)
    bench.see(*WELL, at_s=10)
    bench.see(DATABASE, DOWN, at_s=20)
    bench.restart()
    bench.hook.is_away = False
    for at_s in range(30, 3000, 30):
        bench.see(DATABASE, DOWN, at_s=at_s)

    assert bench.mail.events() == ["archive_down", "archive_up", "archive_down"]
    assert sorted(bench.hook.events()) == ["archive_down", "archive_down", "archive_up"]
    assert bench.notices.oldest_waiting() is None


def test_what_is_raised_together_waits_together(bench: Bench) -> None:
    disk = Check(name="disk", about=About.DISK, is_red=True, reason="12 MB are free")
    bench.hook.is_away = True
    bench.see(disk, DATABASE, DOWN, at_s=0)
    attempts = {
        said_subject(item.subject): item.attempts
        for item in bench.notices.newest(limit=100)
        if item.channel == "webhook"
    }

    assert attempts == {"disk": 1, "archive pacs": 0}, "the second is not tried where the first has failed"
    bench.hook.is_away = False
    bench.see(disk, DATABASE, DOWN, at_s=10)
    assert bench.hook.events() == ["disk_low", "archive_down"]


def test_a_channel_that_stays_away_for_a_week_is_given_up(bench: Bench) -> None:
    bench.hook.is_away = True
    bench.see(DATABASE, DOWN, at_s=0)
    bench.see(DATABASE, DOWN, at_s=8 * 86_400)

    assert bench.notices.counts()["webhook", NoticeState.GIVEN_UP] == 1


def test_a_channel_that_is_no_longer_set_ends_what_it_was_to_be_told(bench: Bench) -> None:
    bench.hook.is_away = True
    bench.see(DATABASE, DOWN, at_s=0)
    bench.bell = Bell(Settings(), bench.clock, {"email": bench.mail})
    bench.see(DATABASE, DOWN, at_s=1000)
    assert bench.notices.counts() == {("email", NoticeState.SENT): 1, ("webhook", NoticeState.DUE): 1}

    bench.see(DATABASE, DOWN, at_s=9 * 86_400)
    assert bench.notices.counts() == {("email", NoticeState.SENT): 1, ("webhook", NoticeState.GIVEN_UP): 1}


def test_dead_letters_and_failed_studies_are_told(bench: Bench) -> None:
    dead = Casualties(newest=5, studies=(1,), count=2, why="0xA900 data set does not match SOP class")
    failed = Casualties(newest=9, studies=(2,), count=1, why="a fault of the node")
    bench.see(*WELL, at_s=0, reading=replace(READING, dead_letters={"pacs": dead}, failed_studies=failed))
    bench.see(*WELL, at_s=1000, reading=replace(READING, dead_letters={"pacs": dead}, failed_studies=failed))

    assert bench.hook.events() == ["dead_letter", "study_failed"]


def test_who_wants_some_events_gets_those(ledger: Ledger) -> None:
    bench = Bench(ledger, events=("disk_low",))
    disk = Check(name="disk", about=About.DISK, is_red=True, reason="12 MB are free")
    bench.see(disk, DATABASE, DOWN, at_s=0)

    assert bench.hook.events() == ["disk_low"]


def test_two_machines_that_share_a_ledger_do_not_contradict_each_other(ledger: Ledger, tmp_path: Path) -> None:
    bench = Bench(ledger)
    here, low = bench.bell, Check(name="disk", about=About.DISK, is_red=True, reason="12 MB are free")
    elsewhere = Settings(node=NodeSettings(data_dir=tmp_path), notices=NoticeSettings())
    there = Bell(elsewhere, bench.clock, {"webhook": bench.hook})
    for at_s in range(5):
        for bench.bell, disk in ((here, low), (there, replace(low, is_red=False))):
            bench.see(disk, DATABASE, DOWN, at_s=at_s)

    assert sorted(bench.hook.events()) == ["archive_down", "disk_low"]


class TestWithoutLedger:
    def test_that_the_ledger_is_away_is_told_at_once_and_its_return_afterwards(self, bench: Bench) -> None:
        bench.see(*WELL, at_s=0)
        for _ in range(3):
            bench.bell.hear_without_ledger((AWAY, replace(PACS, is_red=None)))
        assert bench.hook.events() == ["health_red"]
        assert "connection refused" in bench.hook.told[0]["text"]

        bench.see(*WELL, at_s=100)
        assert bench.hook.events() == bench.mail.events() == ["health_red", "health_green"]

    def test_the_second_outage_is_told_like_the_first(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bell, "DIRECT_AGAIN_S", 0.0)
        for at_s in (0, 200):
            bench.see(*WELL, at_s=at_s)
            bench.bell.hear_without_ledger((AWAY,))
            bench.see(*WELL, at_s=at_s + 100)

        assert bench.hook.events() == ["health_red", "health_green"] * 2
        assert len({content["occasion"] for content in bench.hook.told}) == 4

    def test_what_else_is_red_is_told_with_it(self, bench: Bench) -> None:
        full = Check(name="disk", about=About.DISK, is_red=True, reason="no room")
        bench.bell.hear_without_ledger((AWAY, full))

        assert bench.hook.told[0]["text"].endswith("Red too: disk")

    def test_a_hook_that_is_away_too_is_told_when_both_are_back(self, bench: Bench) -> None:
        bench.see(*WELL, at_s=0)
        bench.hook.is_away = True
        bench.bell.hear_without_ledger((AWAY,))
        bench.hook.is_away = False
        bench.see(*WELL, at_s=100)

        assert bench.hook.events() == ["health_red", "health_green"]
        assert bench.mail.events() == ["health_red", "health_green"]

    def test_a_blink_is_told_to_nobody(self, ledger: Ledger) -> None:
        bench = Bench(ledger, alarm_after_s=60)
        bench.see(*WELL, at_s=0)
        bench.bell.hear_without_ledger((AWAY,))
        bench.see(*WELL, at_s=10)

        assert bench.hook.told == []
