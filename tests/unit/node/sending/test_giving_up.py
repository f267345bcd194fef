"""Sending that does not come to an end by itself: after seven days, or when the archive left the settings."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from node.ledger import Ledger
from node.records import DeliveryState
from node.sending import end_strays
from node.settings import Settings
from tests.scripted_archive import answering, closed_port
from tests.unit.node.sending_bench import DAY_S, NOON, Bench, deliveries

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")


class TestGivingUp:
    def test_after_seven_days_out_of_reach_it_is_a_dead_letter_with_the_last_word(
        self, tmp_path: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
    ) -> None:
        port = closed_port()
        bench = Bench(tmp_path, ledger, {"pacs": port})
        bench.grade()
        bench.look()
        bench.now = NOON + timedelta(seconds=7 * DAY_S - 1)
        bench.give_up_old()
        assert bench.counts() == {DeliveryState.DUE: 2}
        bench.now = NOON + timedelta(seconds=7 * DAY_S)
        caplog.clear()
        with caplog.at_level(logging.ERROR, "node"):
            bench.give_up_old()
        assert caplog.messages == ["2 dead letters, for `spinenode dead-letters`: not delivered in time"]
        said = f"not delivered within 7 days: cannot connect to 127.0.0.1:{port}: Connection refused"
        assert {status for _, _, status in deliveries(bench).values()} == {said}
        assert bench.counts() == {DeliveryState.DEAD: 2}

    def test_an_object_refused_for_now_for_seven_days_is_tried_a_last_time_and_ends(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        with answering(lambda _: 0x0110) as archive:
            bench = Bench(tmp_path, ledger, {"pacs": archive.port})
            bench.grade(objects=1)
            bench.look(after_s=7 * DAY_S - 10)
            assert bench.counts() == {DeliveryState.DUE: 1}
            bench.look(after_s=10)
        assert deliveries(bench)["2.25.1001"] == (
            DeliveryState.DEAD,
            2,
            "not delivered within 7 days: 0x0110 processing failure",
        )

    def test_a_retry_gives_it_another_seven_days(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": closed_port()})
        bench.grade()
        bench.look()
        bench.now = NOON + timedelta(seconds=7 * DAY_S)
        bench.give_up_old()
        ledger.retry_study("2.25.1", now=bench.now)
        bench.now += timedelta(seconds=6 * DAY_S)
        bench.give_up_old()
        assert bench.counts() == {DeliveryState.DUE: 2}

    def test_deliveries_to_an_archive_that_left_the_settings_end_with_the_reason(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        bench = Bench(tmp_path, ledger, {"old": 104})
        bench.grade()
        end_strays(bench.post._replace(settings=Settings()))
        assert bench.counts("old") == {DeliveryState.DEAD: 2}

    def test_what_an_archive_took_that_left_the_settings_before_it_proved_it_says_so_once(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        bench = Bench(tmp_path, ledger, {"old": 104})
        bench.grade(objects=1)
        (taken,) = ledger.due_deliveries(NOON, limit=9)
        ledger.delivery_delivered(taken.delivery_id, status="0x0000 success", now=NOON)
        for _ in range(2):
            end_strays(bench.post._replace(settings=Settings()))
        assert bench.counts("old") == {DeliveryState.DELIVERED: 1}
        said = [(event.state, event.status) for event in ledger.delivery_events(taken.delivery_id)]
        assert said == [
            (DeliveryState.DELIVERED, "0x0000 success"),
            (DeliveryState.DELIVERED, "no archive of this name in the settings; not proven"),
        ]

    def test_deliveries_to_a_known_archive_are_no_strays(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104})
        bench.grade()
        end_strays(bench.post)
        assert bench.counts() == {DeliveryState.DUE: 2}
