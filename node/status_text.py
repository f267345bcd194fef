"""`spinenode status` in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

from node import timeline
from node.health import CLOSED, ArchiveSeen
from node.notices import NoticeState
from node.records import ARRIVED, Delivery, DeliveryState, StudyOverview, StudyState
from node.status import NodeStatus, dead_letters
from node.timeline import Life, Sending
from node.words import ago, count, moment, span

OTHER_BYTES = "other bytes (as the same image has that is sent again in another transfer syntax)"


def of_node(status: NodeStatus) -> str:
    """The node first, then its newest studies, then what has not arrived."""
    lines = [_node(status), *_red(status), _queue(status), *_archives(status), *_others(status)]
    if not status.studies:
        return "\n".join([*lines, "", "no study has been received yet"])
    lines += [
        "",
        f"{count(len(status.studies), 'study')}, the newest first:",
        *(line for item in status.studies for line in _study(item)),
    ]
    waiting = [item for item in status.undelivered if item.state is not DeliveryState.REPLACED]
    if waiting:
        lines += ["", "not delivered:", *_undelivered(waiting, status.at)]
    replaced = [item for item in status.undelivered if item.state is DeliveryState.REPLACED]
    if replaced:
        said = dict.fromkeys((item.archive, item.last_status) for item in replaced)
        lines += ["", "sent in another form:", *(f"        {archive}: {what}" for archive, what in said)]
    return "\n".join(lines)


def of_study(lives: Sequence[Life], now: datetime) -> str:
    """Each generation with its timeline and its deliveries."""
    return "\n\n".join("\n".join(_life(life, now)) for life in lives)


def _node(status: NodeStatus) -> str:
    names = ", ".join(part.name for part in status.running)
    if not names:
        last = min((part.age_s for part in status.parts), default=None)
        return "node: not running" + (f" (last sign of life {span(last)} ago)" if last is not None else "")
    model = status.model
    weights = f"; weights {model['version']} (sha256 {model['sha256'][:12]})" if model else ""
    return f"node: running ({names}){weights}"


def _red(status: NodeStatus) -> Iterator[str]:
    if status.running:
        yield from (f"RED: {check.name}: {check.reason}" for check in status.checks if check.is_red)


def _queue(status: NodeStatus) -> str:
    studies, backlog = status.counts.studies, status.backlog
    in_work = studies.get(StudyState.GRADING, 0)
    line = (
        f"queue: {count(studies.get(StudyState.RECEIVING, 0), 'study')} arriving, "
        f"{studies.get(StudyState.QUEUED, 0)} to grade, {in_work} in work"
    )
    if backlog.oldest_queued_at is not None:
        line += f" (the oldest is whole for {span((status.at - backlog.oldest_queued_at).total_seconds())})"
    failed = studies.get(StudyState.FAILED, 0)
    line += f"; {count(failed, 'study')} failed (`spinenode retry STUDY`)" if failed else ""
    free = "not known" if status.free_bytes is None else f"{status.free_bytes // 2**20} MB"
    return f"{line}\ndisk: {free} free (red below {status.watermark_mb} MB)"


def _archives(status: NodeStatus) -> Iterator[str]:
    seen = {archive.name: archive for archive in status.backlog.archives}
    gone = [name for name in status.counts.deliveries if name not in status.archives]
    for name in (*status.archives, *gone):
        deliveries = status.counts.deliveries.get(name, {})
        waiting = deliveries.get(DeliveryState.DUE, 0)
        parts = [f"{count(sum(deliveries.get(state, 0) for state in ARRIVED), 'result')} arrived"]
        if proven := deliveries.get(DeliveryState.PROVEN, 0):
            parts.append(f"{proven} of them proven")
        parts.append(f"{waiting} wait")
        if waiting and name in status.backlog.oldest_due_at:
            parts[-1] += f" (the oldest for {span((status.at - status.backlog.oldest_due_at[name]).total_seconds())})"
        if dead := deliveries.get(DeliveryState.DEAD, 0):
            parts.append(count(dead, "dead letter"))
        known = "" if name in status.archives else " (not in the settings any more)"
        yield f"archive {name}{known}: {_breaker(seen.get(name), status.at)}; {', '.join(parts)}"


def _breaker(seen: ArchiveSeen | None, now: datetime) -> str:
    if seen is None:
        return "nothing was sent to it yet"
    since = f"it answered last {ago(seen.last_success_at, now)}" if seen.last_success_at else "it never took anything"
    down = seen.down_since or seen.since
    if seen.breaker == CLOSED and not seen.failures:
        nothing = f"takes nothing since {moment(down)} ({span((now - down).total_seconds())}): {seen.last_answer}; "
        return f"{nothing if seen.down_since else ''}{since}"
    if seen.breaker == CLOSED:
        return f"{count(seen.failures, 'failure')} in a row ({seen.last_answer}), {since}"
    wait_s = (seen.probe_at - now).total_seconds() if seen.probe_at else 0.0
    asked = f"asked again in {span(wait_s)}" if wait_s > 0 else "asked again now"
    return f"DOWN since {moment(down)} ({span((now - down).total_seconds())}): {seen.last_answer}; {asked}, {since}"


def _others(status: NodeStatus) -> Iterator[str]:
    dead = dead_letters(status.counts)
    if dead:
        yield f"dead letters: {sum(dead.values())} (`spinenode dead-letters` lists them)"
    if status.conflicts:
        yield (
            f"{count(status.conflicts, 'object')} kept but not graded: they claim a known SOP Instance UID, "
            f"with {OTHER_BYTES}"
        )
    for reason, times in sorted(status.refused.items()):
        yield f"turned away since the start: {reason} ({count(times, 'time')})"
    told = sum(number for (_, state), number in status.notices.items() if state is NoticeState.SENT)
    waiting = sum(number for (_, state), number in status.notices.items() if state is NoticeState.DUE)
    if told or waiting:
        why = status.waiting_notice
        said = f" ({why.channel}: {why.last_status or 'not tried yet'})" if why is not None else ""
        yield f"notices: {told} told, {waiting} wait{said}"


def _study(shown: StudyOverview) -> Iterator[str]:
    study = shown.study
    generation = f" (generation {study.generation})" if study.generation > 1 else ""
    yield (
        f"{study.study_id:>6}  {moment(study.changed_at)}  {study.state.value:<10} "
        f"{study.instance_count:>5} images  {study.study_instance_uid}{generation}"
    )
    if study.reason:
        yield f"        {study.reason}"
    if shown.closed_because and shown.closed_because != study.reason:
        yield f"        {shown.closed_because}"
    if shown.deliveries:
        counts = ", ".join(f"{number} {state.value}" for state, number in sorted(shown.deliveries.items()))
        yield f"        results: {counts}"
    if shown.conflicts:
        yield f"        {count(shown.conflicts, 'object')} kept beside it: a known SOP Instance UID with {OTHER_BYTES}"


def _undelivered(deliveries: Sequence[Delivery], now: datetime) -> Iterator[str]:
    """One line for each study, archive, state and answer: an archive that is away says the same of each object."""
    for (study_id, archive, state, status), same in groupby(
        deliveries, key=lambda item: (item.study_id, item.archive, item.state, item.last_status)
    ):
        group = list(same)
        attempts = max(item.attempts for item in group)
        wait_s = max(0, round((min(item.not_before for item in group) - now).total_seconds()))
        when = f"next try in {wait_s} s" if state is DeliveryState.DUE else "waits for `spinenode retry`"
        said = status or "not tried yet"
        yield f"{study_id:>6}  {archive}: {len(group)} {state.value} after {attempts} attempts, {when}: {said}"


def _life(life: Life, now: datetime) -> Iterator[str]:
    study = life.study
    generation = f", generation {study.generation}" if study.generation > 1 else ""
    yield f"study {study.study_id}  {study.state.value}  {study.study_instance_uid}{generation}"
    sender = f" from {life.calling_ae_title}" if life.calling_ae_title else ""
    yield f"    {count(study.instance_count, 'image')}{sender}"
    if study.reason:
        yield f"    {study.reason}"
    if life.conflicts:
        yield f"    {count(life.conflicts, 'object')} kept beside it: a known SOP Instance UID with {OTHER_BYTES}"
    yield ""
    before: datetime | None = None
    for happened in timeline.moments(life):
        passed = "" if before is None else f"+{span((happened.at - before).total_seconds())}"
        yield f"    {moment(happened.at)}  {passed:>12}  {happened.what:<16}  {happened.detail}".rstrip()
        before = happened.at
    if life.sendings:
        yield ""
        for _, same in groupby(life.sendings, key=lambda item: item.archive):
            yield from _archive(list(same), now)


def _archive(sendings: Sequence[Sending], now: datetime) -> Iterator[str]:
    """One line for each kind of result, state and answer."""
    yield f"    to {sendings[0].archive}:"
    groups: dict[tuple[str, DeliveryState, int, str], list[Sending]] = {}
    for item in sendings:
        groups.setdefault((item.kind, item.state, item.attempts, item.last_status), []).append(item)
    for (kind, state, attempts, status), same in groups.items():
        what = f"{len(same)} x {kind}" if len(same) > 1 else kind
        yield f"      {what:<26} {state.value:<10} {_how(same[-1], now)}"
        yield f"        {count(attempts, 'attempt')}: {status}" if attempts else "        not tried yet"


def _how(item: Sending, now: datetime) -> str:
    """When it arrived and was proven, or when it is tried again."""
    said = []
    if item.state in ARRIVED and item.arrived_at is not None:
        took = f" (+{span((item.arrived_at - item.listed_at).total_seconds())})" if item.listed_at else ""
        said.append(f"arrived {moment(item.arrived_at)}{took}")
    if item.state is DeliveryState.PROVEN and item.proven_at is not None:
        took = f" (+{span((item.proven_at - item.arrived_at).total_seconds())})" if item.arrived_at else ""
        said.append(f"proven {moment(item.proven_at)}{took}")
    if item.state is DeliveryState.DUE:
        wait_s = (item.not_before - now).total_seconds()
        said.append(f"next try in {span(wait_s)}" if wait_s > 0 else "next try now")
    if item.state is DeliveryState.DEAD:
        said.append("on the list of `spinenode dead-letters`")
    return ", ".join(said)
