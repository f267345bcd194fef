"""An archive is asked to withdraw what it holds of earlier generations, each object once."""

from __future__ import annotations

from node.records import DeliveryState, StudyState
from node.settings import ArchiveSettings
from node.timeline import Life, Sending
from node.withdrawal import superseded
from tests.unit.node.graded_studies import study_record
from tests.unit.node.received_instances import NOON


def archive(name: str, *outputs: str) -> ArchiveSettings:
    return ArchiveSettings.model_validate(
        {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "outputs": outputs}
    )


def sending(uid: str, *, to: str = "pacs", kind: str = "text_report", state: str = "delivered") -> Sending:
    return Sending(
        delivery_id=1,
        archive=to,
        kind=kind,
        sop_class_uid="1.2.3",
        sop_instance_uid=uid,
        state=DeliveryState(state),
        attempts=1,
        not_before=NOON,
        last_status="",
        listed_at=NOON,
        arrived_at=NOON,
        proven_at=None,
        proof_attempts=0,
        events=(),
    )


def life(study_id: int, *sendings: Sending) -> Life:
    study = study_record(study_id, generation=study_id, state=StudyState.GRADED)
    return Life(
        study=study,
        calling_ae_title="MR",
        conflicts=0,
        images_deleted_at=None,
        results_deleted_at=None,
        history=(),
        sendings=sendings,
    )


def test_a_first_generation_withdraws_nothing() -> None:
    assert superseded([life(1)], 1, [archive("pacs")]) == {}


def test_what_the_archive_holds_or_is_about_to_get_is_withdrawn_and_nothing_else() -> None:
    first = life(
        1, *(sending(f"2.25.{n}", state=state) for n, state in enumerate(state.value for state in DeliveryState))
    )
    order = [state.value for state in DeliveryState]
    expected = tuple(f"2.25.{order.index(state)}" for state in ("due", "delivered", "proven"))
    assert superseded([first, life(2)], 2, [archive("pacs")]) == {expected: ("pacs",)}


def test_archives_that_hold_the_same_share_a_note_and_others_have_their_own() -> None:
    first = life(
        1,
        *(sending("2.25.1", to=name) for name in ("one", "two", "three", "viewer")),
        sending("2.25.2", to="three"),
    )
    archives = [archive("one"), archive("two"), archive("three"), archive("viewer", "text_report"), archive("empty")]
    assert superseded([first, life(2)], 2, archives) == {
        ("2.25.1",): ("one", "two"),
        ("2.25.1", "2.25.2"): ("three",),
    }


def test_what_a_note_has_withdrawn_is_not_named_again_nor_is_the_note() -> None:
    lives = [
        life(1, sending("2.25.1")),
        life(2, sending("2.25.2"), sending("2.25.22", kind="rejection_note")),
        life(3),
    ]
    assert superseded(lives, 3, [archive("pacs")]) == {("2.25.2",): ("pacs",)}


def test_a_note_that_the_archive_refused_has_withdrawn_nothing() -> None:
    refused = sending("2.25.22", kind="rejection_note", state="dead")
    lives = [life(1, sending("2.25.1")), life(2, sending("2.25.2"), refused), life(3)]
    assert superseded(lives, 3, [archive("pacs")]) == {("2.25.1", "2.25.2"): ("pacs",)}


def test_the_report_that_declined_the_same_generation_before_a_retry_is_withdrawn_and_later_ones_are_not() -> None:
    lives = [life(1, sending("2.25.1", kind="declined_report")), life(2, sending("2.25.2"))]
    assert superseded(lives, 1, [archive("pacs")]) == {("2.25.1",): ("pacs",)}
