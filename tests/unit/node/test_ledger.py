"""The ledger on both databases: what each method changes, and what it leaves alone when it is repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from node.ledger import Ledger, UnknownStudy, WrongState
from node.records import DeliveryState, Recorded, ResultObject, StudyState
from tests.unit.node.received_instances import NOON, after, image

SR = ResultObject(
    sop_instance_uid="2.25.1", sop_class_uid="1.2.3", kind="measurement_report", path=Path("results/a"), sha256="a" * 64
)
CAPTURE = ResultObject(
    sop_instance_uid="2.25.2", sop_class_uid="1.2.4", kind="secondary_capture", path=Path("results/b"), sha256="b" * 64
)
TO_ONE_ARCHIVE = {"pacs": ("2.25.1", "2.25.2")}


def closed_study(ledger: Ledger, *, images: Sequence[int] = (1,), at: datetime = NOON) -> int:
    for number in images:
        ledger.record_instance(image(number, at=at))
    (study,) = ledger.open_studies()
    assert ledger.close_study(study.study_id, last_received_at=at, reason="quiet", now=at)
    return study.study_id


def taken_study(ledger: Ledger) -> int:
    study_id = closed_study(ledger)
    assert ledger.take_study(study_id, maximum_attempts=3, now=NOON) is not None
    return study_id


def graded_study(ledger: Ledger, archives: dict[str, Sequence[str]] | None = None) -> int:
    study_id = taken_study(ledger)
    ledger.finish_graded(
        study_id, results=(SR, CAPTURE), archives=archives or TO_ONE_ARCHIVE, reason="graded", now=NOON
    )
    return study_id


def due(ledger: Ledger, now: datetime = NOON) -> list[tuple[str, str]]:
    return [(delivery.archive, delivery.sop_instance_uid) for delivery in ledger.due_deliveries(now, limit=100)]


class TestRecordInstance:
    def test_the_first_image_opens_the_study(self, ledger: Ledger) -> None:
        assert ledger.record_instance(image(1, at=after(1))) is Recorded.NEW
        (study,) = ledger.open_studies()
        assert (study.first_received_at, study.last_received_at, study.instance_count) == (after(1), after(1), 1)

    def test_the_next_image_moves_the_last_time_only_forwards(self, ledger: Ledger) -> None:
        for number, seconds in enumerate((5, 9, 7)):
            ledger.record_instance(image(number, at=after(seconds)))
        (study,) = ledger.open_studies()
        assert (study.first_received_at, study.last_received_at, study.instance_count) == (after(5), after(9), 3)

    def test_the_same_bytes_again_change_nothing(self, ledger: Ledger) -> None:
        ledger.record_instance(image(1))
        assert ledger.record_instance(image(1, copy=2, at=after(60))) is Recorded.SAME_AGAIN
        (study,) = ledger.open_studies()
        assert (study.last_received_at, study.instance_count) == (NOON, 1)
        assert ledger.instances(study.study_id) == (image(1),)

    def test_the_same_call_again_is_new_again_so_that_nobody_deletes_its_file(self, ledger: Ledger) -> None:
        """A COMMIT whose answer got lost is repeated: the file of the row must not be taken for a second copy."""
        assert ledger.record_instance(image(1)) is Recorded.NEW
        assert ledger.record_instance(image(1)) is Recorded.NEW
        assert ledger.open_studies()[0].instance_count == 1

    @pytest.mark.parametrize(
        "other", [image(1, content="other"), image(1, study="1.2.9", copy=2), image(1, series="1.2.3.9", copy=2)]
    )
    def test_the_same_uid_with_other_bytes_is_kept_beside(self, ledger: Ledger, other) -> None:  # type: ignore[no-untyped-def]
        ledger.record_instance(image(1))
        assert ledger.record_instance(other) is Recorded.CONFLICT
        (study,) = ledger.open_studies()
        assert ledger.instances(study.study_id) == (image(1),)
        assert ledger.conflicts(study.study_id) == 1
        assert ledger.received_counts() == {Recorded.NEW: 1, Recorded.CONFLICT: 1, Recorded.OWN_RESULT: 0}

    def test_a_conflict_again_is_the_same_again(self, ledger: Ledger) -> None:
        ledger.record_instance(image(1))
        ledger.record_instance(image(1, content="other"))
        assert ledger.record_instance(image(1, content="other", copy=2)) is Recorded.SAME_AGAIN

    def test_our_own_result_opens_no_study(self, ledger: Ledger) -> None:
        study_id = graded_study(ledger)
        came_back = image(7, study="1.2.3", modality="SR", at=after(60))
        came_back = type(came_back)(
            **{name: getattr(came_back, name) for name in came_back.__slots__} | {"sop_instance_uid": "2.25.1"}
        )
        assert ledger.is_own_result("2.25.1")
        assert ledger.record_instance(came_back) is Recorded.OWN_RESULT
        assert ledger.open_studies() == ()
        assert ledger.study(study_id).state is StudyState.GRADED

    def test_an_image_after_closing_opens_the_next_generation_with_all_images(self, ledger: Ledger) -> None:
        first = closed_study(ledger, images=(1, 2))
        assert ledger.record_instance(image(3, at=after(60))) is Recorded.NEW
        (second,) = ledger.open_studies()
        assert ledger.study(second.study_id).generation == 2
        assert (second.first_received_at, second.instance_count) == (after(60), 3)
        assert ledger.instances(first) == (image(1), image(2))
        assert ledger.instances(second.study_id) == (image(1), image(2), image(3, at=after(60)))

    def test_a_time_without_a_zone_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="without a zone"):
            ledger.record_instance(image(1, at=NOON.replace(tzinfo=None)))
        assert ledger.open_studies() == ()


class TestCloseStudy:
    def test_fixes_images_and_digest(self, ledger: Ledger) -> None:
        study_id = closed_study(ledger, images=(2, 1))
        study = ledger.study(study_id)
        lines = "".join(f"1.2.3.1.{number} {image(number).sha256}\n" for number in (1, 2))
        assert study.digest == hashlib.sha256(lines.encode()).hexdigest()
        assert (study.state, study.reason, study.closed_at, study.instance_count) == (
            StudyState.QUEUED,
            "quiet",
            NOON,
            2,
        )
        assert ledger.queued_studies() == (study,)

    def test_an_image_since_the_decision_prevents_it(self, ledger: Ledger) -> None:
        ledger.record_instance(image(1))
        (study,) = ledger.open_studies()
        ledger.record_instance(image(2, at=after(1)))
        assert not ledger.close_study(study.study_id, last_received_at=NOON, reason="quiet", now=after(2))
        assert ledger.study(study.study_id).state is StudyState.RECEIVING

    def test_a_second_time_it_is_false(self, ledger: Ledger) -> None:
        study_id = closed_study(ledger)
        assert not ledger.close_study(study_id, last_received_at=NOON, reason="again", now=after(9))
        assert ledger.study(study_id).reason == "quiet"

    def test_only_mr_objects_count_into_the_digest_where_there_are_any(self, ledger: Ledger) -> None:
        first = closed_study(ledger, images=(1,))
        ledger.record_instance(image(2, modality="PR", at=after(60)))
        (second,) = ledger.open_studies()
        ledger.close_study(second.study_id, last_received_at=after(60), reason="quiet", now=after(90))
        assert ledger.study(second.study_id).digest == ledger.study(first).digest
        assert len(ledger.instances(second.study_id)) == 2


class TestTakeStudy:
    def test_counts_attempts_and_gives_up_at_the_maximum(self, ledger: Ledger) -> None:
        study_id = closed_study(ledger)
        for attempt in (1, 2):
            taken = ledger.take_study(study_id, maximum_attempts=2, now=after(attempt))
            assert taken is not None
            assert (taken.state, taken.attempts) == (StudyState.GRADING, attempt)
        assert ledger.grading_studies() == (taken,)
        assert ledger.take_study(study_id, maximum_attempts=2, now=after(3)) is None
        failed = ledger.study(study_id)
        assert (failed.state, failed.reason) == (StudyState.FAILED, "its worker stopped 2 times before an end")

    def test_leaves_a_study_that_receives_or_has_ended(self, ledger: Ledger) -> None:
        ledger.record_instance(image(1))
        (study,) = ledger.open_studies()
        assert ledger.take_study(study.study_id, maximum_attempts=3, now=NOON) is None
        assert ledger.study(study.study_id).state is StudyState.RECEIVING

    def test_names_an_unknown_study(self, ledger: Ledger) -> None:
        with pytest.raises(UnknownStudy, match="no study 7"):
            ledger.take_study(7, maximum_attempts=3, now=NOON)


class TestFinish:
    def test_graded_lists_results_and_deliveries_at_once_and_only_once(self, ledger: Ledger) -> None:
        study_id = graded_study(ledger)
        for _ in range(2):
            ledger.finish_graded(
                study_id, results=(SR, CAPTURE), archives=TO_ONE_ARCHIVE, reason="repeated", now=after(9)
            )
        assert due(ledger) == [("pacs", "2.25.1"), ("pacs", "2.25.2")]
        assert (ledger.study(study_id).state, ledger.study(study_id).reason) == (StudyState.GRADED, "graded")
        assert ledger.graded_digest("1.2.3") == (ledger.study(study_id).digest,)

    def test_graded_without_archives_is_an_end(self, ledger: Ledger) -> None:
        study_id = taken_study(ledger)
        ledger.finish_graded(study_id, results=(SR,), archives={}, reason="graded", now=NOON)
        assert ledger.study(study_id).state is StudyState.GRADED
        assert due(ledger) == []

    def test_a_delivery_of_something_that_is_no_result_changes_nothing(self, ledger: Ledger) -> None:
        study_id = taken_study(ledger)
        with pytest.raises(ValueError, match="not among the results"):
            ledger.finish_graded(study_id, results=(SR,), archives={"pacs": ["2.25.9"]}, reason="graded", now=NOON)
        assert ledger.study(study_id).state is StudyState.GRADING
        assert not ledger.is_own_result("2.25.1")

    def test_declined_stays_declined_while_and_after_its_report_is_delivered(self, ledger: Ledger) -> None:
        study_id = taken_study(ledger)
        ledger.finish_declined(study_id, reason="no T2", results=(SR,), archives={"pacs": ["2.25.1"]}, now=NOON)
        (delivery,) = ledger.due_deliveries(NOON, limit=10)
        ledger.delivery_delivered(delivery.delivery_id, status="0x0000", now=NOON)
        assert (ledger.study(study_id).state, ledger.study(study_id).reason) == (StudyState.DECLINED, "no T2")
        assert ledger.graded_digest("1.2.3") == ()

    def test_unchanged_and_failed(self, ledger: Ledger) -> None:
        study_id = taken_study(ledger)
        ledger.finish_unchanged(study_id, reason="as generation 1", now=NOON)
        assert ledger.study(study_id).state is StudyState.UNCHANGED
        with pytest.raises(WrongState, match="unchanged, not grading"):
            ledger.finish_failed(study_id, reason="late", now=NOON)

    def test_a_stale_worker_cannot_finish_what_waits_for_a_retry(self, ledger: Ledger) -> None:
        study_id = taken_study(ledger)
        ledger.finish_failed(study_id, reason="fault", now=NOON)
        ledger.retry_study("1.2.3", now=NOON)
        with pytest.raises(WrongState, match="queued, not grading"):
            ledger.finish_graded(study_id, results=(SR,), archives={}, reason="graded", now=NOON)
        assert not ledger.is_own_result("2.25.1")

    def test_a_result_that_a_generation_before_made_is_taken_over_with_its_delivery(self, ledger: Ledger) -> None:
        first = taken_study(ledger)
        ledger.finish_declined(first, reason="no T2", results=(SR,), archives={"pacs": ["2.25.1"]}, now=NOON)
        ledger.record_instance(image(2, modality="PR", at=after(60)))
        (second,) = ledger.open_studies()
        ledger.close_study(second.study_id, last_received_at=after(60), reason="quiet", now=after(90))
        ledger.take_study(second.study_id, maximum_attempts=3, now=after(90))
        ledger.finish_declined(
            second.study_id, reason="no T2", results=(SR,), archives={"pacs": ["2.25.1"]}, now=after(91)
        )
        (delivery,) = ledger.due_deliveries(after(91), limit=10)
        assert (delivery.study_id, delivery.not_before) == (second.study_id, NOON)


class TestDeliveries:
    def test_the_last_arrival_of_all_archives_delivers_the_study(self, ledger: Ledger) -> None:
        study_id = graded_study(ledger, {"a": ["2.25.1"], "b": ["2.25.1"]})
        first, second = ledger.due_deliveries(NOON, limit=10)
        ledger.delivery_delivered(first.delivery_id, status="0x0000", now=after(1))
        assert ledger.study(study_id).state is StudyState.GRADED
        ledger.delivery_delivered(second.delivery_id, status="0xB000", now=after(2))
        assert ledger.study(study_id).state is StudyState.DELIVERED
        assert ledger.delivery_counts() == {"a": {DeliveryState.DELIVERED: 1}, "b": {DeliveryState.DELIVERED: 1}}

    def test_a_dead_one_keeps_the_study_graded(self, ledger: Ledger) -> None:
        study_id = graded_study(ledger)
        first, second = ledger.due_deliveries(NOON, limit=10)
        ledger.delivery_dead(first.delivery_id, status="0xA900", now=NOON)
        ledger.delivery_delivered(second.delivery_id, status="0x0000", now=NOON)
        assert ledger.study(study_id).state is StudyState.GRADED

    def test_postponed_is_not_due_before_its_time(self, ledger: Ledger) -> None:
        graded_study(ledger, {"pacs": ["2.25.1"]})
        (delivery,) = ledger.due_deliveries(NOON, limit=10)
        ledger.delivery_postponed(delivery.delivery_id, status="refused", not_before=after(30), now=NOON)
        assert due(ledger, after(29)) == []
        (again,) = ledger.due_deliveries(after(30), limit=10)
        assert (again.attempts, again.last_status, again.path) == (1, "refused", Path("results/a"))

    def test_what_arrived_stays_arrived(self, ledger: Ledger) -> None:
        graded_study(ledger, {"pacs": ["2.25.1"]})
        (delivery,) = ledger.due_deliveries(NOON, limit=10)
        ledger.delivery_delivered(delivery.delivery_id, status="0x0000", now=NOON)
        ledger.delivery_postponed(delivery.delivery_id, status="timeout", not_before=after(30), now=after(1))
        assert due(ledger, after(60)) == []
        assert ledger.delivery_counts() == {"pacs": {DeliveryState.DELIVERED: 1}}

    def test_one_archive_can_be_asked_for_alone(self, ledger: Ledger) -> None:
        graded_study(ledger, {"a": ["2.25.1"], "b": ["2.25.2"]})
        assert [d.archive for d in ledger.due_deliveries(NOON, limit=10, archives=["b"])] == ["b"]
        assert len(ledger.due_deliveries(NOON, limit=1)) == 1


class TestRetry:
    def test_a_failed_study_is_queued_in_a_new_round_with_its_attempts_forgotten(self, ledger: Ledger) -> None:
        study_id = taken_study(ledger)
        ledger.finish_failed(study_id, reason="fault", now=NOON)
        assert ledger.retry_study("1.2.3", now=after(5)) == 1
        study = ledger.study(study_id)
        assert (study.state, study.round, study.attempts) == (StudyState.QUEUED, 1, 0)

    def test_dead_and_waiting_deliveries_are_due_now(self, ledger: Ledger) -> None:
        graded_study(ledger)
        first, second = ledger.due_deliveries(NOON, limit=10)
        ledger.delivery_dead(first.delivery_id, status="0xA900", now=NOON)
        ledger.delivery_postponed(second.delivery_id, status="refused", not_before=after(900), now=NOON)
        assert ledger.retry_study("1.2.3", now=after(5)) == 2
        assert [d.attempts for d in ledger.due_deliveries(after(5), limit=10)] == [0, 0]

    def test_a_study_in_good_order_has_nothing_to_retry(self, ledger: Ledger) -> None:
        closed_study(ledger)
        assert ledger.retry_study("1.2.3", now=NOON) == 0

    def test_an_unknown_study_is_named_without_its_uid(self, ledger: Ledger) -> None:
        with pytest.raises(UnknownStudy) as caught:
            ledger.retry_study("1.2.3.4.5.6", now=NOON)
        assert "1.2.3" not in str(caught.value)


def test_history_tells_each_state_with_its_time_and_reason(ledger: Ledger) -> None:
    study_id = graded_study(ledger)
    assert [(entry.state, entry.reason, entry.at) for entry in ledger.history(study_id)] == [
        (StudyState.RECEIVING, "the first image came", NOON),
        (StudyState.QUEUED, "quiet", NOON),
        (StudyState.GRADING, "a worker has it", NOON),
        (StudyState.GRADED, "graded", NOON),
    ]


def test_overview_counts_deliveries_and_conflicts_newest_first(ledger: Ledger) -> None:
    study_id = graded_study(ledger)
    ledger.record_instance(image(1, content="other"))
    ledger.record_instance(image(50, study="1.2.4", at=after(60)))
    newest, oldest = ledger.study_overview(limit=10)
    assert newest.study.study_instance_uid == "1.2.4"
    assert (oldest.study.study_id, oldest.deliveries, oldest.conflicts) == (study_id, {DeliveryState.DUE: 2}, 1)
    assert len(ledger.study_overview(limit=1)) == 1
    counts = ledger.counts_by_state()
    assert {state for state, count in counts.items() if count} == {StudyState.RECEIVING, StudyState.GRADED}
    assert set(counts) == set(StudyState)
