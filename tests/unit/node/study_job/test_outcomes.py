"""What becomes of a study in its job: graded or declined, written down once, with the results that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import timedelta

import pydicom

from inference.report import Report
from node.ledger import Ledger
from node.records import StudyState
from node.spool import Spool
from tests.report_factories import GradedStudy
from tests.unit.node.study_job.bench import START, Bench, declined, node_settings


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
