"""What the node looks like from outside, for Prometheus. No identifiers: no study, no patient, no AE title of a peer.

Metrics are made anew for each scrape from what was seen last; nothing here reads the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from node.health import ArchiveSeen, Backlog, Check
from node.latencies import Histogram, Totals
from node.ledger_figures import Counts
from node.lifesigns import Sign
from node.notices import NoticeState
from node.records import DeliveryState, Recorded, StudyState
from node.timeline import STAGES

CONTENT_TYPE = CONTENT_TYPE_LATEST
_Labels = TypeVar("_Labels", bound=tuple[str, ...])


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Everything that metrics are made of; None or empty where it is not known."""

    version: str
    now: datetime
    read_s_ago: float | None
    """Since the ledger was read."""
    counts: Counts | None
    backlog: Backlog | None
    totals: Totals | None
    notices: Mapping[tuple[str, NoticeState], int]
    checks: Sequence[Check]
    parts: Sequence[Sign]
    silent_after_s: float
    free_bytes: int | None
    watermark_bytes: int
    archives: Sequence[str]
    """Of the settings: they are told of before anything was sent to them."""


def exposition(picture: Picture) -> bytes:
    """The text that Prometheus reads."""
    return generate_latest(_Once(picture))


class _Once(Collector):
    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def collect(self) -> Iterator[Metric]:
        picture = self._picture
        yield from _node(picture)
        yield from _models(picture.parts)
        yield from _refusals(picture.parts)
        if picture.counts is not None:
            yield from _counted(picture.counts, picture.archives)
        if picture.backlog is not None:
            yield from _waiting(picture.backlog, picture)
        if picture.totals is not None:
            yield from _totals(picture.totals)
        yield _gauge(
            "spinenode_notices",
            "Notices by channel and state.",
            {(channel, state.value): float(count) for (channel, state), count in picture.notices.items()},
            "channel",
            "state",
        )


def _gauge(name: str, text: str, values: Mapping[_Labels, float], *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _node(picture: Picture) -> Iterator[Metric]:
    info = InfoMetricFamily("spinenode", "Version of the program.")
    info.add_metric([], {"version": picture.version})
    yield info
    read = picture.read_s_ago
    yield _gauge("spinenode_ledger_up", "1 while the ledger can be read.", {(): float(picture.backlog is not None)})
    if read is not None:
        yield _gauge("spinenode_ledger_read_age_seconds", "Since the ledger was read for these metrics.", {(): read})
    if picture.free_bytes is not None:
        yield _gauge("spinenode_disk_free_bytes", "Free space of the data directory.", {(): float(picture.free_bytes)})
    yield _gauge(
        "spinenode_disk_watermark_bytes",
        "Less free space than this is red.",
        {(): float(picture.watermark_bytes)},
    )
    green = {(check.name,): float(not check.is_red) for check in picture.checks if check.is_red is not None}
    yield _gauge("spinenode_health", "1 where a check of the health is green, 0 where it is red.", green, "check")
    parts = picture.parts
    alive = {(part.name,): float(part.age_s <= picture.silent_after_s) for part in parts}
    yield _gauge("spinenode_part_up", "1 while a process of the node gives signs of life.", alive, "part")
    started = {(part.name,): part.started_at.timestamp() for part in parts}
    yield _gauge("spinenode_part_start_time_seconds", "When the process was started (Unix time).", started, "part")


def _models(parts: Sequence[Sign]) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "spinenode_model_info", "Which weights grade (always 1).", labels=("part", "name", "version", "sha256")
    )
    for part in parts:
        model = part.facts.get("model")
        if isinstance(model, Mapping):
            family.add_metric([part.name, *(str(model.get(key, "")) for key in ("name", "version", "sha256"))], 1.0)
    yield family


def _refusals(parts: Sequence[Sign]) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "spinenode_refused", "Connections and associations that were turned away.", labels=("reason",)
    )
    for part in parts:
        refused = part.facts.get("refused")
        if isinstance(refused, Mapping):
            for reason, count in sorted(refused.items()):
                family.add_metric([str(reason)], float(count))
    yield family


def _counted(counts: Counts, archives: Sequence[str]) -> Iterator[Metric]:
    studies = {(state.value,): float(counts.studies.get(state, 0)) for state in StudyState}
    yield _gauge("spinenode_studies", "Studies (generations) by state.", studies, "state")
    deliveries = {
        (archive, state.value): float(counts.deliveries.get(archive, {}).get(state, 0))
        for archive in sorted({*archives, *counts.deliveries})
        for state in DeliveryState
    }
    yield _gauge("spinenode_deliveries", "Results on their way, by archive and state.", deliveries, "archive", "state")


def _waiting(backlog: Backlog, picture: Picture) -> Iterator[Metric]:
    def age_s(since: datetime | None) -> float:
        return 0.0 if since is None else max(0.0, (picture.now - since).total_seconds())

    yield _gauge("spinenode_queue_length", "Whole studies that are not graded yet.", {(): float(backlog.queued)})
    yield _gauge(
        "spinenode_queue_age_seconds",
        "How long the oldest of them has been whole.",
        {(): age_s(backlog.oldest_queued_at)},
    )
    waits = {(name,): age_s(backlog.oldest_due_at.get(name)) for name in {*picture.archives, *backlog.oldest_due_at}}
    yield _gauge("spinenode_delivery_age_seconds", "How long the oldest result waits.", waits, "archive")
    yield from _archives(backlog.archives)


def _archives(archives: Sequence[ArchiveSeen]) -> Iterator[Metric]:
    states = ("closed", "open", "half_open")
    breakers = {
        (archive.name, state): float(archive.breaker == state)
        for archive in archives
        for state in sorted({*states, archive.breaker})
    }
    yield _gauge(
        "spinenode_archive_breaker",
        "1 for the state of the circuit breaker: closed = results are sent, open = the archive is left alone.",
        breakers,
        "archive",
        "state",
    )
    failures = {(archive.name,): float(archive.failures) for archive in archives}
    yield _gauge("spinenode_archive_failures", "Failures in a row.", failures, "archive")
    down = {(item.name,): item.down_since.timestamp() for item in archives if item.down_since is not None}
    yield _gauge(
        "spinenode_archive_down_since_timestamp_seconds",
        "First failure since it last took something (Unix time); none while it takes what is sent.",
        down,
        "archive",
    )
    answered = {
        (archive.name,): archive.last_success_at.timestamp()
        for archive in archives
        if archive.last_success_at is not None
    }
    yield _gauge(
        "spinenode_archive_last_success_timestamp_seconds",
        "When it last answered well (Unix time).",
        answered,
        "archive",
    )


def _totals(totals: Totals) -> Iterator[Metric]:
    kinds = (Recorded.NEW, Recorded.CONFLICT, Recorded.OWN_RESULT)
    received = CounterMetricFamily(
        "spinenode_received_objects", "Objects that were received and kept.", labels=["kind"]
    )
    for kind in kinds:
        received.add_metric([kind.value], float(totals.received[kind]))
    yield received
    yield CounterMetricFamily("spinenode_received_bytes", "Their size.", value=float(totals.received_bytes))
    stages = HistogramMetricFamily(
        "spinenode_study_stage_seconds", "How long the stages of a study took.", labels=["stage"]
    )
    for stage in STAGES:
        _add(stages, [stage], totals.stages.get(stage, Histogram()))
    yield stages
    turnaround = HistogramMetricFamily(
        "spinenode_study_turnaround_seconds", "From the last image until every archive had every result."
    )
    _add(turnaround, [], totals.turnaround)
    yield turnaround
    yield from _deliveries(totals)


def _deliveries(totals: Totals) -> Iterator[Metric]:
    changes = CounterMetricFamily(
        "spinenode_delivery_changes",
        "How often a delivery came into a state: due = it failed for now, or was set going again.",
        labels=["archive", "state"],
    )
    for (archive, state), count in sorted(totals.changes.items()):
        changes.add_metric([archive, state.value], float(count))
    yield changes
    arrivals = HistogramMetricFamily(
        "spinenode_delivery_seconds", "From the listing of a result to its arrival.", labels=["archive"]
    )
    for archive, histogram in sorted(totals.arrivals.items()):
        _add(arrivals, [archive], histogram)
    yield arrivals


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    family.add_metric(labels, buckets=list(histogram.cumulative()), sum_value=histogram.sum_s)
