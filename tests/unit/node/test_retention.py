"""What is deleted, when, in which order, and what never is; on both databases, with real files."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from node.ledger import Ledger
from node.ledger_retention import GONE
from node.records import DeliveryState, ReceivedInstance, Recorded, ResultObject, StudyState
from node.retention import Keeper
from node.settings import Settings
from node.spool import NoRoom, Spool
from tests.unit.node.received_instances import NOON

STUDY, OTHER = "1.2.3", "1.2.4"
IMAGES_DAYS, RESULTS_DAYS, ROWS_DAYS = 30, 90, 3650


class Bench:
    """A spool, a ledger and a clock in days after noon."""

    def __init__(self, folder: Path, ledger: Ledger, **retention: object) -> None:
        self.ledger = ledger
        self.spool = Spool(folder / "spool", minimum_free_bytes=0)
        self.day = 0.0
        archives = [
            {"name": "pacs", "ae_title": "A", "host": "127.0.0.1", "port": 104},
            {"name": "viewer", "ae_title": "B", "host": "127.0.0.1", "port": 105, "proof": "none"},
        ]
        self.settings = Settings.model_validate({"archives": archives, "retention": retention})
        self.keeper = self.new_keeper()

    def new_keeper(self) -> Keeper:
        """As after a start of the dispatcher."""
        return Keeper(self.settings, self.ledger, self.spool, lambda: self.now)

    @property
    def now(self) -> datetime:
        return NOON + timedelta(days=self.day)

    def look_on_day(self, day: float) -> None:
        self.day = day
        self.keeper.look()

    def receive(self, *numbers: int, study: str = STUDY, content: str = "") -> list[Recorded]:
        kept = []
        for number in numbers:
            file = self.spool.store_received([f"{study} {number} {content}".encode()])
            instance = ReceivedInstance(
                study_instance_uid=study,
                series_instance_uid=f"{study}.1",
                sop_instance_uid=f"{study}.1.{number}",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                modality="MR",
                calling_ae_title="MODALITY",
                path=file.path,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
                received_at=self.now,
            )
            kept.append(self.ledger.record_instance(instance))
            if kept[-1] is Recorded.SAME_AGAIN:
                self.spool.remove(file.path)
        return kept

    def take(self, study: str = STUDY) -> int:
        """The study that receives is closed and in the worker's hands."""
        (number,) = [item.study_id for item in self.ledger.open_studies() if item.study_instance_uid == study]
        self.ledger.close_study(number, last_received_at=self.now, reason="quiet", now=self.now)
        assert self.ledger.take_study(number, maximum_attempts=9, now=self.now) is not None
        return number

    def grade(self, study: str = STUDY, archives: tuple[str, ...] = ("pacs",)) -> int:
        number = self.take(study)
        results = [self.result(f"{number}.{kind}") for kind in ("report", "capture")]
        uids = [result.sop_instance_uid for result in results]
        self.ledger.finish_graded(
            number, results=results, archives=dict.fromkeys(archives, uids), reason="graded", now=self.now
        )
        return number

    def result(self, name: str) -> ResultObject:
        stored = self.spool.store_result(name.encode())
        uid = f"2.25.{int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)}"
        return ResultObject(
            sop_instance_uid=uid, sop_class_uid="1.2", kind="text_report", path=stored.path, sha256=stored.sha256
        )

    def deliver(self) -> None:
        for delivery in self.ledger.due_deliveries(self.now, limit=99):
            self.ledger.delivery_delivered(delivery.delivery_id, status="0x0000 success", now=self.now)

    def prove(self) -> None:
        numbers = [item.delivery_id for item in self.ledger.proofs.due("pacs", self.now, limit=99)]
        self.ledger.proofs.found(numbers, how="C-FIND", now=self.now)

    def proven_study(self, *numbers: int, study: str = STUDY) -> int:
        self.receive(*(numbers or (1, 2)), study=study)
        study_id = self.grade(study)
        self.deliver()
        self.prove()
        return study_id

    @property
    def images(self) -> int:
        """Files of them."""
        return len(list((self.spool.absolute(Path("received"))).glob("??/*.dcm")))

    @property
    def results(self) -> int:
        return len(list((self.spool.absolute(Path("results"))).glob("??/*.dcm")))

    def assert_rows_and_files_agree(self) -> None:
        """Every file that a row claims is there, and every file that is there is claimed."""
        claimed = {Path(path) for path in claims(self.ledger)}
        there = {path.relative_to(self.spool.absolute(Path())) for path in self.spool.absolute(Path()).rglob("*.dcm")}
        assert claimed == there


def claims(ledger: Ledger) -> list[str]:
    from sqlalchemy import select

    from node.ledger_schema import INSTANCE, RESULT

    def paths(connection):  # type: ignore[no-untyped-def]
        rows = [*connection.execute(select(INSTANCE.c.path)), *connection.execute(select(RESULT.c.path))]
        return [path for (path,) in rows if path != GONE]

    return ledger._database.read(paths)


@pytest.fixture
def bench(tmp_path: Path, ledger: Ledger) -> Bench:
    return Bench(tmp_path, ledger)


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
