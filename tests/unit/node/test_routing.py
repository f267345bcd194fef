"""Each archive gets what it asked for, in the order it was made."""

from __future__ import annotations

from pathlib import Path

from node.records import ResultObject
from node.routing import SR_CLASSES, destinations, instead_of
from node.settings import ArchiveSettings


def result(uid: str, kind: str) -> ResultObject:
    return ResultObject(sop_instance_uid=uid, sop_class_uid="1.2.3", kind=kind, path=Path("x"), sha256="0" * 64)


RESULTS = (
    result("2.25.1", "measurement_report"),
    result("2.25.2", "text_report"),
    result("2.25.3", "secondary_capture"),
    result("2.25.4", "secondary_capture"),
)


def archive(name: str, *outputs: str, sr_class: str = "comprehensive_3d") -> ArchiveSettings:
    return ArchiveSettings.model_validate(
        {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "outputs": outputs, "sr_class": sr_class}
    )


def report(uid: str, sr_class: str) -> ResultObject:
    return ResultObject(
        sop_instance_uid=uid,
        sop_class_uid=SR_CLASSES[sr_class],
        kind="measurement_report",
        path=Path("x"),
        sha256="0" * 64,
    )


THREE_REPORTS = tuple(report(f"2.25.{n}", name) for n, name in enumerate(SR_CLASSES))


def test_an_archive_that_names_no_outputs_gets_everything_in_order() -> None:
    assert destinations(RESULTS, [archive("pacs")]) == {"pacs": ("2.25.1", "2.25.2", "2.25.3", "2.25.4")}


def test_an_archive_gets_only_the_outputs_it_names() -> None:
    assert destinations(RESULTS, [archive("viewer", "secondary_capture")]) == {"viewer": ("2.25.3", "2.25.4")}


def test_an_archive_that_gets_nothing_is_left_out() -> None:
    declined = (result("2.25.9", "text_report"),)
    both = [archive("pacs"), archive("viewer", "secondary_capture")]
    assert destinations(declined, both) == {"pacs": ("2.25.9",)}


def test_what_is_addressed_goes_to_the_named_archives_only_and_to_those_of_them_that_want_it() -> None:
    note = result("2.25.9", "rejection_note")
    three = [archive("pacs"), archive("other"), archive("viewer", "secondary_capture")]
    sent = destinations([*RESULTS[:1], note], three, {"2.25.9": ["pacs", "viewer"]})
    assert sent == {"pacs": ("2.25.1", "2.25.9"), "other": ("2.25.1",)}
    assert not instead_of(note, [*RESULTS, note], archive("pacs")), "nothing else says what a note says"


def test_without_archives_nothing_goes_anywhere() -> None:
    assert destinations(RESULTS, []) == {}


def test_an_archive_gets_the_measurement_report_in_its_sop_class() -> None:
    for result in THREE_REPORTS:
        name = next(name for name, uid in SR_CLASSES.items() if uid == result.sop_class_uid)
        assert destinations(THREE_REPORTS, [archive("pacs", sr_class=name)]) == {"pacs": (result.sop_instance_uid,)}


def test_a_form_that_was_not_made_is_not_waited_for() -> None:
    assert destinations(THREE_REPORTS[2:], [archive("pacs")]) == {"pacs": ("2.25.2",)}


def test_a_refused_form_gives_way_to_each_other_once() -> None:
    pacs = archive("pacs", sr_class="comprehensive")
    assert instead_of(THREE_REPORTS[1], THREE_REPORTS, pacs) == ("2.25.0",)
    assert instead_of(THREE_REPORTS[0], THREE_REPORTS, pacs) == ("2.25.2",)
    assert instead_of(THREE_REPORTS[2], (*THREE_REPORTS, *RESULTS[1:]), pacs) == ("2.25.2",)


def test_the_captures_are_the_last_resort() -> None:
    pacs = archive("pacs")
    assert instead_of(RESULTS[1], RESULTS, pacs) == ("2.25.3", "2.25.4")
    assert instead_of(RESULTS[2], RESULTS, pacs) == ()
    assert instead_of(result("2.25.8", "segmentation"), RESULTS, pacs) == ()


def test_why_a_study_was_not_graded_goes_where_the_text_report_would() -> None:
    declined = (result("2.25.9", "declined_report"),)
    both = [archive("pacs", "text_report"), archive("viewer", "secondary_capture")]
    assert destinations(declined, both) == {"pacs": ("2.25.9",)}
