"""A whole node and everything it tells of itself: asked by HTTP and on the command line, told by webhook and e-mail.

The study is full of canaries: none of them may sing in anything but the operator's own question about the study.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from prometheus_client.parser import text_string_to_metric_families

from node import lifesigns
from tests import hook_server, mail_server, scripted_archive
from tests.crash.test_no_identifiers import BORN, CANARY, UID_ROOT, send, with_canaries
from tests.hook_server import Hook
from tests.mail_server import MailServer
from tests.node_process import Archive, Node, configured, free_port

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SILENT_AFTER_S = 6


def get(node: Node, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.monitoring_port}/{page}", timeout=20) as answer:
            return answer.status, answer.read().decode("utf-8")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8")


def until(condition: Callable[[], object], within_s: float = 90) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def red(node: Node) -> list[str]:
    return [check["name"] for check in json.loads(get(node, "health")[1])["checks"] if check["status"] == "red"]


def value(node: Node, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(get(node, "metrics")[1]):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    return None


def pid_of(node: Node, part: str) -> int:
    return next(sign.pid for sign in lifesigns.read(node.folder / "data") if sign.name == part)


def node_that_tells(folder: Path, archives: list[Archive], hook: Hook, mail: MailServer) -> Node:
    notices = (
        f'\n[notices]\nwebhook_url = "{hook.url}"\nalarm_after_s = 1\nemail_host = "127.0.0.1"\n'
        f'email_port = {mail.port}\nemail_security = "none"\nemail_from = "node@example.org"\n'
        'email_to = ["pacs@example.org"]\n'
    )
    node = configured(folder, archives, quiet_s=1.0, extra=notices)
    text = node.config.read_text(encoding="utf-8")
    limits = f"[monitoring]\narchive_down_after_s = 2\nsilent_after_s = {SILENT_AFTER_S}\n"
    node.config.write_text(text.replace("[monitoring]\n", limits), encoding="utf-8")
    return node


def canary_study(lumbar_study: Path, folder: Path) -> Path:
    folder.mkdir()
    for number, path in enumerate(sorted(lumbar_study.iterdir())):
        with_canaries(pydicom.dcmread(path), number).save_as(folder / path.name)
    return folder


def assert_names_nobody(text: str) -> None:
    for secret in (CANARY, UID_ROOT, "3680043", BORN):
        assert secret not in text, text[max(0, text.index(secret) - 200) : text.index(secret) + 50]


@pytest.mark.timeout(300)
def test_everything_that_a_node_tells(tmp_path: Path, lumbar_study: Path) -> None:
    away = free_port()
    with (
        hook_server.running() as hook,
        mail_server.running() as mail,
        scripted_archive.answering() as pacs,
    ):
        archives = [
            Archive(name="pacs", ae_title=scripted_archive.AE_TITLE, port=pacs.port),
            Archive(name="second", ae_title=scripted_archive.AE_TITLE, port=away),
        ]
        node = node_that_tells(tmp_path / "node", archives, hook, mail)
        node.start()
        try:
            until(lambda: get(node, "health")[0] == 200)
            send(node, canary_study(lumbar_study, tmp_path / "study"))
            until(lambda: value(node, "spinenode_deliveries", archive="pacs", state="delivered"))

            until(lambda: hook.told() == ["archive_down"])
            until(lambda: len(mail.messages) == 1)
            assert red(node) == ["archive second"]
            pages = [get(node, "health")[1], get(node, "metrics")[1]]
            the_study_is_told(node)

            with scripted_archive.answering(port=away):
                until(lambda: value(node, "spinenode_studies", state="delivered") == 1)
                until(lambda: hook.told() == ["archive_down", "archive_up"])
                until(lambda: get(node, "health")[0] == 200)
            assert value(node, "spinenode_study_turnaround_seconds_count") == 1
            assert value(node, "spinenode_delivery_changes_total", archive="second", state="due")

            a_hanging_receiver_is_told(node, hook)
            pages += [get(node, "health")[1], get(node, "metrics")[1]]
        finally:
            node.stop()

    pages += [call.body.decode("utf-8") for call in hook.calls] + [str(message) for message in mail.messages]
    pages.append(node.words())
    for page in pages:
        assert_names_nobody(page)
    assert node.command("status").stdout.startswith("node: not running")


def the_study_is_told(node: Node) -> None:
    _, text, _ = node.command("status", f"{UID_ROOT}.1").stdout.split("\n\n")
    steps = ("received", "last image", "complete", "started", "read", "graded", "rendered", "stored", "pacs has it")
    places = [text.index(f"  {step}") for step in steps]
    assert places == sorted(places)

    content: dict[str, Any] = json.loads(node.command("status", "1", "--json").stdout)
    (study,) = content["studies"]
    assert {item["state"] for item in study["deliveries"] if item["archive"] == "second"} == {"due"}
    stages = {stage["name"]: stage["seconds"] for stage in study["stages"]}
    assert {"receiving", "closing", "waiting", "reading", "grading", "rendering", "storing", "working"} <= set(stages)
    assert stages["working"] >= stages["reading"] + stages["grading"] + stages["rendering"]
    assert json.loads(node.command("status", "--json").stdout)["model"]["name"] == "spinenode"


def a_hanging_receiver_is_told(node: Node, hook: Hook) -> None:
    """Stopped, it is red and told; killed, it is started again and green."""
    receiver = pid_of(node, "receiver")
    os.kill(receiver, signal.SIGSTOP)
    try:
        until(lambda: red(node) == ["receiver"], within_s=SILENT_AFTER_S + 20)
        assert get(node, "health")[0] == 503
        assert value(node, "spinenode_part_up", part="receiver") == 0
        until(lambda: hook.told()[2:] == ["health_red"])
    finally:
        os.kill(receiver, signal.SIGKILL)
    until(lambda: get(node, "health")[0] == 200)
    until(lambda: hook.told()[2:] == ["health_red", "health_green"])
    assert pid_of(node, "receiver") != receiver
