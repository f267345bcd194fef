"""The ledger's account of a study: every change, every step of the attempt, every delivery with its answers."""

from __future__ import annotations

from node import timeline
from node.ledger import Ledger
from node.records import DeliveryState, StudyState
from tests.unit.node.graded_studies import graded, taken
from tests.unit.node.received_instances import after


def test_a_study_is_found_by_its_number_and_by_its_uid(ledger: Ledger) -> None:
    study = taken(ledger, 1)

    assert [life.study.study_id for life in ledger.timelines.of(str(study.study_id))] == [study.study_id]
    assert [life.study.study_id for life in ledger.timelines.of("1.2.3.1")] == [study.study_id]
    assert ledger.timelines.of("1.2.3.99") == ()
    assert ledger.timelines.of("99") == ()
    assert ledger.timelines.of("99999999999999999999") == ()


def test_the_history_comes_in_order_with_the_sender(ledger: Ledger) -> None:
    taken(ledger, 1, images=3)
    (life,) = ledger.timelines.of("1.2.3.1")

    assert [entry.state for entry in life.history] == [
        StudyState.RECEIVING,
        StudyState.QUEUED,
        StudyState.GRADING,
    ]
    assert life.calling_ae_title == "MODALITY"
    assert [moment.what for moment in timeline.moments(life)] == ["received", "last image", "complete", "started"]


def test_steps_stand_with_the_attempt_that_ended_and_stay(ledger: Ledger) -> None:
    graded(ledger, 1)
    (study,) = (life.study.study_id for life in ledger.timelines.of("1.2.3.1"))
    steps = [("read", after(33)), ("graded", after(39)), ("rendered", after(41))]
    ledger.timelines.note_steps(study, steps)
    ledger.timelines.note_steps(study, [("read", after(500))])

    (life,) = ledger.timelines.of("1.2.3.1")
    assert life.history[-1].state is StudyState.GRADED
    assert list(life.history[-1].steps) == steps
    assert all(entry.steps == () for entry in life.history[:-1])


def test_steps_of_a_study_that_is_not_at_an_end_are_noted_nowhere(ledger: Ledger) -> None:
    study = taken(ledger, 1)
    ledger.timelines.note_steps(study.study_id, [("read", after(33))])

    (life,) = ledger.timelines.of("1.2.3.1")
    assert all(entry.steps == () for entry in life.history)


def test_each_delivery_comes_with_its_attempts_and_answers(ledger: Ledger) -> None:
    first, second = graded(ledger, 1)["pacs"]
    ledger.delivery_postponed(first, status="cannot connect", not_before=after(60), now=after(50))
    ledger.delivery_delivered(first, status="0x0000 success", now=after(61))
    ledger.delivery_dead(second, status="0xA900 data set does not match SOP class", now=after(62))

    (life,) = ledger.timelines.of("1.2.3.1")
    one, other = life.sendings
    assert (one.archive, one.kind, one.state, one.attempts) == ("pacs", "text_report", DeliveryState.DELIVERED, 2)
    assert one.arrived_at == after(61)
    assert [(event.state, event.status) for event in one.events][-2:] == [
        (DeliveryState.DUE, "cannot connect"),
        (DeliveryState.DELIVERED, "0x0000 success"),
    ]
    assert (other.state, other.last_status) == (DeliveryState.DEAD, "0xA900 data set does not match SOP class")
