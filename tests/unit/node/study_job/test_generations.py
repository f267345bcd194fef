"""A study that comes again, or is tried again: what its new results name, replace and withdraw."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime, timedelta

import pydicom
from pydicom.uid import BasicTextSRStorage

from node.ledger import Ledger
from node.records import StudyState
from node.settings import Settings
from node.spool import Spool
from tests.report_factories import STUDY_UID, GradedStudy
from tests.unit.node.study_job.bench import CLOSED, Bench, declined


def test_a_retry_by_the_operator_makes_objects_of_its_own(ledger: Ledger, spool: Spool, study: GradedStudy) -> None:
    """What was said in the first round may be in the archive already: other words need another UID."""
    bench = Bench(ledger, spool, declined)
    study_id = bench.receive(study.source[:1])
    bench.work(study_id)
    ledger.retry_study(STUDY_UID, now=bench.clock)
    bench.work(study_id)
    told = ledger.due_deliveries(bench.clock, limit=100)
    assert len({item.sop_instance_uid for item in told}) == 2


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
