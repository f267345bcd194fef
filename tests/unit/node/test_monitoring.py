"""The monitoring port: it answers whatever else is away, and its own trouble is nobody else's."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from node import lifesigns, monitoring, watch
from node.ledger import LedgerUnavailable, open_ledger
from node.settings import ArchiveSettings, MonitoringSettings, NodeSettings, NoticeSettings, Settings
from tests import hook_server, postgresql_server
from tests.node_process import free_port
from tests.unit.node.graded_studies import graded, taken

PACS = ArchiveSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


def settings_in(folder: Path, port: int, **changes: Any) -> Settings:
    wanted: dict[str, Any] = {
        "node": NodeSettings(data_dir=folder),
        "monitoring": MonitoringSettings(port=port),
        "archives": (PACS,),
    }
    return Settings(**(wanted | changes))


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """The monitor in a thread; gives its address."""
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=monitoring.run,
        args=(settings,),
        kwargs={"stop": stop, "on_ready": ready.set, "now": lambda: datetime.now(UTC)},
    )
    thread.start()
    try:
        assert ready.wait(20)
        yield f"http://127.0.0.1:{settings.monitoring.port}"
    finally:
        stop.set()
        thread.join(20)


def get(address: str) -> tuple[int, str]:
    """Status and body, as soon as somebody listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                return answer.status, answer.read().decode("utf-8")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode("utf-8")
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def red(address: str) -> dict[str, str]:
    _, body = get(f"{address}/health")
    return {check["name"]: check["reason"] for check in json.loads(body)["checks"] if check["status"] == "red"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, free_port())


def test_a_well_node_answers_200_and_tells_each_check(settings: Settings) -> None:
    open_ledger(settings.database_url).close()
    with running(settings) as address:
        status, body = get(f"{address}/health")

    content = json.loads(body)
    assert (status, content["schema"], content["status"]) == (200, 1, "green")
    assert {"database", "disk", "queue", "deliveries", "archive pacs"} == {check["name"] for check in content["checks"]}
    assert all(check["reason"] for check in content["checks"])


def test_what_happens_is_in_the_next_scrape(settings: Settings) -> None:
    ledger = open_ledger(settings.database_url)
    with running(settings) as address:
        until(lambda: 'spinenode_studies{state="grading"} 0.0' in get(f"{address}/metrics")[1])
        time.sleep(watch.FRESH_FOR_S)
        taken(ledger, 1)
        until(lambda: 'spinenode_studies{state="grading"} 1.0' in get(f"{address}/metrics")[1])
        text = get(f"{address}/metrics")[1]
    ledger.close()

    assert 'spinenode_study_stage_seconds_count{stage="closing"} 1.0' in text


def test_no_identifier_is_in_the_metrics_the_health_or_a_notice(tmp_path: Path) -> None:
    with hook_server.running() as hook:
        settings = settings_in(tmp_path, free_port(), notices=NoticeSettings(webhook_url=hook.url))
        ledger = open_ledger(settings.database_url)
        deliveries = graded(ledger, 77, ["pacs"], count=2)["pacs"]
        ledger.delivery_dead(deliveries[0], status="0xA900 data set does not match", now=datetime.now(UTC))
        with running(settings) as address:
            until(lambda: hook.told() == ["dead_letter"])
            told = [get(f"{address}/metrics")[1], get(f"{address}/health")[1], hook.calls[0].body.decode("utf-8")]
        ledger.close()

    for text in told:
        for identifier in ("1.2.3.77", "2.25.77", "MODALITY", "1.2.3.1."):
            assert identifier not in text


def test_a_disk_below_its_watermark_is_red_and_told(tmp_path: Path) -> None:
    with hook_server.running() as hook:
        monitored = MonitoringSettings(port=free_port(), disk_low_mb=10**9)
        notices = NoticeSettings(webhook_url=hook.url)
        settings = settings_in(tmp_path, 0, monitoring=monitored, notices=notices)
        open_ledger(settings.database_url).close()
        with running(settings) as address:
            until(lambda: hook.told() == ["disk_low"])
            assert list(red(address)) == ["disk"]

    assert hook.calls[0].content["subject"] == "disk"
    assert "fewer than 1000000000 MB" in hook.calls[0].content["text"]


def test_it_answers_while_the_database_is_away_and_when_it_is_back(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, free_port())
    (tmp_path / "node.db").mkdir()  # what cannot be opened
    with running(settings) as address:
        until(lambda: get(f"{address}/health")[0] == 503)
        reasons = red(address)
        metrics = get(f"{address}/metrics")[1]
        (tmp_path / "node.db").rmdir()
        until(lambda: get(f"{address}/health")[0] == 200)

    assert "Is a directory" in reasons["database"]
    assert "spinenode_ledger_up 0.0" in metrics


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_it_answers_while_a_database_server_is_stopped_and_when_it_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "HANGS_AFTER_S", 3.0)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.5)
    with postgresql_server.running_cluster() as cluster:
        node = NodeSettings(data_dir=tmp_path, database_url=f"{cluster.url}/postgres")
        settings = settings_in(tmp_path, free_port(), node=node)
        with running(settings) as address:
            until(lambda: "spinenode_ledger_up 1.0" in get(f"{address}/metrics")[1])
            cluster.stop()
            until(lambda: list(red(address)) == ["database"])
            cluster.start()
            until(lambda: get(f"{address}/health")[0] == 200)

            frozen = cluster.processes()
            for process in frozen:
                os.kill(process, signal.SIGSTOP)
            try:
                until(lambda: "has not answered for" in red(address).get("database", ""))
                assert "spinenode_ledger_up 0.0" in get(f"{address}/metrics")[1]
            finally:
                for process in frozen:
                    os.kill(process, signal.SIGCONT)
            until(lambda: get(f"{address}/health")[0] == 200)


def test_it_answers_while_the_database_hangs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ledger(settings.database_url).close()
    monkeypatch.setattr(watch, "HANGS_AFTER_S", 0.5)
    monkeypatch.setattr(watch, "WAIT_FOR_A_LOOK_S", 0.1)
    hanging = threading.Event()

    def hang(self: Any, now: datetime) -> None:
        hanging.wait(30)
        raise LedgerUnavailable("gone at last")

    monkeypatch.setattr(watch._Eyes, "read", hang)
    with running(settings) as address:
        until(lambda: "database" in red(address))
        began = time.monotonic()
        status, _ = get(f"{address}/health")
        hanging.set()

    assert status == 503
    assert time.monotonic() - began < 10


def test_a_process_that_falls_silent_turns_it_red(tmp_path: Path) -> None:
    monitored = MonitoringSettings(port=free_port(), silent_after_s=5)
    settings = settings_in(tmp_path, 0, monitoring=monitored)
    open_ledger(settings.database_url).close()
    lifesigns.clear(tmp_path)
    sign = {"pid": 1, "started_at": "2026-03-01T12:00:00+00:00", "starts": [], "facts": {}}
    path = tmp_path / lifesigns.FOLDER / "receiver.json"
    path.write_text(json.dumps(sign | {"beat": time.monotonic()}))
    with running(settings) as address:
        assert get(f"{address}/health")[0] == 200
        path.write_text(json.dumps(sign | {"beat": time.monotonic() - 6}))
        assert list(red(address)) == ["receiver"]
        assert 'spinenode_part_up{part="receiver"} 0.0' in get(f"{address}/metrics")[1]


def test_a_port_that_is_taken_is_waited_for_and_keeps_nobody_from_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "node")
    monkeypatch.setattr(monitoring, "LISTEN_AGAIN_S", 0.1)
    open_ledger(settings.database_url).close()
    another = socket.create_server(("127.0.0.1", settings.monitoring.port))
    with another, running(settings) as address:
        until(lambda: "cannot listen" in caplog.text)
        another.close()
        assert get(f"{address}/health")[0] == 200

    assert caplog.text.count("cannot listen") == 1
    assert "monitoring.port" in caplog.text


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/metrics?x=1", 200), ("/other", 404), ("/../etc", 404)])
def test_there_are_two_pages_and_a_word_about_them(settings: Settings, path: str, status: int) -> None:
    open_ledger(settings.database_url).close()
    with running(settings) as address:
        assert get(f"{address}{path}")[0] == status


def test_other_methods_are_refused_and_head_has_no_body(settings: Settings) -> None:
    open_ledger(settings.database_url).close()
    with running(settings) as address:
        get(f"{address}/health")
        with urllib.request.urlopen(urllib.request.Request(f"{address}/health", method="HEAD"), timeout=10) as answer:
            assert (answer.status, answer.read()) == (200, b"")
        with pytest.raises(urllib.error.HTTPError, match="501") as refused:
            urllib.request.urlopen(urllib.request.Request(f"{address}/metrics", data=b"x", method="POST"), timeout=10)
        refused.value.close()


def test_a_question_that_cannot_be_answered_is_told_to_the_log_and_the_next_is_answered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_ledger(settings.database_url).close()
    with running(settings) as address:
        get(f"{address}/health")
        with monkeypatch.context() as broken:
            broken.setattr(monitoring.metrics, "exposition", lambda picture: 1 / 0)
            with pytest.raises(OSError, match="closed connection"):
                urllib.request.urlopen(f"{address}/metrics", timeout=10)
        assert get(f"{address}/metrics")[0] == 200

    assert "could not be answered" in caplog.text


def test_many_silent_connections_do_not_take_all_places_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring._Answer, "timeout", 0.5)
    open_ledger(settings.database_url).close()
    with running(settings) as address:
        get(f"{address}/health")
        port = settings.monitoring.port
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(monitoring.MOST_AT_ONCE + 5)]
        try:
            until(lambda: get(f"{address}/health")[0] == 200)
        finally:
            for connection in silent:
                connection.close()


def test_questions_that_drip_do_not_take_all_places_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "ASKED_WITHIN_S", 0.5)
    open_ledger(settings.database_url).close()
    with running(settings) as address:
        get(f"{address}/health")
        port = settings.monitoring.port
        places = [socket.create_connection(("127.0.0.1", port)) for _ in range(monitoring.MOST_AT_ONCE)]
        open_ones = set(places)

        def each_has_ended() -> bool:
            for connection in tuple(open_ones):
                try:
                    connection.send(b"G")
                except OSError:
                    open_ones.discard(connection)
            return not open_ones

        try:
            until(each_has_ended)
            assert get(f"{address}/health")[0] == 200
        finally:
            for connection in places:
                connection.close()


def test_without_a_port_notices_are_told_all_the_same(tmp_path: Path) -> None:
    with hook_server.running() as hook:
        wanted = NoticeSettings(webhook_url=hook.url)
        settings = settings_in(tmp_path, 0, notices=wanted, monitoring=MonitoringSettings(port=0))
        ledger = open_ledger(settings.database_url)
        study = taken(ledger, 1)
        ledger.finish_failed(study.study_id, reason="a fault of the node", now=datetime.now(UTC))
        with running(settings):
            until(lambda: hook.told() == ["study_failed"])
        ledger.close()

    assert settings.is_monitored
    assert "study 1 failed: a fault of the node" in hook.calls[0].content["text"]
