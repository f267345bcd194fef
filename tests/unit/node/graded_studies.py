"""Studies in a ledger that were graded, with results for archives: the start of many tests of what comes after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from node.ledger import Ledger
from node.records import ResultObject, StudyRecord, StudyState
from tests.unit.node.received_instances import NOON, after, image


def study_record(study_id: int, *, generation: int, state: StudyState) -> StudyRecord:
    """A generation of study 2.25.1, of which nothing but what is given matters."""
    return StudyRecord(
        study_id=study_id,
        study_instance_uid="2.25.1",
        generation=generation,
        state=state,
        reason="",
        digest="d" * 64,
        attempts=1,
        round=0,
        instance_count=15,
        first_received_at=NOON,
        last_received_at=NOON,
        closed_at=NOON,
        changed_at=NOON,
    )


def results(study: int, count: int) -> tuple[ResultObject, ...]:
    return tuple(
        ResultObject(
            sop_instance_uid=f"2.25.{study}.{number}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11",
            kind="text_report" if number == 1 else "secondary_capture",
            path=Path("results", f"{study}-{number}.dcm"),
            sha256="0" * 64,
        )
        for number in range(1, count + 1)
    )


def taken(ledger: Ledger, number: int, *, at_s: float = 0.0, images: int = 1) -> StudyRecord:
    """Study ``number``: received over one second, whole 30 s later, in a worker another second later."""
    for index in range(images):
        instance = image(number * 1000 + index, study=f"1.2.3.{number}", at=after(at_s + index / max(1, images - 1)))
        ledger.record_instance(instance)
    study = next(item for item in ledger.open_studies() if item.study_instance_uid == f"1.2.3.{number}")
    closed = ledger.close_study(
        study.study_id, last_received_at=study.last_received_at, reason="no new image for 30 s", now=after(at_s + 31)
    )
    assert closed
    grading = ledger.take_study(study.study_id, maximum_attempts=3, now=after(at_s + 32))
    assert grading is not None
    return grading


def graded(
    ledger: Ledger, number: int, archives: Sequence[str] = ("pacs",), *, count: int = 2, at_s: float = 0.0
) -> Mapping[str, Sequence[int]]:
    """The same, graded 10 s after it was taken; archive -> numbers of its deliveries."""
    study = taken(ledger, number, at_s=at_s)
    made = results(number, count)
    uids = [result.sop_instance_uid for result in made]
    ledger.finish_graded(
        study.study_id, results=made, archives=dict.fromkeys(archives, uids), reason="6 discs", now=after(at_s + 42)
    )
    due = [item for item in ledger.due_deliveries(after(at_s + 42), limit=10_000) if item.study_id == study.study_id]
    return {name: [item.delivery_id for item in due if item.archive == name] for name in archives}
