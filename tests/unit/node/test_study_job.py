"""What becomes of a study in its job: graded, declined, unchanged or failed; always written down, never stuck."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import BasicTextSRStorage

from inference.report import Declined, Report
from node import study_job
from node.ledger import Ledger, LedgerUnavailable, open_ledger
from node.records import DeliveryState, ReceivedInstance, StudyState
from node.settings import Settings
from node.spool import Spool
from node.study_job import StudyJob
from tests.report_factories import MODEL, STUDY_UID, GradedStudy, graded_study

START = datetime(2026, 3, 14, 15, 0, tzinfo=UTC)
CLOSED = START + timedelta(minutes=1)

Answer = Callable[[Sequence[pydicom.Dataset]], Report | Declined]


@pytest.fixture(scope="module")
def study() -> GradedStudy:
    return graded_study()


@pytest.fixture(autouse=True)
def _captures_only_where_they_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes a second that most of these tests do not need."""
    monkeypatch.setattr("sr_templates.secondary_capture.captures", lambda *_: ())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/node.db")
    yield opened
    opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", minimum_free_bytes=0)


def node_settings(**results: object) -> Settings:
    archive = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    return Settings.model_validate({"archives": [archive], "results": results, "inference": {"maximum_attempts": 2}})


class Bench:
    """A worker with a ledger, a spool and an answer instead of networks."""

    def __init__(self, ledger: Ledger, spool: Spool, answer: Answer, settings: Settings | None = None) -> None:
        self.ledger, self.spool, self.seen = ledger, spool, 0
        self.answer = answer
        self.clock = CLOSED
        self.left: list[int] = []
        self.job = StudyJob(
            settings or node_settings(), ledger, spool, grade=self._grade, now=self._now, leave=self._leave
        )

    def _grade(self, instances: Sequence[pydicom.Dataset]) -> Report | Declined:
        self.seen += 1
        return self.answer(instances)

    def _leave(self, status: int) -> None:
        self.left.append(status)
        raise Left

    def _now(self) -> datetime:
        self.clock += timedelta(seconds=1)
        return self.clock

    def receive(self, images: Sequence[pydicom.Dataset], at: datetime = START) -> int:
        """Take images in and close their study; returns its number."""
        for image in images:
            encoded = BytesIO()
            image.save_as(encoded, enforce_file_format=True)
            stored = self.spool.store_received([encoded.getvalue()])
            self.ledger.record_instance(
                ReceivedInstance(
                    study_instance_uid=image.StudyInstanceUID,
                    series_instance_uid=image.SeriesInstanceUID,
                    sop_instance_uid=image.SOPInstanceUID,
                    sop_class_uid=image.SOPClassUID,
                    transfer_syntax_uid="1.2.840.10008.1.2.1",
                    modality=image.Modality,
                    calling_ae_title="MODALITY",
                    path=stored.path,
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                    received_at=at,
                )
            )
        (opened,) = self.ledger.open_studies()
        assert self.ledger.close_study(opened.study_id, last_received_at=at, reason="quiet", now=CLOSED)
        return opened.study_id

    def work(self, study_id: int) -> StudyState:
        """Both steps of the job, as the engine runs them."""
        outcome = self.job.attempt(study_id)
        if outcome is not None:
            self.job.finish(study_id, outcome)
        return self.ledger.study(study_id).state


def declined(instances: Sequence[pydicom.Dataset]) -> Declined:
    return Declined(study_instance_uid=STUDY_UID, reason="no T2 sagittal series", rejected=(), model=MODEL)


def test_a_graded_study_is_spooled_and_its_deliveries_are_listed(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    assert bench.work(study_id) is StudyState.GRADED
    assert ledger.study(study_id).reason == "6 discs (T12/L1 to L5/S1) in 1.0 s, 1 remark(s) on quality"
    due = ledger.due_deliveries(bench.clock, limit=100)
    modalities = [pydicom.dcmread(spool.absolute(item.path)).Modality for item in due]
    assert modalities == ["SR", "SR"]


def test_the_grader_sees_every_image_of_the_study_with_its_pixels(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    pixels: list[int] = []

    def look(instances: Sequence[pydicom.Dataset]) -> Report:
        pixels.extend(item.pixel_array.size for item in instances)
        return study.report

    bench = Bench(ledger, spool, look)
    bench.work(bench.receive(study.source))
    assert pixels == [256 * 224] * 15


def test_only_the_outputs_of_the_settings_are_made(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    bench = Bench(ledger, spool, lambda _: study.report, node_settings(outputs=["measurement_report"]))
    bench.work(bench.receive(study.source))
    assert len(ledger.due_deliveries(bench.clock, limit=100)) == 1


def test_the_same_attempt_after_a_crash_makes_the_same_objects(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    first, again = bench.job.attempt(study_id), bench.job.attempt(study_id)
    assert first is not None
    assert again is not None
    assert again == first | {"turn": [0, 2], "steps": again["steps"]}


def test_finishing_twice_lists_the_deliveries_once(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    outcome = bench.job.attempt(study_id)
    assert outcome is not None
    bench.job.finish(study_id, outcome)
    once = ledger.due_deliveries(bench.clock, limit=100)
    bench.job.finish(study_id, outcome)
    assert ledger.due_deliveries(bench.clock, limit=100) == once


def test_a_declined_study_keeps_its_reason_and_tells_the_reader(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, declined)
    study_id = bench.receive(study.source[:1])
    assert bench.work(study_id) is StudyState.DECLINED
    assert ledger.study(study_id).reason == "no T2 sagittal series"
    (told,) = ledger.due_deliveries(bench.clock, limit=100)
    assert b"no T2 sagittal series" in spool.absolute(told.path).read_bytes()


def test_a_declined_study_is_not_told_of_where_the_settings_say_so(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, declined, node_settings(report_declined=False))
    assert bench.work(bench.receive(study.source[:1])) is StudyState.DECLINED
    assert ledger.due_deliveries(bench.clock, limit=100) == ()


def test_two_patients_under_one_study_uid_are_not_graded_and_nothing_is_filed_under_either(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    images = [deepcopy(image) for image in study.source]
    for image in images[::2]:
        image.PatientID, image.PatientName = "TEST-2", "Roe^Jane"
    study_id = bench.receive(images)
    assert bench.work(study_id) is StudyState.DECLINED
    assert ledger.study(study_id).reason == "images of more than one patient under one Study Instance UID: not graded"
    assert bench.seen == 0
    assert ledger.due_deliveries(bench.clock, limit=100) == ()


def test_a_later_object_that_is_no_mr_image_makes_nothing_new(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    bench.work(bench.receive(study.source))
    note = deepcopy(study.source[0])
    note.SOPInstanceUID = note.file_meta.MediaStorageSOPInstanceUID = "2.25.5555"
    note.Modality = "KO"
    later = bench.receive([note], at=START + timedelta(hours=1))
    assert bench.work(later) is StudyState.UNCHANGED
    assert bench.ledger.study(later).reason == "what is graded is that of an earlier generation, whose results stand"
    assert bench.seen == 1


def test_a_fault_is_tried_a_bounded_number_of_times_and_then_waits_for_the_operator(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    def fault(instances: Sequence[pydicom.Dataset]) -> Report:
        raise RuntimeError("Doe^Jane broke it")

    bench = Bench(ledger, spool, fault)
    study_id = bench.receive(study.source[:1])
    assert bench.work(study_id) is StudyState.FAILED
    assert bench.seen == 2
    reason = ledger.study(study_id).reason
    assert reason.startswith("a fault of the node: RuntimeError at tests/unit/node/test_study_job.py:")
    assert "Doe" not in reason


def test_a_fault_that_goes_away_costs_one_more_attempt(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    def first_fails(instances: Sequence[pydicom.Dataset]) -> Report:
        if bench.seen == 1:
            raise OSError
        return study.report

    bench = Bench(ledger, spool, first_fails)
    study_id = bench.receive(study.source)
    assert bench.work(study_id) is StudyState.GRADED
    assert ledger.study(study_id).attempts == 2


class Left(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_process_whose_memory_ran_out_is_left_and_the_study_fails_at_its_last_attempt(
    ledger: Ledger, spool: Spool, study: GradedStudy, error: Exception
) -> None:
    def run_out(instances: Sequence[pydicom.Dataset]) -> Report:
        raise error

    bench = Bench(ledger, spool, run_out)
    study_id = bench.receive(study.source[:1])
    for state in (StudyState.GRADING, StudyState.FAILED):
        with pytest.raises(Left):
            bench.work(study_id)
        assert ledger.study(study_id).state is state
    assert bench.left == [5, 5]
    assert ledger.study(study_id).reason.startswith(f"out of memory: {type(error).__name__} at ")


def test_a_study_that_took_its_worker_down_each_time_is_not_taken_again(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    class Killed(BaseException):
        """Stands for SIGKILL: nothing runs after it."""

    def die(instances: Sequence[pydicom.Dataset]) -> Report:
        raise Killed

    bench = Bench(ledger, spool, die)
    study_id = bench.receive(study.source[:1])
    for _ in range(2):
        with pytest.raises(Killed):
            bench.work(study_id)
    assert bench.work(study_id) is StudyState.FAILED
    assert bench.seen == 2


def test_a_result_that_comes_after_another_worker_took_the_study_is_thrown_away(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    late, timely = bench.job.attempt(study_id), bench.job.attempt(study_id)
    assert late is not None
    assert timely is not None
    bench.job.finish(study_id, late)
    assert ledger.study(study_id).state is StudyState.GRADING
    bench.job.finish(study_id, timely)
    assert ledger.study(study_id).state is StudyState.GRADED


def test_a_late_failure_does_not_undo_what_another_worker_has_graded(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    late = {"state": "failed", "reason": "a fault", "results": [], "turn": [0, 1]}
    bench.job.attempt(study_id)
    timely = bench.job.attempt(study_id)
    assert timely is not None
    bench.job.finish(study_id, late)
    bench.job.finish(study_id, timely)
    bench.job.finish(study_id, late)
    assert ledger.study(study_id).state is StudyState.GRADED


def test_an_outcome_of_the_version_before_names_no_turn_and_is_written_down(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    outcome = bench.job.attempt(study_id)
    assert outcome is not None
    del outcome["turn"]
    bench.job.finish(study_id, outcome)
    assert ledger.study(study_id).state is StudyState.GRADED


def test_an_attempt_that_the_node_interrupts_is_not_counted(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    def stop_amid(instances: Sequence[pydicom.Dataset]) -> Report:
        bench.job.give_back()
        raise Left

    bench = Bench(ledger, spool, stop_amid)
    study_id = bench.receive(study.source[:1])
    with pytest.raises(Left):
        bench.work(study_id)
    interrupted = ledger.study(study_id)
    assert (interrupted.state, interrupted.attempts) == (StudyState.QUEUED, 0)
    bench.job.give_back()  # between two attempts there is nothing to give back
    assert ledger.study(study_id) == interrupted


def test_a_ledger_that_is_away_is_waited_for_and_costs_no_attempt(
    ledger: Ledger, spool: Spool, study: GradedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    monkeypatch.setattr(study_job, "AWAY_EVERY_S", 0.01)
    for method in ("take_study", "graded_digest", "instances", "results", "finish_graded"):
        monkeypatch.setattr(ledger, method, _twice_away(getattr(ledger, method)))
    assert bench.work(study_id) is StudyState.GRADED
    assert ledger.study(study_id).attempts == 1


def _twice_away(ask: Callable[..., object]) -> Callable[..., object]:
    away = iter([True, True])

    def asked(*arguments: object, **named: object) -> object:
        if next(away, False):
            raise LedgerUnavailable("the server restarts")
        return ask(*arguments, **named)

    return asked


def test_a_study_that_has_ended_is_not_worked_on_again(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    bench.work(study_id)
    assert bench.job.attempt(study_id) is None
    assert bench.seen == 1


def test_a_lost_mr_image_declines_the_study_rather_than_grade_what_is_left(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    spool.absolute(ledger.instances(study_id)[3].path).write_bytes(b"")
    assert bench.work(study_id) is StudyState.DECLINED
    assert ledger.study(study_id).reason == "1 of the study's MR images cannot be read"
    assert bench.seen == 0


def test_a_retry_by_the_operator_makes_objects_of_its_own(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    """What was said in the first round may be in the archive already: other words need another UID."""
    bench = Bench(ledger, spool, declined)
    study_id = bench.receive(study.source[:1])
    bench.work(study_id)
    ledger.retry_study(STUDY_UID, now=bench.clock)
    bench.work(study_id)
    told = ledger.due_deliveries(bench.clock, limit=100)
    assert len({item.sop_instance_uid for item in told}) == 2


def test_a_full_disk_is_waited_for_and_costs_no_attempt(
    ledger: Ledger, spool: Spool, study: GradedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, full = Path.rename, iter([True, True])

    def refuse_twice(path: Path, target: Path) -> Path:
        if next(full, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(path, target)

    bench = Bench(ledger, spool, lambda _: study.report)
    study_id = bench.receive(study.source)
    monkeypatch.setattr(Path, "rename", refuse_twice)
    monkeypatch.setattr(study_job, "AWAY_EVERY_S", 0.01)
    assert bench.work(study_id) is StudyState.GRADED
    assert ledger.study(study_id).attempts == 1
    assert next(full, None) is None


def test_the_worker_knows_how_long_it_has_been_at_a_study(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    seen: list[timedelta] = []

    def look(instances: Sequence[pydicom.Dataset]) -> Declined:
        bench.clock += timedelta(seconds=40)
        seen.append(bench.job.working_for())
        return declined(instances)

    bench = Bench(ledger, spool, look)
    study_id = bench.receive(study.source[:1])
    assert bench.job.working_for() == timedelta(0)
    bench.work(study_id)
    assert seen == [timedelta(seconds=42)], "40, and a second for each of two looks at the clock"
    assert bench.job.working_for() == timedelta(0)


def test_nothing_is_delivered_before_it_is_sent(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    bench.work(bench.receive(study.source))
    counts = ledger.delivery_counts()["pacs"]
    assert counts[DeliveryState.DUE] == sum(counts.values()) > 0


def test_a_later_generation_names_the_documents_that_it_replaces(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    bench.work(bench.receive(study.source))
    made_before = [pydicom.dcmread(spool.absolute(item.path)) for item in ledger.due_deliveries(bench.clock, limit=9)]
    late = deepcopy(study.source[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "2.25.4711"
    second = bench.receive([late], at=CLOSED + timedelta(minutes=5))
    assert bench.work(second) is StudyState.GRADED
    for item in ledger.due_deliveries(bench.clock, limit=9):
        if item.study_id != second:
            continue
        document = pydicom.dcmread(spool.absolute(item.path))
        (earlier,) = document.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
        (reference,) = earlier.ReferencedSOPSequence
        (replaced,) = [old for old in made_before if old.SOPInstanceUID == reference.ReferencedSOPInstanceUID]
        assert replaced.SOPClassUID == document.SOPClassUID
        assert replaced.SeriesInstanceUID == earlier.SeriesInstanceUID
        assert document.SeriesDescription == f"{replaced.SeriesDescription}, result 2"
        time = replaced.ContentDate + replaced.ContentTime
        if document.SOPClassUID == BasicTextSRStorage:
            replaces = f"replaces the one of {datetime.strptime(time, '%Y%m%d%H%M%S'):%Y-%m-%d %H:%M} UTC."
            said = [str(item.value).split() for item in document.iterall() if item.keyword == "TextValue"]
            assert any(" ".join(words).endswith(replaces) for words in said)


def late_image(study: GradedStudy, uid: str) -> pydicom.Dataset:
    late = deepcopy(study.source[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = uid
    return late


def rejection_notes(ledger: Ledger, spool: Spool, bench: Bench) -> list[tuple[str, set[str]]]:
    """(archive, SOP Instance UIDs that it is asked to withdraw) of each note on its way, in the order of sending."""
    found = []
    for item in ledger.due_deliveries(bench.clock, limit=99):
        document = pydicom.dcmread(spool.absolute(item.path))
        if document.Modality == "KO":
            (evidence,) = document.CurrentRequestedProcedureEvidenceSequence
            series = evidence.ReferencedSeriesSequence
            found.append((item.archive, {r.ReferencedSOPInstanceUID for s in series for r in s.ReferencedSOPSequence}))
    return found


def test_a_later_generation_withdraws_what_each_archive_got_of_the_earlier_one(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    outputs = ["measurement_report", "text_report", "rejection_note"]
    archives = [
        {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "outputs": wanted}
        for name, wanted in (("pacs", []), ("words", ["text_report", "rejection_note"]), ("deaf", ["text_report"]))
    ]
    settings = Settings.model_validate({"archives": archives, "results": {"outputs": outputs}})
    bench = Bench(ledger, spool, lambda _: study.report, settings)
    bench.work(bench.receive(study.source))
    assert rejection_notes(ledger, spool, bench) == []
    sent: dict[str, set[str]] = {}
    for item in ledger.due_deliveries(bench.clock, limit=99):
        sent.setdefault(item.archive, set()).add(item.sop_instance_uid)
    assert {name: len(uids) for name, uids in sent.items()} == {"pacs": 2, "words": 1, "deaf": 1}

    second = bench.receive([late_image(study, "2.25.4711")], at=CLOSED + timedelta(minutes=5))
    assert bench.work(second) is StudyState.GRADED
    notes = rejection_notes(ledger, spool, bench)
    assert dict(notes) == {"pacs": sent["pacs"], "words": sent["words"]}
    assert len(notes) == 2
    of_second = [item for item in ledger.due_deliveries(bench.clock, limit=99) if item.study_id == second]
    for name in ("pacs", "words"):
        *_, last = [item for item in of_second if item.archive == name]
        assert pydicom.dcmread(spool.absolute(last.path)).Modality == "KO", "after the results that replace"

    third = bench.receive([late_image(study, "2.25.4712")], at=CLOSED + timedelta(minutes=9))
    bench.work(third)
    named = [uids for name, uids in rejection_notes(ledger, spool, bench) if name == "pacs"]
    assert len(named) == 2
    assert not named[0] & named[1], "what is withdrawn is not named again"


def test_no_note_is_made_unless_the_settings_ask_for_it(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    bench.work(bench.receive(study.source))
    bench.work(bench.receive([late_image(study, "2.25.4711")], at=CLOSED + timedelta(minutes=5)))
    assert rejection_notes(ledger, spool, bench) == []


def test_all_forms_of_the_measurement_report_are_kept_and_one_is_listed(
    ledger: Ledger, spool: Spool, study: GradedStudy
) -> None:
    bench = Bench(ledger, spool, lambda _: study.report)
    bench.work(bench.receive(study.source))
    kinds = [result.kind for _, result in ledger.results(STUDY_UID)]
    assert sorted(kinds) == ["measurement_report"] * 3 + ["text_report"]
    assert len(ledger.due_deliveries(bench.clock, limit=9)) == 2
