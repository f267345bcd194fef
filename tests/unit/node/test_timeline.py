"""Timelines: every step of a study's way with its moment, and how long each stage took."""

from __future__ import annotations

from dataclasses import replace

from node import timeline
from node.records import DeliveryState, StudyRecord, StudyState
from node.timeline import Entry, Life, Sending
from tests.unit.node.received_instances import NOON, after


def entry(number: int, at_s: float, state: StudyState, reason: str = "", *steps: tuple[str, float]) -> Entry:
    noted = tuple((step, after(step_at_s)) for step, step_at_s in steps)
    return Entry(number=number, at=after(at_s), state=state, reason=reason, steps=noted)


SENT_IN_FULL = (
    entry(1, 0, StudyState.RECEIVING, "the first image came"),
    entry(2, 50, StudyState.QUEUED, "no new image for 30 s"),
    entry(3, 51, StudyState.GRADING, "a worker has it"),
    entry(4, 60, StudyState.GRADED, "6 discs", ("read", 52), ("graded", 57), ("rendered", 59), ("stored", 59.5)),
    entry(5, 62, StudyState.DELIVERED, "every archive holds every result"),
    entry(6, 70, StudyState.DELIVERED, "every archive has proved that it holds it"),
)
STUDY = StudyRecord(
    study_id=7,
    study_instance_uid="1.2.3",
    generation=1,
    state=StudyState.DELIVERED,
    reason="",
    digest="",
    attempts=1,
    round=0,
    instance_count=40,
    first_received_at=NOON,
    last_received_at=after(20),
    closed_at=after(50),
    changed_at=after(70),
    proven_at=after(70),
)
REPORT = Sending(
    delivery_id=1,
    archive="pacs",
    kind="text_report",
    sop_class_uid="1.2",
    sop_instance_uid="2.25.1",
    state=DeliveryState.PROVEN,
    attempts=1,
    not_before=after(60),
    last_status="0x0000 success",
    listed_at=after(60),
    arrived_at=after(62),
    proven_at=after(70),
    proof_attempts=1,
    events=(),
)


def life(history: tuple[Entry, ...], *sendings: Sending) -> Life:
    return Life(
        study=STUDY,
        calling_ae_title="SCANNER",
        conflicts=0,
        images_deleted_at=None,
        results_deleted_at=None,
        history=history,
        sendings=sendings,
    )


def told(shown: Life) -> list[tuple[float, str]]:
    return [((moment.at - NOON).total_seconds(), moment.what) for moment in timeline.moments(shown)]


def lasted(history: tuple[Entry, ...]) -> dict[str, float]:
    return {stage.name: stage.seconds for stage in timeline.stages(history, after(20))}


def test_the_whole_way_of_a_study_is_told_in_order() -> None:
    assert told(life(SENT_IN_FULL, REPORT)) == [
        (0, "received"),
        (20, "last image"),
        (50, "complete"),
        (51, "started"),
        (52, "read"),
        (57, "graded"),
        (59, "rendered"),
        (59.5, "stored"),
        (60, "results listed"),
        (62, "pacs has it"),
        (62, "delivered"),
        (70, "pacs proved it"),
        (70, "proven"),
    ]


def test_each_stage_lasts_from_the_end_of_the_one_before() -> None:
    assert lasted(SENT_IN_FULL) == {
        "receiving": 20,
        "closing": 30,
        "waiting": 1,
        "reading": 1,
        "grading": 5,
        "rendering": 2,
        "storing": 0.5,
        "working": 9,
        "delivering": 2,
        "proving": 8,
    }
    assert set(lasted(SENT_IN_FULL)) == set(timeline.STAGES)


def test_a_study_takes_from_its_last_image_to_the_last_archive() -> None:
    assert timeline.turnaround_s(SENT_IN_FULL, after(20)) == 42
    assert timeline.turnaround_s(SENT_IN_FULL[:4], after(20)) is None


def test_a_study_that_still_receives_shows_its_newest_image() -> None:
    assert told(life(SENT_IN_FULL[:1])) == [(0, "received"), (20, "last image")]


def test_a_second_attempt_is_told_and_only_the_one_that_ended_is_timed() -> None:
    history = (*SENT_IN_FULL[:3], entry(4, 55, StudyState.GRADING, "attempt 2"), entry(5, 65, StudyState.FAILED, "x"))

    assert [what for _, what in told(life(history))] == [
        "received",
        "last image",
        "complete",
        "started",
        "started",
        "failed",
    ]
    assert lasted(history)["working"] == 10


def test_what_the_operator_sets_going_again_and_what_an_archive_lost_have_names_of_their_own() -> None:
    retried = (*SENT_IN_FULL[:3], entry(4, 60, StudyState.FAILED), entry(5, 90, StudyState.QUEUED))
    lost = (*SENT_IN_FULL[:5], entry(6, 80, StudyState.GRADED, "pacs does not hold every result after all"))

    assert told(life(retried))[-1] == (90, "queued again")
    assert told(life(lost))[-1] == (80, "sent again")


def test_an_archive_has_it_when_its_last_result_has_arrived_whatever_was_replaced() -> None:
    waiting = replace(REPORT, state=DeliveryState.DUE, arrived_at=None, proven_at=None)
    replaced = replace(waiting, state=DeliveryState.REPLACED)
    other = replace(REPORT, archive="other", state=DeliveryState.DELIVERED, arrived_at=after(65), proven_at=None)

    assert [what for _, what in told(life((), waiting, REPORT))] == []
    assert [what for _, what in told(life((), replaced, REPORT))] == ["pacs has it", "pacs proved it"]
    assert [what for _, what in told(life((), REPORT, other))] == ["pacs has it", "other has it", "pacs proved it"]


def test_an_image_that_came_after_the_closing_makes_no_stage_negative() -> None:
    assert all(stage.seconds >= 0 for stage in timeline.stages(SENT_IN_FULL, after(500)))
    assert lasted(SENT_IN_FULL)["receiving"] == 20


def test_what_retention_has_deleted_is_told() -> None:
    shown = replace(life(SENT_IN_FULL), images_deleted_at=after(1000), results_deleted_at=after(2000))

    assert told(shown)[-2:] == [(1000, "images deleted"), (2000, "results deleted")]
