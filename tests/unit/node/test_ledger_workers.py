"""Heartbeats and the lease, by the database's clock: who is alive, who is dead, and who looks after the queue."""

from __future__ import annotations

import threading
import time

from node.ledger import Ledger, open_ledger
from node.ledger_workers import Standing

DEAD_AFTER_S = 0.4


def beat(ledger: Ledger, worker: str, dead_after_s: float = DEAD_AFTER_S) -> Standing | None:
    return ledger.workers.beat(worker, dead_after_s=dead_after_s)


def test_the_first_to_beat_leads_and_the_others_follow(ledger: Ledger) -> None:
    ledger.workers.begin("a:1", forebears="a:")
    ledger.workers.begin("b:1", forebears="b:")
    assert beat(ledger, "b:1") == Standing(leads=True, live=frozenset({"a:1", "b:1"}))
    assert beat(ledger, "a:1") == Standing(leads=False, live=frozenset({"a:1", "b:1"}))
    assert beat(ledger, "b:1") == Standing(leads=True, live=frozenset({"a:1", "b:1"}))


def test_who_has_not_beaten_for_long_is_dead_and_stays_dead(ledger: Ledger) -> None:
    for worker in ("a", "b"):
        ledger.workers.begin(f"{worker}:1", forebears=f"{worker}:")
        beat(ledger, f"{worker}:1")
    time.sleep(DEAD_AFTER_S + 0.1)
    assert beat(ledger, "b:1") == Standing(leads=True, live=frozenset({"b:1"}))
    assert beat(ledger, "a:1") is None
    assert beat(ledger, "a:1") is None


def test_only_the_one_that_leads_declares_others_dead(ledger: Ledger) -> None:
    ledger.workers.begin("silent:1", forebears="silent:")
    ledger.workers.begin("a:1", forebears="a:")
    ledger.workers.begin("b:1", forebears="b:")
    assert beat(ledger, "a:1", dead_after_s=60) == Standing(leads=True, live=frozenset({"silent:1", "a:1", "b:1"}))
    time.sleep(0.2)
    standing = beat(ledger, "b:1", dead_after_s=0.1)
    assert standing == Standing(leads=False, live=frozenset({"silent:1", "a:1", "b:1"}))


def test_the_lease_of_one_that_died_goes_to_the_next(ledger: Ledger) -> None:
    ledger.workers.begin("a:1", forebears="a:")
    ledger.workers.begin("b:1", forebears="b:")
    beat(ledger, "a:1")
    assert beat(ledger, "b:1") == Standing(leads=False, live=frozenset({"a:1", "b:1"}))
    time.sleep(DEAD_AFTER_S + 0.1)
    assert beat(ledger, "b:1") == Standing(leads=True, live=frozenset({"b:1"}))


def test_one_that_starts_again_in_the_place_of_a_dead_one_need_not_wait(ledger: Ledger) -> None:
    ledger.workers.begin("a:1", forebears="a:")
    assert beat(ledger, "a:1", dead_after_s=3600) == Standing(leads=True, live=frozenset({"a:1"}))
    ledger.workers.begin("a:2", forebears="a:")
    assert beat(ledger, "a:2", dead_after_s=3600) == Standing(leads=True, live=frozenset({"a:2"}))
    assert beat(ledger, "a:1", dead_after_s=3600) is None


def test_a_place_whose_name_begins_like_another_is_another(ledger: Ledger) -> None:
    ledger.workers.begin("place_1:1", forebears="place_1:")
    ledger.workers.begin("placeX1:1", forebears="placeX1:")
    ledger.workers.begin("place_1:2", forebears="place_1:")
    standing = beat(ledger, "place_1:2")
    assert standing is not None
    assert standing.live == {"place_1:2", "placeX1:1"}


def test_one_that_leaves_leaves_the_lease_too(ledger: Ledger) -> None:
    for worker in ("a", "b"):
        ledger.workers.begin(f"{worker}:1", forebears=f"{worker}:")
    beat(ledger, "a:1", dead_after_s=3600)
    ledger.workers.end("a:1")
    assert beat(ledger, "b:1", dead_after_s=3600) == Standing(leads=True, live=frozenset({"b:1"}))


def test_of_many_that_beat_at_once_one_leads(database_url: str) -> None:
    ledgers = [open_ledger(database_url) for _ in range(4)]
    for number, ledger in enumerate(ledgers):
        ledger.workers.begin(f"{number}:1", forebears=f"{number}:")
    leads: list[bool] = []
    start = threading.Barrier(4)

    def beat_thrice(number: int) -> None:
        start.wait()
        for _ in range(3):
            standing = beat(ledgers[number], f"{number}:1", dead_after_s=3600)
            assert standing is not None
            leads.append(standing.leads)

    threads = [threading.Thread(target=beat_thrice, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert leads.count(True) == 3
    assert len(leads) == 12
    for ledger in ledgers:
        ledger.close()


def test_a_ledger_belongs_to_the_spool_that_came_first(ledger: Ledger) -> None:
    assert ledger.workers.owns_spool("aaaa")
    assert ledger.workers.owns_spool("aaaa")
    assert not ledger.workers.owns_spool("bbbb")
