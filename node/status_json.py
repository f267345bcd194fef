"""`spinenode status --json`. Its keys stand in docs/operations.md; they are added to, never renamed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from node import timeline
from node.health import ArchiveSeen, is_red
from node.records import DeliveryState, StudyOverview, StudyRecord, StudyState
from node.status import NodeStatus, dead_letters
from node.timeline import Life, Sending

SCHEMA = 1
COLOURS = {True: "red", False: "green", None: "unknown"}

Json = dict[str, Any]


def of_node(status: NodeStatus) -> Json:
    """The node and its newest studies."""
    return {
        "schema": SCHEMA,
        "at": _time(status.at),
        "running": bool(status.running),
        "parts": [
            {
                "name": part.name,
                "pid": part.pid,
                "started_at": _time(part.started_at),
                "silent_s": round(part.age_s, 1),
                "alive": part in status.running,
            }
            for part in status.parts
        ],
        "model": None if status.model is None else dict(status.model),
        "health": "green" if status.running and not is_red(status.checks) else "red",
        "checks": [
            {"name": check.name, "status": COLOURS[check.is_red], "reason": check.reason} for check in status.checks
        ],
        "disk": {
            "free_mb": None if status.free_bytes is None else status.free_bytes // 2**20,
            "watermark_mb": status.watermark_mb,
        },
        "studies_by_state": {state.value: status.counts.studies.get(state, 0) for state in StudyState},
        "queue": {"waiting": status.backlog.queued, "oldest_since": _time(status.backlog.oldest_queued_at)},
        "archives": [_archive(name, status) for name in (*status.archives, *_gone(status))],
        "dead_letters": sum(dead_letters(status.counts).values()),
        "conflicts": status.conflicts,
        "refused": dict(sorted(status.refused.items())),
        "notices": [
            {"channel": channel, "state": state.value, "count": number}
            for (channel, state), number in sorted(status.notices.items())
        ],
        "studies": [_overview(shown) for shown in status.studies],
    }


def of_study(lives: Sequence[Life]) -> Json:
    """Every generation that was asked for, with all that happened to it."""
    return {"schema": SCHEMA, "studies": [_life(life) for life in lives]}


def _gone(status: NodeStatus) -> Sequence[str]:
    """Archives that have deliveries, but are not in the settings any more."""
    return sorted(set(status.counts.deliveries) - set(status.archives))


def _archive(name: str, status: NodeStatus) -> Json:
    seen: Mapping[str, ArchiveSeen] = {archive.name: archive for archive in status.backlog.archives}
    known = seen.get(name)
    return {
        "name": name,
        "configured": name in status.archives,
        "breaker": known.breaker if known else None,
        "since": _time(known.since if known else None),
        "down_since": _time(known.down_since if known else None),
        "failures": known.failures if known else 0,
        "last_answer": known.last_answer if known else "",
        "last_success_at": _time(known.last_success_at if known else None),
        "asked_again_at": _time(known.probe_at if known else None),
        "deliveries": _by_state(status.counts.deliveries.get(name, {})),
        "oldest_waiting_since": _time(status.backlog.oldest_due_at.get(name)),
    }


def _overview(shown: StudyOverview) -> Json:
    return {
        **_study(shown.study),
        "closed_because": shown.closed_because,
        "conflicts": shown.conflicts,
        "deliveries_by_state": _by_state(shown.deliveries),
    }


def _study(study: StudyRecord) -> Json:
    return {
        "study": study.study_id,
        "study_instance_uid": study.study_instance_uid,
        "generation": study.generation,
        "state": study.state.value,
        "reason": study.reason,
        "priority": study.priority,
        "attempts": study.attempts,
        "images": study.instance_count,
        "first_received_at": _time(study.first_received_at),
        "last_received_at": _time(study.last_received_at),
        "closed_at": _time(study.closed_at),
        "changed_at": _time(study.changed_at),
        "proven_at": _time(study.proven_at),
    }


def _life(life: Life) -> Json:
    return {
        **_study(life.study),
        "calling_ae_title": life.calling_ae_title,
        "conflicts": life.conflicts,
        "images_deleted_at": _time(life.images_deleted_at),
        "results_deleted_at": _time(life.results_deleted_at),
        "timeline": [
            {"at": _time(moment.at), "what": moment.what, "detail": moment.detail} for moment in timeline.moments(life)
        ],
        "stages": [
            {
                "name": stage.name,
                "began": _time(stage.began),
                "ended": _time(stage.ended),
                "seconds": round(stage.seconds, 3),
            }
            for stage in timeline.stages(life.history, life.study.last_received_at)
        ],
        "turnaround_s": timeline.turnaround_s(life.history, life.study.last_received_at),
        "deliveries": [_sending(item) for item in life.sendings],
    }


def _sending(item: Sending) -> Json:
    return {
        "delivery": item.delivery_id,
        "archive": item.archive,
        "kind": item.kind,
        "sop_class_uid": item.sop_class_uid,
        "sop_instance_uid": item.sop_instance_uid,
        "state": item.state.value,
        "attempts": item.attempts,
        "last_answer": item.last_status,
        "next_try_at": _time(item.not_before) if item.state is DeliveryState.DUE else None,
        "listed_at": _time(item.listed_at),
        "arrived_at": _time(item.arrived_at),
        "proven_at": _time(item.proven_at),
        "proof_attempts": item.proof_attempts,
        "history": [
            {"at": _time(event.at), "state": event.state.value, "answer": event.status} for event in item.events
        ],
    }


def _by_state(counts: Mapping[DeliveryState, int]) -> dict[str, int]:
    return {state.value: counts.get(state, 0) for state in DeliveryState}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")
