"""Each archive gets what it asked for, in the order it was made."""

from __future__ import annotations

from pathlib import Path

from node.records import ResultObject
from node.routing import destinations
from node.settings import ArchiveSettings


def result(uid: str, kind: str) -> ResultObject:
    return ResultObject(sop_instance_uid=uid, sop_class_uid="1.2.3", kind=kind, path=Path("x"), sha256="0" * 64)


RESULTS = (
    result("2.25.1", "measurement_report"),
    result("2.25.2", "text_report"),
    result("2.25.3", "secondary_capture"),
    result("2.25.4", "secondary_capture"),
)


def archive(name: str, *outputs: str) -> ArchiveSettings:
    return ArchiveSettings.model_validate(
        {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "outputs": outputs}
    )


def test_an_archive_that_names_no_outputs_gets_everything_in_order() -> None:
    assert destinations(RESULTS, [archive("pacs")]) == {"pacs": ("2.25.1", "2.25.2", "2.25.3", "2.25.4")}


def test_an_archive_gets_only_the_outputs_it_names() -> None:
    assert destinations(RESULTS, [archive("viewer", "secondary_capture")]) == {"viewer": ("2.25.3", "2.25.4")}


def test_an_archive_that_gets_nothing_is_left_out() -> None:
    declined = (result("2.25.9", "text_report"),)
    both = [archive("pacs"), archive("viewer", "secondary_capture")]
    assert destinations(declined, both) == {"pacs": ("2.25.9",)}


def test_without_archives_nothing_goes_anywhere() -> None:
    assert destinations(RESULTS, []) == {}
