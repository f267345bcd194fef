"""Figures for the monitoring: what waits, what is oldest, whom nobody has been told of."""

from __future__ import annotations

from dataclasses import replace

from node import breaker
from node.breaker import BreakerState
from node.ledger import Ledger
from node.ledger_figures import Figures
from node.records import DeliveryState, StudyState
from tests.unit.node.graded_studies import graded, taken
from tests.unit.node.received_instances import after, image


def test_an_empty_ledger_has_no_backlog(ledger: Ledger) -> None:
    backlog = Figures(ledger._database).backlog()

    assert (backlog.queued, backlog.oldest_queued_at, backlog.oldest_receiving_at) == (0, None, None)
    assert backlog.oldest_due_at == {}
    assert list(backlog.archives) == []


def test_the_oldest_of_each_kind_is_known(ledger: Ledger) -> None:
    graded(ledger, 1, ["pacs", "other"])
    taken(ledger, 2, at_s=100)
    taken(ledger, 3, at_s=200)
    ledger.record_instance(image(9000, study="1.2.3.9", at=after(500)))
    backlog = Figures(ledger._database).backlog()

    assert backlog.queued == 2
    assert backlog.oldest_queued_at == after(131)
    assert backlog.oldest_receiving_at == after(500)
    assert backlog.oldest_due_at == {"pacs": after(42), "other": after(42)}


def test_everything_is_counted_and_counted_again_when_something_has_changed(ledger: Ledger) -> None:
    figures = Figures(ledger._database)
    before = figures.counts()
    delivery, _ = graded(ledger, 1)["pacs"]
    figures._count_again = 0.0  # counting takes no time here
    after_grading = figures.counts()
    ledger.delivery_delivered(delivery, status="0x0000", now=after(50))
    figures._count_again = 0.0
    after_delivery = figures.counts()

    assert before.studies[StudyState.GRADED] == 0
    assert after_grading.studies[StudyState.GRADED] == 1
    assert after_grading.deliveries == {"pacs": {DeliveryState.DUE: 2}}
    assert after_delivery.deliveries == {"pacs": {DeliveryState.DUE: 1, DeliveryState.DELIVERED: 1}}


def test_counting_a_large_ledger_waits_a_hundred_times_as_long_as_it_takes(ledger: Ledger) -> None:
    figures = Figures(ledger._database)
    counts = figures.counts()
    figures._count_again = float("inf")
    taken(ledger, 1)

    assert figures.counts() is counts
    figures._count_again = 0.0
    assert figures.counts().studies[StudyState.GRADING] == 1


def test_since_when_an_archive_is_down_outlives_whoever_watches(ledger: Ledger) -> None:
    """A breaker that lets something through now and then comes into its state anew each time."""
    seen = []
    for state, since_s, down_since in (
        (BreakerState.OPEN, 10, after(10)),
        (BreakerState.HALF_OPEN, 20, after(10)),
        (BreakerState.CLOSED, 40, None),
    ):
        health = replace(breaker.unknown(after(since_s)), state=state, down_since=down_since)
        ledger.archives.write_health("pacs", health, now=after(since_s))
        assert ledger.archives.health("pacs", now=after(99)) == health
        seen += [archive.down_since for archive in Figures(ledger._database).backlog().archives]

    assert seen == [after(10), after(10), None]
    assert breaker.BreakerState.CLOSED.value == "closed"


def test_dead_letters_are_gathered_by_archive_without_those_the_operator_made(ledger: Ledger) -> None:
    figures = Figures(ledger._database)
    one, other = graded(ledger, 1)["pacs"]
    given_up, _ = graded(ledger, 2)["pacs"]
    assert figures.dead_letters() == {}

    ledger.delivery_dead(one, status="0xA900 no match", now=after(50))
    ledger.delivery_dead(given_up, status="given up by the operator", now=after(51))
    first = figures.dead_letters()["pacs"]
    ledger.delivery_dead(other, status="0xC000 cannot understand", now=after(52))
    second = figures.dead_letters()["pacs"]

    assert (first.studies, first.count, first.why) == ((1,), 1, "0xA900 no match")
    assert (second.studies, second.count, second.why) == ((1,), 2, "0xC000 cannot understand")
    assert second.newest > first.newest


def test_failed_studies_are_gathered(ledger: Ledger) -> None:
    figures = Figures(ledger._database)
    assert figures.failed_studies() is None

    for number in (1, 2):
        study = taken(ledger, number)
        ledger.finish_failed(study.study_id, reason=f"fault {number}", now=after(60 + number))
    failed = figures.failed_studies()

    assert failed is not None
    assert (failed.studies, failed.count, failed.why) == ((1, 2), 2, "fault 2")
