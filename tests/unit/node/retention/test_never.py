"""What is never deleted: all that no archive has proved to hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.ledger import Ledger
from node.records import Recorded
from node.retention import Keeper
from node.spool import NoRoom, Spool
from tests.unit.node.received_instances import NOON
from tests.unit.node.retention.bench import OTHER, STUDY, Bench


class TestNever:
    def test_what_arrived_and_is_not_proven(self, bench: Bench) -> None:
        bench.receive(1, 2)
        bench.grade()
        bench.deliver()
        bench.look_on_day(9999)
        assert (bench.images, bench.results) == (2, 2)

    def test_what_one_of_two_archives_has_not_proved(self, bench: Bench) -> None:
        bench.receive(1, 2)
        bench.grade(archives=("pacs", "viewer"))
        bench.deliver()
        bench.prove()
        bench.look_on_day(9999)
        assert (bench.images, bench.results) == (2, 2)

    @pytest.mark.parametrize("end", ["due", "dead"])
    def test_what_waits_or_is_a_dead_letter(self, bench: Bench, end: str) -> None:
        bench.receive(1, 2)
        bench.grade(archives=("pacs", "viewer"))
        for delivery in bench.ledger.due_deliveries(NOON, limit=9, archives=["viewer"]):
            if end == "dead":
                bench.ledger.delivery_dead(delivery.delivery_id, status="0xC000", now=NOON)
        bench.ledger.due_deliveries(NOON, limit=9, archives=["pacs"])
        for delivery in bench.ledger.due_deliveries(NOON, limit=9, archives=["pacs"]):
            bench.ledger.delivery_delivered(delivery.delivery_id, status="0x0000", now=NOON)
        bench.prove()
        bench.look_on_day(9999)
        assert (bench.images, bench.results) == (2, 2)

    def test_what_the_operator_took_off_the_list_does_not_keep_what_is_proven(self, bench: Bench) -> None:
        bench.receive(1, 2)
        bench.grade()
        first, second = bench.ledger.due_deliveries(NOON, limit=9)
        bench.ledger.delivery_dead(first.delivery_id, status="0xC000", now=NOON)
        bench.ledger.delivery_delivered(second.delivery_id, status="0x0000", now=NOON)
        bench.prove()
        bench.look_on_day(30)
        assert bench.images == 2
        bench.ledger.dead_letters.discard([first.delivery_id], why="not needed", now=bench.now)
        bench.look_on_day(31)
        assert bench.images == 0

    def test_nothing_at_all_was_proven_because_all_was_discarded(self, bench: Bench) -> None:
        bench.receive(1, 2)
        bench.grade()
        for delivery in bench.ledger.due_deliveries(NOON, limit=9):
            bench.ledger.delivery_dead(delivery.delivery_id, status="0xC000", now=NOON)
        numbers = [item.delivery_id for item in bench.ledger.dead_letters.listed(limit=9)]
        bench.ledger.dead_letters.discard(numbers, why="not needed", now=NOON)
        bench.look_on_day(9999)
        assert bench.images == 2

    @pytest.mark.parametrize("end", ["failed", "declined", "receiving", "queued", "grading", "graded for nobody"])
    def test_what_is_at_work_or_ended_without_a_proof(self, bench: Bench, end: str) -> None:
        bench.receive(1, 2)
        if end != "receiving":
            number = bench.take()
            if end == "failed":
                bench.ledger.finish_failed(number, reason="a fault", now=NOON)
            elif end == "declined":
                bench.ledger.finish_declined(number, reason="no T2", now=NOON)
            elif end == "graded for nobody":
                bench.ledger.finish_graded(number, results=[], archives={}, reason="graded", now=NOON)
            elif end == "queued":
                bench.ledger.finish_failed(number, reason="a fault", now=NOON)
                bench.ledger.retry_study(STUDY, now=NOON)
        bench.look_on_day(9999)
        assert bench.images == 2

    def test_conflicts_are_kept_for_ever(self, bench: Bench) -> None:
        bench.receive(1, 2)
        assert bench.receive(2, content="other bytes") == [Recorded.CONFLICT]
        bench.grade()
        bench.deliver()
        bench.prove()
        for day in (30, 90, 3650):
            bench.look_on_day(day)
        assert bench.images == 1
        assert bench.ledger.received_counts()[Recorded.CONFLICT] == 1
        bench.assert_rows_and_files_agree()

    def test_a_proven_study_of_which_more_came_waits_until_that_is_proven_too(self, bench: Bench) -> None:
        bench.proven_study(1, 2)
        bench.day = 29
        bench.receive(3)
        bench.look_on_day(31)
        assert bench.images == 3
        bench.grade()
        bench.deliver()
        bench.look_on_day(62)
        assert bench.images == 3
        bench.prove()
        bench.look_on_day(92)
        assert (bench.images, bench.results) == (0, 4)

    def test_other_studies(self, bench: Bench) -> None:
        bench.proven_study(1, 2)
        bench.receive(1, study=OTHER)
        bench.look_on_day(30)
        assert bench.images == 1

    def test_anything_where_the_settings_say_so(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, keep_everything=True)
        bench.proven_study()
        bench.look_on_day(9999)
        assert (bench.images, bench.results) == (2, 2)

    def test_to_make_room(self, bench: Bench) -> None:
        """Under its watermark the node refuses what comes, and keeps what it has."""
        bench.proven_study()
        full = Spool(bench.spool.absolute(Path()), minimum_free_bytes=2**62)
        keeper = Keeper(bench.settings, bench.ledger, full, lambda: bench.now)
        bench.day = 29.9
        keeper.look()
        with pytest.raises(NoRoom):
            full.store_received([b"one more image"])
        assert (bench.images, bench.results) == (2, 2)


class TestWithoutProof:
    def test_an_archive_without_proof_keeps_its_studies_and_the_log_says_so(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.receive(1, 2)
        bench.grade(archives=("viewer",))
        bench.deliver()
        bench.look_on_day(9999)
        assert bench.images == 2
        said = [record for record in caplog.records if "are never deleted" in record.message]
        assert [record.archive for record in said] == ["viewer"]  # type: ignore[attr-defined]

    def test_the_operator_may_have_its_answer_count_as_proof(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, without_proof=True)
        bench.receive(1, 2)
        bench.grade(archives=("pacs", "viewer"))
        bench.deliver()
        bench.look_on_day(30)
        assert bench.images == 2
        bench.prove()
        bench.look_on_day(60)
        assert bench.images == 0
