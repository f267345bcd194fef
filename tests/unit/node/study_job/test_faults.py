"""A study in its job that fails, or whose node does: tried again a bounded number of times; never stuck or double."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest

from inference.report import Declined, Report
from node import study_job
from node.ledger import Ledger, LedgerUnavailable
from node.records import DeliveryState, StudyState
from node.spool import Spool
from tests.report_factories import GradedStudy
from tests.unit.node.study_job.bench import Bench, Left, declined


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
    assert reason.startswith("a fault of the node: RuntimeError at tests/unit/node/study_job/test_faults.py:")
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
    assert ledger.study(study_id).reason == "1 of the study's MR images cannot be read (not a DICOM file)"
    assert bench.seen == 0


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
