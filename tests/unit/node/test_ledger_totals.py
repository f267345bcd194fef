"""Running totals: each thing is counted once, whenever it is looked at and however the ledger grew."""

from __future__ import annotations

import pytest

from node import ledger_totals
from node.latencies import Totals
from node.ledger import Ledger
from node.ledger_totals import RunningTotals
from node.records import DeliveryState, Recorded
from tests.unit.node.graded_studies import graded, taken
from tests.unit.node.received_instances import after


def stages(totals: Totals) -> dict[str, tuple[int, float]]:
    return {name: (sum(item.counts), round(item.sum_s, 3)) for name, item in totals.stages.items()}


def totals_at(running: RunningTotals, at_s: float) -> Totals:
    totals = running.advance(after(at_s))
    assert totals is not None
    return totals


def test_a_study_counts_in_each_stage_that_it_has_left(ledger: Ledger) -> None:
    running = RunningTotals(ledger._database)
    taken(ledger, 1, images=2)
    totals = totals_at(running, 33)

    assert totals.received == {Recorded.NEW: 2}
    assert totals.received_bytes == 2000
    assert stages(totals) == {"receiving": (1, 1.0), "closing": (1, 30.0), "waiting": (1, 1.0)}


def test_arrivals_count_by_archive_with_the_time_they_took(ledger: Ledger) -> None:
    running = RunningTotals(ledger._database)
    for delivery in graded(ledger, 1)["pacs"]:
        ledger.delivery_delivered(delivery, status="0x0000", now=after(45))
    totals = totals_at(running, 50)

    assert totals.changes["pacs", DeliveryState.DELIVERED] == 2
    assert (sum(totals.arrivals["pacs"].counts), totals.arrivals["pacs"].sum_s) == (2, 6.0)
    assert stages(totals)["delivering"] == (1, 3.0)
    assert (sum(totals.turnaround.counts), totals.turnaround.sum_s) == (1, 45.0)


def test_a_delivery_that_is_not_proven_yet_has_arrived_once(ledger: Ledger) -> None:
    first, _ = graded(ledger, 1)["pacs"]
    ledger.delivery_delivered(first, status="0x0000", now=after(45))
    ledger.proofs.postpone("pacs", why="not proven yet: no report", until=after(900), now=after(60))
    totals = totals_at(RunningTotals(ledger._database), 70)

    assert totals.changes["pacs", DeliveryState.DELIVERED] == 1
    assert sum(totals.arrivals["pacs"].counts) == 1


def test_looking_again_counts_nothing_twice_before_and_after_it_has_settled(ledger: Ledger) -> None:
    running = RunningTotals(ledger._database)
    graded(ledger, 1)
    first = totals_at(running, 43)
    again = [totals_at(running, at_s) for at_s in (43, 60, 92, 103, 1000, 1000)]
    graded(ledger, 2, at_s=1000)
    later = totals_at(running, 1100)

    assert all(totals == first for totals in again)
    assert stages(later) == {name: (2 * count, 2 * sum_s) for name, (count, sum_s) in stages(first).items()}
    assert later.received == {Recorded.NEW: 2}


def test_who_starts_to_look_later_comes_to_the_same(ledger: Ledger) -> None:
    running = RunningTotals(ledger._database)
    for number in range(1, 4):
        for delivery in graded(ledger, number, at_s=100.0 * number)["pacs"]:
            ledger.delivery_delivered(delivery, status="0x0000", now=after(100 * number + 43))
        totals_at(running, 100 * number + 44)

    assert RunningTotals(ledger._database).advance(after(10_000)) == totals_at(running, 10_000)


def test_a_large_ledger_is_read_in_pages_and_says_nothing_until_it_is_read(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        graded(ledger, number, at_s=10.0 * number)
    whole = RunningTotals(ledger._database).advance(after(10_000))
    monkeypatch.setattr(ledger_totals, "PAGE", 2)
    monkeypatch.setattr(ledger_totals, "PAGES_AT_A_LOOK", 3)
    paged = RunningTotals(ledger._database)
    looks = [paged.advance(after(10_000)) for _ in range(40)]

    assert looks[0] is None
    assert looks[-1] == whole
    assert all(look in (None, whole) for look in looks)
