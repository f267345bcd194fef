"""Metrics: what Prometheus reads, with its own parser; and that no patient is in it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from node import metrics
from node.health import About, ArchiveSeen, Backlog, Check
from node.latencies import Histogram, Totals
from node.ledger_figures import Counts
from node.lifesigns import Sign
from node.metrics import Picture
from node.notices import NoticeState
from node.records import DeliveryState, Recorded, StudyState
from tests.unit.node.received_instances import NOON, after

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def took(*durations_s: float) -> Histogram:
    histogram = Histogram()
    for seconds in durations_s:
        histogram.add(seconds)
    return histogram


ARCHIVE = ArchiveSeen(
    name="pacs",
    breaker="open",
    since=NOON,
    down_since=NOON,
    failures=3,
    last_answer="cannot connect",
    last_success_at=NOON,
    probe_at=None,
)
WORKER = Sign(
    name="worker",
    pid=1,
    started_at=NOON,
    age_s=1,
    started_s_ago=(5.0,),
    facts={"model": {"name": "spinenode", "version": "grader-1", "sha256": "ab" * 32}},
)
RECEIVER = Sign(
    name="receiver", pid=2, started_at=NOON, age_s=99, started_s_ago=(5.0,), facts={"refused": {"too many": 4}}
)
FULL: dict[str, Any] = {
    "version": "1.2.3",
    "now": after(100),
    "read_s_ago": 0.5,
    "counts": Counts(studies={StudyState.DELIVERED: 7}, deliveries={"pacs": {DeliveryState.DUE: 3}}),
    "backlog": Backlog(
        queued=2,
        oldest_queued_at=after(40),
        oldest_receiving_at=None,
        oldest_due_at={"pacs": after(90)},
        archives=(ARCHIVE,),
    ),
    "totals": Totals(
        received=Counter({Recorded.NEW: 11}),
        received_bytes=1234,
        stages={"grading": took(0.2, 3.0)},
        turnaround=took(42.0),
        changes=Counter({("pacs", DeliveryState.DELIVERED): 5}),
        arrivals={"pacs": took(1.0)},
    ),
    "notices": {("webhook", NoticeState.DUE): 1},
    "checks": (Check(name="disk", about=About.DISK, is_red=True, reason=""),),
    "parts": (RECEIVER, WORKER),
    "silent_after_s": 30.0,
    "free_bytes": 5_000,
    "watermark_bytes": 9_000,
    "archives": ("pacs", "second"),
}


def samples(**changes: Any) -> Samples:
    text = metrics.exposition(Picture(**(FULL | changes))).decode("utf-8")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("spinenode_info", {"version": "1.2.3"}, 1),
        ("spinenode_ledger_up", {}, 1),
        ("spinenode_ledger_read_age_seconds", {}, 0.5),
        ("spinenode_disk_free_bytes", {}, 5000),
        ("spinenode_disk_watermark_bytes", {}, 9000),
        ("spinenode_health", {"check": "disk"}, 0),
        ("spinenode_part_up", {"part": "worker"}, 1),
        ("spinenode_part_up", {"part": "receiver"}, 0),
        ("spinenode_part_start_time_seconds", {"part": "worker"}, NOON.timestamp()),
        (
            "spinenode_model_info",
            {"part": "worker", "name": "spinenode", "version": "grader-1", "sha256": "ab" * 32},
            1,
        ),
        ("spinenode_refused_total", {"reason": "too many"}, 4),
        ("spinenode_studies", {"state": "delivered"}, 7),
        ("spinenode_studies", {"state": "failed"}, 0),
        ("spinenode_deliveries", {"archive": "pacs", "state": "due"}, 3),
        ("spinenode_deliveries", {"archive": "second", "state": "dead"}, 0),
        ("spinenode_queue_length", {}, 2),
        ("spinenode_queue_age_seconds", {}, 60),
        ("spinenode_delivery_age_seconds", {"archive": "pacs"}, 10),
        ("spinenode_delivery_age_seconds", {"archive": "second"}, 0),
        ("spinenode_archive_breaker", {"archive": "pacs", "state": "open"}, 1),
        ("spinenode_archive_breaker", {"archive": "pacs", "state": "closed"}, 0),
        ("spinenode_archive_failures", {"archive": "pacs"}, 3),
        ("spinenode_archive_down_since_timestamp_seconds", {"archive": "pacs"}, NOON.timestamp()),
        ("spinenode_archive_last_success_timestamp_seconds", {"archive": "pacs"}, NOON.timestamp()),
        ("spinenode_received_objects_total", {"kind": "new"}, 11),
        ("spinenode_received_objects_total", {"kind": "conflict"}, 0),
        ("spinenode_received_bytes_total", {}, 1234),
        ("spinenode_study_stage_seconds_count", {"stage": "grading"}, 2),
        ("spinenode_study_stage_seconds_bucket", {"stage": "grading", "le": "0.25"}, 1),
        ("spinenode_study_stage_seconds_sum", {"stage": "grading"}, 3.2),
        ("spinenode_study_stage_seconds_count", {"stage": "proving"}, 0),
        ("spinenode_study_turnaround_seconds_bucket", {"le": "60.0"}, 1),
        ("spinenode_delivery_changes_total", {"archive": "pacs", "state": "delivered"}, 5),
        ("spinenode_delivery_seconds_sum", {"archive": "pacs"}, 1.0),
        ("spinenode_notices", {"channel": "webhook", "state": "due"}, 1),
    ],
)
def test_each_metric_says_what_was_seen(name: str, labels: dict[str, str], value: float) -> None:
    assert samples()[name, tuple(sorted(labels.items()))] == pytest.approx(value)


def test_while_the_ledger_is_away_what_is_known_without_it_is_told() -> None:
    told = samples(counts=None, backlog=None, totals=None, read_s_ago=None)

    assert told["spinenode_ledger_up", ()] == 0
    assert told["spinenode_part_up", (("part", "worker"),)] == 1
    assert "spinenode_studies" not in {name for name, _ in told}


def test_totals_are_left_out_until_the_ledger_was_read_once() -> None:
    """A counter that starts low would look like a restart to Prometheus, and its catching up like as many events."""
    assert not [name for name, _ in samples(totals=None) if name.startswith("spinenode_received")]


def test_an_operator_finds_each_metric_in_the_documentation() -> None:
    from pathlib import Path

    documented = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    text = metrics.exposition(Picture(**FULL)).decode("utf-8")
    for family in text_string_to_metric_families(text):
        assert f"`{family.name}" in documented, family.name
