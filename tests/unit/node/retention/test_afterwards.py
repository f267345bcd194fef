"""A purge that is interrupted, and what a node knows of a study whose files are gone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from node.records import DeliveryState, Recorded
from node.spool import Spool
from tests.unit.node.received_instances import NOON
from tests.unit.node.retention.bench import STUDY, Bench, claims


class TestInterrupted:
    """A kill at every step: nothing is claimed that is not there, and what is left over goes at the next start."""

    @pytest.mark.parametrize("day", [30, 90])
    @pytest.mark.parametrize("at", ["before the files go", "when one file is gone", "before the ledger knows"])
    def test_a_purge_is_finished_at_the_next_start(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, at: str, day: float
    ) -> None:
        class Killed(BaseException):
            pass

        def die(*_: object) -> None:
            raise Killed

        bench.proven_study()
        bench.look_on_day(day - 1)
        with monkeypatch.context() as patched:
            if at == "before the files go":
                patched.setattr(Spool, "remove_all", die)
            elif at == "when one file is gone":
                patched.setattr(Spool, "remove_all", lambda spool, paths: (spool.remove(paths[0]), die()))
            else:
                patched.setattr(bench.ledger.retention, "removed", die)
            with pytest.raises(Killed):
                bench.look_on_day(day)
        unpurged = set(claims(bench.ledger)) - set(map(str, bench.ledger.retention.left_over(limit=99)))
        assert all(bench.spool.absolute(Path(path)).exists() for path in unpurged)
        bench.keeper = bench.new_keeper()
        bench.look_on_day(day)
        bench.assert_rows_and_files_agree()
        assert bench.images == 0

    def test_a_file_that_cannot_be_deleted_is_tried_again(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        bench.proven_study()
        with monkeypatch.context() as patched:
            patched.setattr(Spool, "remove_all", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
            bench.look_on_day(30)
        assert bench.images == 2
        bench.look_on_day(30.1)
        assert bench.images == 0
        bench.assert_rows_and_files_agree()

    def test_an_image_that_comes_between_look_and_purge_saves_the_study(self, bench: Bench) -> None:
        bench.proven_study()
        bench.day = 31
        before = bench.now - timedelta(days=30)
        assert bench.ledger.retention.with_images(before, trusted=(), limit=9) == (STUDY,)
        bench.receive(3)
        assert bench.ledger.retention.purge_images(STUDY, before, trusted=(), now=bench.now) == ()
        assert bench.images == 3


class TestAfterwards:
    def test_how_many_images_are_gone_is_known(self, bench: Bench) -> None:
        bench.proven_study()
        assert bench.ledger.retention.purged_images(STUDY) == (0, None)
        bench.look_on_day(30)
        assert bench.ledger.retention.purged_images(STUDY) == (2, bench.now)

    def test_the_same_images_again_are_kept_again_and_need_no_new_grading(self, bench: Bench) -> None:
        study_id = bench.proven_study()
        bench.look_on_day(30)
        assert bench.receive(1, 2) == [Recorded.NEW, Recorded.NEW]
        number = bench.take()
        assert bench.ledger.study(number).digest == bench.ledger.study(study_id).digest
        assert bench.ledger.retention.purged_images(STUDY) == (0, None)
        bench.ledger.finish_unchanged(number, reason="the same", now=bench.now)
        bench.assert_rows_and_files_agree()
        bench.look_on_day(59.9)
        assert bench.images == 2
        bench.look_on_day(60)
        assert bench.images == 0

    def test_the_same_image_twice_after_a_purge_is_one(self, bench: Bench) -> None:
        bench.proven_study()
        bench.look_on_day(30)
        assert bench.receive(1, 1) == [Recorded.NEW, Recorded.SAME_AGAIN]
        bench.assert_rows_and_files_agree()

    def test_corrected_images_take_the_place_of_those_that_are_gone(self, bench: Bench) -> None:
        """Archives send back what they have: often with another transfer syntax, or a corrected header."""
        bench.proven_study()
        bench.look_on_day(30)
        assert bench.receive(1, 2, content="corrected") == [Recorded.NEW, Recorded.NEW]
        number = bench.take()
        assert len(bench.ledger.instances(number)) == 2
        assert bench.ledger.retention.purged_images(STUDY) == (0, None)
        bench.assert_rows_and_files_agree()

    def test_a_late_image_alone_leaves_the_others_missed(self, bench: Bench) -> None:
        bench.proven_study()
        bench.look_on_day(30)
        bench.receive(3)
        number = bench.take()
        assert len(bench.ledger.instances(number)) == 3
        assert bench.ledger.retention.purged_images(STUDY)[0] == 2

    def test_what_an_archive_is_asked_about_does_not_count_what_is_gone(self, bench: Bench) -> None:
        bench.proven_study()
        bench.look_on_day(30)
        bench.receive(3)
        (count,) = bench.ledger.series_counts(STUDY)
        assert count.instance_count == 1

    def test_a_result_that_is_made_again_has_its_file_again(self, bench: Bench) -> None:
        bench.receive(1)
        told = bench.result("declined")
        wanted = {"pacs": [told.sop_instance_uid]}
        bench.ledger.finish_declined(bench.take(), reason="no T2", results=[told], archives=wanted, now=NOON)
        bench.deliver()
        bench.prove()
        bench.look_on_day(90)
        assert (bench.images, bench.results) == (0, 0)
        bench.receive(1)
        again = bench.result("declined")
        bench.ledger.finish_declined(bench.take(), reason="no T2", results=[again], archives=wanted, now=bench.now)
        bench.assert_rows_and_files_agree()
        assert bench.ledger.delivery_counts()["pacs"] == {DeliveryState.PROVEN: 1}

    def test_requests_that_nobody_answered_are_forgotten_after_a_month(self, bench: Bench) -> None:
        bench.receive(1, 2)
        bench.grade()
        bench.deliver()
        numbers = [item.delivery_id for item in bench.ledger.proofs.due("pacs", NOON, limit=9)]
        bench.ledger.proofs.asking("2.25.5", archive="pacs", delivery_ids=numbers, overdue_at=NOON, now=NOON)
        bench.ledger.proofs.end_interrupted("pacs", now=NOON)
        bench.look_on_day(29)
        assert len(bench.ledger.proofs.requests("pacs")) == 1
        bench.look_on_day(30)
        assert bench.ledger.proofs.requests("pacs") == ()
