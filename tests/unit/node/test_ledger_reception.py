"""Images that find their study failed, or brought by somebody else: none joins the dead, and a study is one study."""

from __future__ import annotations

from dataclasses import replace

from node.ledger import Ledger
from node.records import Recorded, StudyState
from tests.unit.node.received_instances import NOON, after, image


def test_images_after_a_study_has_failed_do_not_join_the_dead(ledger: Ledger) -> None:
    ledger.record_instance(image(1))
    (failed,) = ledger.open_studies()
    assert ledger.close_study(failed.study_id, last_received_at=NOON, reason="quiet", now=NOON)
    assert ledger.take_study(failed.study_id, maximum_attempts=3, now=NOON) is not None
    ledger.finish_failed(failed.study_id, reason="its pixels cannot be read", now=NOON)

    assert ledger.record_instance(image(2, at=after(60))) is Recorded.NEW
    (study,) = ledger.open_studies()
    assert (ledger.study(study.study_id).generation, study.instance_count) == (2, 2)
    assert ledger.study(failed.study_id).state is StudyState.FAILED


def test_what_two_senders_bring_is_one_study_with_the_quiet_time_of_the_later_one(ledger: Ledger) -> None:
    ledger.record_instance(image(1))
    ledger.record_instance(replace(image(2, at=after(5)), calling_ae_title="ROUTER"))
    (study,) = ledger.open_studies()
    assert (study.instance_count, study.calling_ae_title) == (2, "ROUTER")


def test_two_studies_that_come_mixed_stay_two(ledger: Ledger) -> None:
    """With the same Series Instance UID even, as one scanner was seen to give it twice."""
    for number in range(6):
        assert ledger.record_instance(image(number, study=f"1.2.3.{number % 2}")) is Recorded.NEW
    for study in ledger.open_studies():
        images = ledger.instances(study.study_id)
        assert {one.study_instance_uid for one in images} == {study.study_instance_uid}
        assert len(images) == study.instance_count == 3
