"""The tick of proof against archives that behave and that do not; the clock is set by hand."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom.sop_class import StorageCommitmentPushModel

from node.ledger import Ledger, open_ledger
from node.proofs import CommitmentState
from node.records import DeliveryState, StudyState
from tests import committing_archive as archives
from tests.committing_archive import QUERIES, Archive
from tests.scripted_archive import closed_port
from tests.unit.node.verification_bench import NOON, TEXT_SR, Bench

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")


COMMITMENT_AND_QUERIES = (StorageCommitmentPushModel, QUERIES)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/node.db")
    yield opened
    opened.close()
    gc.collect()


class TestCommitment:
    def test_a_report_on_the_same_association_proves(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(archives.report_on_same_association()) as archive:
            bench = Bench(tmp_path, ledger, archive, report_wait_s=10)
            study_id = bench.deliver_study()
            bench.look()
        assert bench.counts == {DeliveryState.PROVEN: 2}
        assert archive.answers == [0x0000]
        assert ledger.study(study_id).proven_at == NOON

    def test_one_request_names_the_results_of_all_studies_and_the_next_has_another_uid(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        with archives.running(archives.report_on_same_association()) as archive:
            bench = Bench(tmp_path, ledger, archive, report_wait_s=10)
            for number in (1, 2):
                bench.deliver_study(number)
            bench.look()
            bench.deliver_study(3)
            bench.look()
        assert [len(request.references) for request in archive.requests] == [4, 2]
        assert len({request.transaction_uid for request in archive.requests}) == 2
        assert archive.requests[0].references[0] == (TEXT_SR, "2.25.1.1001")

    def test_an_archive_that_never_answers_is_asked_again_and_again_with_new_uids(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        with archives.running(archives.silent) as archive:
            bench = Bench(tmp_path, ledger, archive, report_wait_s=0)
            bench.deliver_study()
            for wait_s in (0, 599, 1, 10, 600, 20, 600, 40):  # asked, overdue, again after 10 s, 20 s, 40 s
                bench.look(wait_s)
        assert len(archive.requests) == 4
        assert len({request.transaction_uid for request in archive.requests}) == 4
        assert bench.counts == {DeliveryState.DELIVERED: 2}
        assert bench.said() == "not proven yet: no report about the storage commitment came in time"

    def test_reports_that_never_come_are_made_up_for_by_a_query(self, tmp_path: Path, ledger: Ledger) -> None:
        """Often the archive cannot reach the node: nobody told it where it is."""
        with archives.running(archives.silent, services=COMMITMENT_AND_QUERIES) as archive:
            bench = Bench(tmp_path, ledger, archive, report_wait_s=0)
            bench.deliver_study()
            for wait_s in (0, 600, 10, 600):
                bench.look(wait_s)
            assert (len(archive.requests), archive.queries) == (2, 0)
            bench.look(20)
        assert bench.counts == {DeliveryState.PROVEN: 2}

    def test_a_report_that_comes_twice_is_answered_twice(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(archives.report_on_same_association(times=2)) as archive:
            bench = Bench(tmp_path, ledger, archive)
            bench.deliver_study()
            bench.look()
            archive.wait_for_answers(2)
        assert archive.answers[0] == 0x0000
        assert bench.counts == {DeliveryState.PROVEN: 2}

    def test_a_report_about_another_transaction_is_a_failure_and_proves_nothing(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        def wrong(archive: Archive, request: archives.Request) -> Dataset:
            made = archives.committed(archive, request)
            made.TransactionUID = "2.25.666"
            return made

        with archives.running(archives.report_on_same_association(wrong)) as archive:
            bench = Bench(tmp_path, ledger, archive)
            bench.deliver_study()
            bench.look()
        assert archive.answers == [0x0110]
        assert bench.counts == {DeliveryState.DELIVERED: 2}
        assert bench.requests == [CommitmentState.REQUESTED]

    def test_what_it_does_not_hold_is_sent_again_and_then_committed(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(archives.report_on_same_association()) as archive:
            archive.loses.add("2.25.1.1002")
            bench = Bench(tmp_path, ledger, archive, report_wait_s=10)
            study_id = bench.deliver_study()
            bench.look()
            assert bench.counts == {DeliveryState.PROVEN: 1, DeliveryState.DUE: 1}
            assert ledger.study(study_id).state is StudyState.GRADED
            archive.loses.clear()
            assert bench.deliver() == ["2.25.1.1002"]
            bench.look()
        assert [request.uids for request in archive.requests] == [["2.25.1.1001", "2.25.1.1002"], ["2.25.1.1002"]]
        assert bench.counts == {DeliveryState.PROVEN: 2}
        assert ledger.study(study_id).state is StudyState.DELIVERED

    def test_what_it_never_holds_becomes_a_dead_letter(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(archives.report_on_same_association()) as archive:
            archive.loses.add("2.25.1.1002")
            bench = Bench(tmp_path, ledger, archive, report_wait_s=10)
            bench.deliver_study()
            for _ in range(3):
                bench.look()
                bench.deliver()
        (dead,) = ledger.dead_letters.listed(limit=9)
        assert (dead.sop_instance_uid, dead.last_status) == (
            "2.25.1.1002",
            "the archive does not hold it: 0x0112 no such object (2 times)",
        )

    def test_an_error_in_answer_to_the_request_is_no_end(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(action_status=0x0213) as archive:
            bench = Bench(tmp_path, ledger, archive)
            bench.deliver_study()
            bench.look()
            bench.look(9)
            bench.look(1)
        assert len(archive.requests) == 2
        assert bench.requests == [CommitmentState.REFUSED] * 2
        told = "not proven yet: it answered the request for storage commitment with 0x0213 resource limitation"
        assert bench.said() == told

    def test_an_archive_that_hangs_up_in_the_middle_is_asked_again(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(archives.report_on_same_association(), aborts_at_request=True) as archive:
            bench = Bench(tmp_path, ledger, archive, report_wait_s=10)
            bench.deliver_study()
            bench.look()
            assert bench.requests == [CommitmentState.REFUSED]
            archive.aborts_at_request = False
            bench.look(10)
        assert bench.counts == {DeliveryState.PROVEN: 2}

    def test_a_study_that_spoils_the_request_of_all_is_asked_about_by_itself(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        with archives.running(action_status=0x0110) as archive:
            bench = Bench(tmp_path, ledger, archive)
            for number in (1, 2):
                bench.deliver_study(number)
            bench.look()
            bench.look(10)
        assert [len(request.references) for request in archive.requests] == [4, 2, 2]

    def test_a_request_that_a_kill_interrupted_is_made_again_at_the_start(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(archives.report_on_same_association()) as archive:
            bench = Bench(tmp_path, ledger, archive, report_wait_s=10)
            bench.deliver_study()
            numbers = [item.delivery_id for item in ledger.proofs.due("pacs", NOON, limit=9)]
            ledger.proofs.asking(
                "2.25.5", archive="pacs", delivery_ids=numbers, overdue_at=NOON + timedelta(hours=1), now=NOON
            )
            bench.look()
        assert bench.counts == {DeliveryState.PROVEN: 2}
        # both were made at noon: which of their random UIDs comes first is chance
        assert sorted(bench.requests) == [CommitmentState.ANSWERED, CommitmentState.OVERDUE]


class TestQueries:
    def test_an_archive_without_commitment_is_queried(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(services=(QUERIES,)) as archive:
            bench = Bench(tmp_path, ledger, archive)
            bench.deliver_study()
            bench.look()
        assert bench.counts == {DeliveryState.PROVEN: 2}
        assert archive.requests == []

    def test_query_wanted_is_query_done(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(services=COMMITMENT_AND_QUERIES) as archive:
            bench = Bench(tmp_path, ledger, archive, proof="query")
            bench.deliver_study()
            bench.look()
        assert (len(archive.requests), archive.queries) == (0, 1)
        assert bench.counts == {DeliveryState.PROVEN: 2}

    def test_what_is_not_there_is_looked_for_by_itself_and_again_later(self, tmp_path: Path, ledger: Ledger) -> None:
        with archives.running(services=(QUERIES,)) as archive:
            archive.loses.add("2.25.1.1001")
            bench = Bench(tmp_path, ledger, archive)
            bench.deliver_study()
            bench.look()
            assert bench.counts == {DeliveryState.PROVEN: 1, DeliveryState.DELIVERED: 1}
            assert archive.queries == 2
            for wait_s in (5, 30, 180):
                bench.look(wait_s)
            assert bench.counts == {DeliveryState.PROVEN: 1, DeliveryState.DELIVERED: 1}
            bench.look(1080)
        assert bench.counts == {DeliveryState.PROVEN: 1, DeliveryState.DUE: 1}

    @pytest.mark.parametrize(
        ("proof", "told"),
        [
            ("auto", "not proven yet: it offers neither storage commitment nor queries"),
            ("commitment", "not proven yet: it offers no storage commitment"),
            ("query", "not proven yet: it offers no queries"),
        ],
    )
    def test_an_archive_that_offers_nothing_is_asked_again_in_an_hour(
        self, tmp_path: Path, ledger: Ledger, proof: str, told: str
    ) -> None:
        with archives.running(services=()) as archive:
            bench = Bench(tmp_path, ledger, archive, proof=proof)
            bench.deliver_study()
            bench.look()
        assert bench.said() == told
        assert bench.counts == {DeliveryState.DELIVERED: 2}
        assert not ledger.proofs.due("pacs", NOON + timedelta(seconds=3599), limit=1)

    def test_an_archive_that_is_away_is_asked_again_in_a_minute(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, closed_port())
        bench.deliver_study()
        bench.look()
        assert bench.said().startswith("not proven yet: cannot connect to 127.0.0.1:")
        assert not ledger.proofs.due("pacs", NOON + timedelta(seconds=59), limit=1)
        assert len(ledger.proofs.due("pacs", NOON + timedelta(seconds=60), limit=9)) == 2
