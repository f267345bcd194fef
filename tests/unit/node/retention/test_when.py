"""What is deleted, when and in which order; on both databases, with real files."""

from __future__ import annotations

from node.records import StudyState
from tests.unit.node.received_instances import NOON
from tests.unit.node.retention.bench import Bench


class TestWhen:
    def test_images_go_first_then_results_then_rows(self, bench: Bench) -> None:
        study_id = bench.proven_study()
        bench.look_on_day(29.9)
        assert (bench.images, bench.results) == (2, 2)
        bench.look_on_day(30)
        assert (bench.images, bench.results) == (0, 2)
        bench.look_on_day(89.9)
        assert (bench.images, bench.results) == (0, 2)
        bench.look_on_day(90)
        assert (bench.images, bench.results) == (0, 0)
        assert bench.ledger.study(study_id).state is StudyState.DELIVERED
        bench.look_on_day(3649.9)
        assert bench.ledger.study_overview(limit=9)
        bench.look_on_day(3650)
        assert bench.ledger.study_overview(limit=9) == ()
        assert bench.ledger.delivery_counts() == {}
        bench.assert_rows_and_files_agree()

    def test_after_a_long_pause_all_goes_in_one_look(self, bench: Bench) -> None:
        bench.proven_study()
        bench.look_on_day(4000)
        assert (bench.images, bench.results) == (0, 0)
        assert bench.ledger.study_overview(limit=9) == ()

    def test_the_days_count_from_the_last_proof(self, bench: Bench) -> None:
        bench.receive(1, 2)
        bench.grade()
        bench.day = 10
        bench.deliver()
        bench.day = 20
        bench.prove()
        bench.look_on_day(49.9)
        assert bench.images == 2
        bench.look_on_day(50)
        assert bench.images == 0

    def test_a_declined_study_whose_report_is_proven_goes_too(self, bench: Bench) -> None:
        bench.receive(1)
        number = bench.take()
        told = bench.result("declined")
        bench.ledger.finish_declined(
            number, reason="no T2", results=[told], archives={"pacs": [told.sop_instance_uid]}, now=NOON
        )
        bench.deliver()
        bench.prove()
        bench.look_on_day(30)
        assert bench.images == 0
