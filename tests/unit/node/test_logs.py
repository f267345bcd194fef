"""The log says where and what, and never whom."""

from __future__ import annotations

import json
import logging

import pytest

from node import logs


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> object:
    root, node = logging.getLogger(), logging.getLogger("node")
    handlers, level, node_level = root.handlers[:], root.level, node.level
    yield
    root.handlers[:], root.level = handlers, level
    node.setLevel(node_level)


def fail_with(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_a_plain_line_has_time_level_process_message_and_study_number(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker", "INFO", "plain")
    logging.getLogger("node.worker").info("graded %d discs", 7, extra={"study_id": 3})
    line = capsys.readouterr().err
    assert line.endswith("INFO    worker     graded 7 discs [study_id 3]\n")
    assert line[10] == "T"


def test_a_json_line_has_the_same_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker", "INFO", "json")
    logging.getLogger("node.worker").warning("no room", extra={"study_id": 3, "archive": "pacs"})
    fields = json.loads(capsys.readouterr().err)
    del fields["time"]
    assert fields == {"level": "WARNING", "process": "worker", "message": "no room", "study_id": 3, "archive": "pacs"}


@pytest.mark.parametrize("style", ["plain", "json"])
def test_an_exception_appears_by_type_and_place_without_its_message(
    style: logs.Format, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("worker", "INFO", style)
    error = fail_with("Doe^Jane 1954-02-03")
    logging.getLogger("node.worker").error("attempt failed", exc_info=error)
    said = capsys.readouterr().err
    assert "ValueError < tests/unit/node/test_logs.py:" in said
    assert "Doe" not in said


def test_a_uid_in_a_message_is_hidden_and_an_address_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker", "INFO", "plain")
    logging.getLogger("node.worker").error("image 1.2.826.0.1.3680043.8.498.7 via 127.0.0.1:104 by 2.25.1.2.3.4")
    assert "image [uid] via 127.0.0.1:104 by [uid]" in capsys.readouterr().err


def test_libraries_that_see_data_sets_are_not_heard(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("receiver", "DEBUG", "plain")
    logging.getLogger("pydicom").error("Invalid value for VR PN: Doe^Jane")
    logging.getLogger("pynetdicom.events").critical("PatientName Doe^Jane")
    assert capsys.readouterr().err == ""


def test_a_message_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker", "INFO", "plain")
    logging.getLogger("node.worker").error("first\nsecond")
    assert capsys.readouterr().err.count("\n") == 1


def test_the_place_of_an_exception_is_the_innermost_line_of_ours() -> None:
    error = fail_with("secret")
    line = error.__traceback__.tb_lineno if error.__traceback__ else 0
    assert logs.place(error) == f"ValueError at tests/unit/node/test_logs.py:{line}"


def test_an_exception_that_was_never_raised_has_a_type_only() -> None:
    assert logs.place(KeyError("secret")) == "KeyError"


def test_the_level_of_the_settings_holds(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker", "ERROR", "plain")
    logging.getLogger("node.worker").info("chatter")
    assert capsys.readouterr().err == ""
