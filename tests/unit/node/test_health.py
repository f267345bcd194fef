"""Health: red exactly when the promise is at risk, with a reason that names the thing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node import health
from node.health import ArchiveSeen, Backlog, Check, Seen
from node.lifesigns import Sign
from node.settings import ArchiveSettings, MonitoringSettings, ReceiverSettings, Settings
from tests.unit.node.received_instances import NOON, after

PACS = ArchiveSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
SETTINGS = Settings(
    archives=(PACS,),
    receiver=ReceiverSettings(minimum_free_mb=2000),
    monitoring=MonitoringSettings(archive_down_after_s=900, queue_too_old_s=3600, silent_after_s=30),
)
NOTHING_WAITS = Backlog(queued=0, oldest_queued_at=None, oldest_receiving_at=None, oldest_due_at={}, archives=())


def part(name: str, *, age_s: float = 1.0, started_s_ago: tuple[float, ...] = (500.0,)) -> Sign:
    return Sign(name=name, pid=1, started_at=NOON, age_s=age_s, started_s_ago=started_s_ago, facts={})


WELL = Seen(
    backlog=NOTHING_WAITS,
    ledger_trouble="",
    free_bytes=50_000 * 2**20,
    parts=(part("dispatcher"), part("receiver"), part("worker")),
    up_s=1000.0,
)


def archive(**changes: object) -> ArchiveSeen:
    healthy = ArchiveSeen(
        name="pacs",
        breaker="closed",
        since=NOON,
        down_since=None,
        failures=0,
        last_answer="0x0000 success",
        last_success_at=NOON,
        probe_at=None,
    )
    return replace(healthy, **changes)


def judged(seen: Seen, at_s: float = 0.0, settings: Settings = SETTINGS) -> dict[str, Check]:
    return {check.name: check for check in health.judge(seen, settings, after(at_s))}


def red(seen: Seen, at_s: float = 0.0, settings: Settings = SETTINGS) -> list[str]:
    return [name for name, check in judged(seen, at_s, settings).items() if check.is_red]


def test_a_node_that_does_its_work_is_green() -> None:
    checks = judged(WELL)

    assert list(checks) == [
        "database",
        "disk",
        "dispatcher",
        "receiver",
        "worker",
        "queue",
        "deliveries",
        "archive pacs",
    ]
    assert not health.is_red(tuple(checks.values()))
    assert checks["disk"].reason == "50000 MB are free (red below 2000 MB)"


def test_a_ledger_that_is_away_is_red_and_what_it_alone_knows_is_unknown() -> None:
    checks = judged(replace(WELL, backlog=None, ledger_trouble="connection refused"))

    assert [name for name, check in checks.items() if check.is_red] == ["database"]
    assert "connection refused" in checks["database"].reason
    assert [name for name, check in checks.items() if check.is_red is None] == ["queue", "deliveries", "archive pacs"]


@pytest.mark.parametrize(
    ("free_mb", "is_red", "is_near"), [(1999, True, False), (2000, False, True), (2200, False, False)]
)
def test_the_disk_is_red_below_its_watermark_and_well_only_some_way_above(
    free_mb: int, is_red: bool, is_near: bool
) -> None:
    check = judged(replace(WELL, free_bytes=free_mb * 2**20))["disk"]

    assert (check.is_red, check.is_near) == (is_red, is_near)
    assert ("images are refused" in check.reason) == is_red


def test_the_operator_may_be_told_of_the_disk_before_images_are_refused() -> None:
    early = SETTINGS.model_copy(update={"monitoring": MonitoringSettings(disk_low_mb=10_000)})
    check = judged(replace(WELL, free_bytes=9_000 * 2**20), settings=early)["disk"]

    assert check.is_red
    assert check.reason == "9000 MB are free, fewer than 10000 MB"


def test_a_disk_that_cannot_be_looked_at_is_red() -> None:
    assert red(replace(WELL, free_bytes=None)) == ["disk"]


def test_a_process_without_signs_of_life_is_red() -> None:
    silent = replace(WELL, parts=(part("dispatcher"), part("receiver", age_s=31), part("worker", age_s=29)))

    assert red(silent) == ["receiver"]
    assert "no sign of life for 31 s" in judged(silent)["receiver"].reason


def test_a_process_that_never_came_is_red_once_it_had_time_to() -> None:
    without = replace(WELL, parts=(part("dispatcher"), part("receiver")))

    assert red(without) == ["worker"]
    assert red(replace(without, up_s=10.0)) == []


def test_a_second_worker_does_not_stand_for_a_missing_receiver() -> None:
    assert red(replace(WELL, parts=(part("dispatcher"), part("worker"), part("worker-2")))) == ["receiver"]


def test_a_process_that_dies_again_and_again_is_red_though_it_lives() -> None:
    often = (5.0, 40.0, 90.0, 200.0, 590.0)

    assert red(replace(WELL, parts=(*WELL.parts[:2], part("worker", started_s_ago=often)))) == ["worker"]
    assert red(replace(WELL, parts=(*WELL.parts[:2], part("worker", started_s_ago=(*often[:4], 601.0))))) == []


def test_a_whole_study_that_waits_too_long_is_red() -> None:
    waiting = replace(WELL, backlog=replace(NOTHING_WAITS, queued=3, oldest_queued_at=NOON))

    assert red(waiting, at_s=3600) == []
    assert red(waiting, at_s=3601) == ["queue"]
    assert judged(waiting, at_s=7200)["queue"].reason == "a study that was whole 2 h ago is not graded yet; 3 wait"


def test_a_study_that_nobody_closes_is_red() -> None:
    latest_s = SETTINGS.assembly.maximum_wait_s + 3600
    receiving = replace(WELL, backlog=replace(NOTHING_WAITS, oldest_receiving_at=NOON))

    assert red(receiving, at_s=latest_s) == []
    assert red(receiving, at_s=latest_s + 1) == ["queue"]


def test_a_result_that_waits_for_more_than_a_day_is_red() -> None:
    waiting = replace(WELL, backlog=replace(NOTHING_WAITS, oldest_due_at={"pacs": NOON}))

    assert red(waiting, at_s=86_400) == []
    assert red(waiting, at_s=86_401) == ["deliveries"]
    assert "pacs for 1 d" in judged(waiting, at_s=86_401)["deliveries"].reason


def test_an_archive_is_down_when_it_has_taken_nothing_for_long_enough() -> None:
    open_since_noon = archive(breaker="open", down_since=NOON, failures=4, last_answer="cannot connect")
    down = replace(WELL, backlog=replace(NOTHING_WAITS, archives=(open_since_noon,)))

    assert red(down, at_s=900) == []
    assert red(down, at_s=901) == ["archive pacs"]
    assert judged(down, at_s=901)["archive pacs"].reason == (
        "takes nothing since 2026-03-01 12:00:00Z (15 min 1 s ago): cannot connect"
    )


def test_an_archive_that_answers_and_takes_nothing_is_down_while_something_waits_for_it() -> None:
    refusing = archive(down_since=NOON, last_answer="0x0110 processing failure")
    waits = replace(NOTHING_WAITS, archives=(refusing,), oldest_due_at={"pacs": NOON})

    assert red(replace(WELL, backlog=waits), at_s=901) == ["archive pacs"]
    assert red(replace(WELL, backlog=replace(waits, oldest_due_at={})), at_s=901) == []
    probed = replace(waits, archives=(replace(refusing, breaker="half_open"),))
    assert red(replace(WELL, backlog=probed), at_s=901) == ["archive pacs"]


def test_an_archive_that_is_not_in_the_settings_any_more_worries_nobody() -> None:
    gone = archive(name="old", breaker="open", down_since=NOON)

    assert red(replace(WELL, backlog=replace(NOTHING_WAITS, archives=(gone,))), at_s=86_400) == []
