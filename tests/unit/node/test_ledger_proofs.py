"""Proof in the ledger: what is asked about, what a report changes, and what it must not."""

from __future__ import annotations

import pytest

from node.ledger import Ledger
from node.proofs import CommitmentState, Filed, Patience, Report
from node.records import DeliveryState, StudyState
from tests.unit.node.received_instances import NOON, after
from tests.unit.node.test_ledger import graded_study

PATIENCE = Patience(first_s=10, longest_s=1000, most_sent_again=2)
ONE, TWO = "2.25.1", "2.25.2"


@pytest.fixture
def study_id(ledger: Ledger) -> int:
    """Of a study whose two results have arrived at the archive "pacs"."""
    number = graded_study(ledger)
    deliver(ledger)
    return number


def deliver(ledger: Ledger, at_s: float = 0) -> None:
    for delivery in ledger.due_deliveries(after(at_s), limit=10):
        ledger.delivery_delivered(delivery.delivery_id, status="0x0000 success", now=after(at_s))


def due(ledger: Ledger, at_s: float = 0) -> list[str]:
    return [item.sop_instance_uid for item in ledger.proofs.due("pacs", after(at_s), limit=10)]


def ask(ledger: Ledger, uid: str = "2.25.77", at_s: float = 0, overdue_s: float = 600) -> None:
    numbers = [item.delivery_id for item in ledger.proofs.due("pacs", after(at_s), limit=10)]
    overdue_at = after(at_s + overdue_s)
    ledger.proofs.asking(uid, archive="pacs", delivery_ids=numbers, overdue_at=overdue_at, now=after(at_s))
    ledger.proofs.requested(uid)


def report(held: tuple[str, ...] = (), failed: dict[str, int] | None = None, uid: str = "2.25.77") -> Report:
    return Report(transaction_uid=uid, held=frozenset(held), failed=failed or {})


def file(ledger: Ledger, what: Report, at_s: float = 1) -> Filed:
    return ledger.proofs.reported(what, patience=PATIENCE, now=after(at_s))


def states(ledger: Ledger) -> dict[DeliveryState, int]:
    return {state: count for state, count in ledger.delivery_counts()["pacs"].items() if count}


class TestAsking:
    def test_what_has_arrived_is_asked_about_at_once(self, ledger: Ledger, study_id: int) -> None:
        (first, second) = ledger.proofs.due("pacs", NOON, limit=10)
        assert (first.study_id, first.study_instance_uid, first.sop_instance_uid) == (study_id, "1.2.3", ONE)
        assert second.sop_instance_uid == TWO

    def test_a_study_waits_until_all_of_it_is_sent(self, ledger: Ledger) -> None:
        graded_study(ledger)
        (first, _) = ledger.due_deliveries(NOON, limit=10)
        ledger.delivery_delivered(first.delivery_id, status="0x0000", now=NOON)
        assert due(ledger) == []

    def test_a_result_that_has_to_wait_does_not_keep_the_others(self, ledger: Ledger) -> None:
        graded_study(ledger)
        first, second = ledger.due_deliveries(NOON, limit=10)
        ledger.delivery_delivered(first.delivery_id, status="0x0000", now=NOON)
        ledger.delivery_postponed(second.delivery_id, status="0xA700", not_before=after(60), now=NOON)
        assert due(ledger) == [ONE]

    def test_what_was_asked_about_is_not_asked_about_again_before_it_is_overdue(
        self, ledger: Ledger, study_id: int
    ) -> None:
        ask(ledger)
        assert due(ledger, at_s=599) == []
        assert ledger.proofs.end_overdue("pacs", patience=PATIENCE, now=after(599)) == 0

    def test_what_is_overdue_is_asked_about_again_with_growing_waits(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        assert ledger.proofs.end_overdue("pacs", patience=PATIENCE, now=after(600)) == 1
        assert (due(ledger, at_s=609), due(ledger, at_s=610)) == ([], [ONE, TWO])
        ask(ledger, "2.25.78", at_s=610)
        ledger.proofs.end_overdue("pacs", patience=PATIENCE, now=after(1210))
        assert (due(ledger, at_s=1229), due(ledger, at_s=1230)) == ([], [ONE, TWO])
        overdue = CommitmentState.OVERDUE
        assert ledger.proofs.requests("pacs") == (("2.25.77", overdue), ("2.25.78", overdue))

    def test_the_waits_grow_no_longer_than_the_longest(self) -> None:
        assert PATIENCE.again_after(NOON)(50) == after(1000)

    def test_a_request_that_a_kill_interrupted_is_made_again_at_once(self, ledger: Ledger, study_id: int) -> None:
        numbers = [item.delivery_id for item in ledger.proofs.due("pacs", NOON, limit=10)]
        ledger.proofs.asking("2.25.77", archive="pacs", delivery_ids=numbers, overdue_at=after(600), now=NOON)
        assert ledger.proofs.end_interrupted("pacs", now=after(1)) == 1
        assert due(ledger, at_s=1) == [ONE, TWO]
        assert ledger.proofs.due("pacs", after(1), limit=1)[0].proof_attempts == 0

    def test_a_request_that_the_archive_has_taken_was_not_interrupted(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        assert ledger.proofs.end_interrupted("pacs", now=after(1)) == 0

    def test_a_refused_request_is_made_again_later(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        ledger.proofs.refused("2.25.77", why="0x0110 processing failure", patience=PATIENCE, now=after(1))
        assert (due(ledger, at_s=10), due(ledger, at_s=11)) == ([], [ONE, TWO])
        assert ledger.proofs.due("pacs", after(11), limit=1)[0].proof_attempts == 1

    def test_an_archive_that_cannot_be_asked_has_nothing_held_against_it(self, ledger: Ledger, study_id: int) -> None:
        ledger.proofs.postpone("pacs", why="cannot connect", until=after(60), now=NOON)
        assert (due(ledger, at_s=59), due(ledger, at_s=60)) == ([], [ONE, TWO])
        assert ledger.proofs.due("pacs", after(60), limit=1)[0].proof_attempts == 0

    def test_the_same_complaint_again_and_again_is_one_line_of_history(self, ledger: Ledger, study_id: int) -> None:
        for minute in range(5):
            ledger.proofs.postpone("pacs", why="cannot connect", until=after(60 * minute), now=after(60 * minute))
        number = ledger.proofs.due("pacs", after(900), limit=1)[0].delivery_id
        assert [event.status for event in ledger.delivery_events(number)][-2:] == ["0x0000 success", "cannot connect"]


class TestReports:
    def test_what_is_committed_is_proven_and_with_the_last_the_study(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        assert file(ledger, report((ONE, TWO)), at_s=7) is Filed.ANSWER
        assert states(ledger) == {DeliveryState.PROVEN: 2}
        assert ledger.study(study_id).proven_at == after(7)
        assert ledger.history(study_id)[-1].reason == "every archive has proved that it holds it"
        assert ledger.study(study_id).state is StudyState.DELIVERED

    def test_a_study_is_proven_only_when_every_archive_has_proved_it(self, ledger: Ledger) -> None:
        study_id = graded_study(ledger, {"pacs": (ONE,), "vna": (TWO,)})
        deliver(ledger)
        ask(ledger)
        file(ledger, report((ONE,)))
        assert ledger.study(study_id).proven_at is None

    def test_what_is_not_held_is_sent_again_and_its_study_waits_for_it(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        file(ledger, report((ONE,), {TWO: 0x0112}), at_s=5)
        assert [item.sop_instance_uid for item in ledger.due_deliveries(after(5), limit=10)] == [TWO]
        assert states(ledger) == {DeliveryState.PROVEN: 1, DeliveryState.DUE: 1}
        assert ledger.study(study_id).state is StudyState.GRADED
        assert ledger.study(study_id).reason == "pacs does not hold every result after all"
        deliver(ledger, at_s=6)
        assert ledger.study(study_id).state is StudyState.DELIVERED
        assert due(ledger, at_s=6) == [TWO]

    def test_what_is_never_held_is_a_dead_letter_with_the_reason(self, ledger: Ledger, study_id: int) -> None:
        for attempt in range(3):
            uid, at_s = f"2.25.7{attempt}", 10.0 * attempt
            ask(ledger, uid, at_s=at_s)
            file(ledger, report((ONE,), {TWO: 0x0112}, uid), at_s=at_s + 1)
            deliver(ledger, at_s=at_s + 2)
        (dead,) = ledger.dead_letters.listed(limit=10)
        assert dead.sop_instance_uid == TWO
        assert dead.last_status == "the archive does not hold it: 0x0112 no such object (3 times)"
        assert ledger.study(study_id).state is StudyState.GRADED

    @pytest.mark.parametrize("reason", [0x0213, 0x0131])
    def test_a_reason_that_is_not_the_objects_has_it_asked_about_again(
        self, ledger: Ledger, study_id: int, reason: int
    ) -> None:
        ask(ledger)
        file(ledger, report((ONE,), {TWO: reason}), at_s=5)
        assert states(ledger) == {DeliveryState.PROVEN: 1, DeliveryState.DELIVERED: 1}
        assert (due(ledger, at_s=14), due(ledger, at_s=15)) == ([], [TWO])

    def test_what_a_report_does_not_name_is_asked_about_again(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        file(ledger, report((ONE,)), at_s=5)
        assert states(ledger) == {DeliveryState.PROVEN: 1, DeliveryState.DELIVERED: 1}
        assert due(ledger, at_s=15) == [TWO]

    def test_what_it_was_not_asked_about_does_not_matter(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        assert file(ledger, report((ONE, TWO, "1.9.9"), {"1.9.8": 0x0112})) is Filed.ANSWER
        assert states(ledger) == {DeliveryState.PROVEN: 2}

    def test_a_report_for_an_unknown_transaction_changes_nothing(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        assert file(ledger, report((ONE, TWO), uid="2.25.666")) is Filed.UNKNOWN
        assert states(ledger) == {DeliveryState.DELIVERED: 2}

    def test_the_first_report_about_a_transaction_counts(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        file(ledger, report((ONE, TWO)))
        assert file(ledger, report((), {ONE: 0x0112, TWO: 0x0112})) is Filed.AGAIN
        assert states(ledger) == {DeliveryState.PROVEN: 2}

    def test_a_late_report_proves_what_it_found(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        ledger.proofs.end_overdue("pacs", patience=PATIENCE, now=after(600))
        assert file(ledger, report((ONE, TWO)), at_s=700) is Filed.LATE
        assert states(ledger) == {DeliveryState.PROVEN: 2}

    def test_a_late_failure_does_not_send_again_what_is_asked_about_anew(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        ledger.proofs.end_overdue("pacs", patience=PATIENCE, now=after(600))
        ask(ledger, "2.25.78", at_s=610)
        assert file(ledger, report((), {ONE: 0x0112, TWO: 0x0112}), at_s=700) is Filed.LATE
        assert states(ledger) == {DeliveryState.DELIVERED: 2}

    def test_the_answer_to_the_older_of_two_requests_does_not_end_the_newer(
        self, ledger: Ledger, study_id: int
    ) -> None:
        ask(ledger)
        ledger.proofs.end_overdue("pacs", patience=PATIENCE, now=after(600))
        ask(ledger, "2.25.78", at_s=610)
        file(ledger, report((ONE, TWO)), at_s=700)
        assert ledger.proofs.unanswered(["2.25.77", "2.25.78"]) == 1
        assert file(ledger, report((ONE, TWO), uid="2.25.78"), at_s=701) is Filed.ANSWER

    def test_what_is_about_to_be_sent_again_may_be_proven_after_all(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        ledger.proofs.end_overdue("pacs", patience=PATIENCE, now=after(600))
        ask(ledger, "2.25.78", at_s=610)
        file(ledger, report((ONE,), {TWO: 0x0112}, "2.25.78"), at_s=620)
        file(ledger, report((ONE, TWO)), at_s=630)
        assert states(ledger) == {DeliveryState.PROVEN: 2}
        assert ledger.study(study_id).state is StudyState.DELIVERED
        assert ledger.study(study_id).proven_at == after(630)

    def test_what_is_proven_stays_so_whatever_is_said_later(self, ledger: Ledger, study_id: int) -> None:
        ask(ledger)
        numbers = [item.delivery_id for item in ledger.proofs.due("pacs", after(600), limit=10)]
        file(ledger, report((ONE, TWO)))
        for number in numbers:
            ledger.delivery_postponed(number, status="0xA700", not_before=after(9), now=after(8))
            ledger.delivery_dead(number, status="0xC000", now=after(8))
        assert ledger.retry_study("1.2.3", now=after(9)) == 0
        assert states(ledger) == {DeliveryState.PROVEN: 2}


class TestWithDeadLetters:
    def test_a_study_is_proven_when_the_operator_takes_off_what_was_not(self, ledger: Ledger) -> None:
        study_id = graded_study(ledger)
        first, second = ledger.due_deliveries(NOON, limit=10)
        ledger.delivery_dead(first.delivery_id, status="0xC000", now=NOON)
        ledger.delivery_delivered(second.delivery_id, status="0x0000", now=NOON)
        ledger.proofs.found([second.delivery_id], how="C-FIND", now=after(1))
        assert ledger.study(study_id).proven_at is None
        ledger.dead_letters.discard([first.delivery_id], why="not needed", now=after(2))
        assert ledger.study(study_id).proven_at == after(2)
        assert ledger.study(study_id).state is StudyState.DELIVERED


class TestQueries:
    def test_what_is_found_is_proven(self, ledger: Ledger, study_id: int) -> None:
        numbers = [item.delivery_id for item in ledger.proofs.due("pacs", NOON, limit=10)]
        ledger.proofs.found(numbers, how="C-FIND", now=after(3))
        assert states(ledger) == {DeliveryState.PROVEN: 2}
        assert ledger.delivery_events(numbers[0])[-1].status == "proven: C-FIND finds it"
        assert ledger.study(study_id).proven_at == after(3)

    def test_what_is_not_found_is_looked_for_again_for_a_while_and_then_sent_again(
        self, ledger: Ledger, study_id: int
    ) -> None:
        at_s = 0.0
        for wait_s in (5, 30, 180, 1080):
            look(ledger, at_s)
            assert (due(ledger, at_s + wait_s - 1), due(ledger, at_s + wait_s)) == ([], [ONE, TWO])
            at_s += wait_s
        assert states(ledger) == {DeliveryState.DELIVERED: 2}
        look(ledger, at_s)
        assert states(ledger) == {DeliveryState.DUE: 2}
        assert ledger.study(study_id).state is StudyState.GRADED


def look(ledger: Ledger, at_s: float) -> None:
    numbers = [item.delivery_id for item in ledger.proofs.due("pacs", after(at_s), limit=10)]
    ledger.proofs.not_found(numbers, how="C-FIND", most_sent_again=2, now=after(at_s))
