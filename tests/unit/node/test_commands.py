"""The operator's commands: each has an example, and each refusal names the thing and the remedy."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from node.__main__ import main
from node.ledger import open_ledger
from node.records import ResultObject
from tests.unit.node.received_instances import image

NOW = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="spinenode")


def settings_file(folder: Path, text: str = "") -> str:
    path = folder / "node.toml"
    path.write_text(f'[node]\ndata_dir = "{(folder / "data").as_posix()}"\n{text}', encoding="utf-8")
    return str(path)


def all_commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def collect(command: click.Command, words: tuple[str, ...]) -> None:
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                collect(child, (*words, name))
        else:
            found.append(words)

    collect(main, ())
    return found


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    answer = run(*words, "--help")

    assert answer.exit_code == 0
    assert f"Example:  spinenode {' '.join(words)}" in answer.output


def test_the_commands_of_the_readme_are_there() -> None:
    assert {"serve", "demo", "grade", "send", "status", "retry", "echo", "config"} <= set(main.commands)


def test_the_shipped_settings_file_is_good() -> None:
    answer = run("config", "check", "--config", "deploy/node.toml")

    assert answer.exit_code == 0
    assert "SPINENODE@127.0.0.1:11112" in answer.output


def test_an_unknown_key_is_refused_by_its_name(tmp_path: Path) -> None:
    answer = run("config", "check", "--config", settings_file(tmp_path, "[receiver]\nprot = 104\n"))

    assert answer.exit_code == 1
    assert "receiver.prot" in answer.output
    assert "unknown key" in answer.output


def test_a_settings_file_that_is_not_there_is_named() -> None:
    answer = run("config", "check", "--config", "no/such.toml")

    assert answer.exit_code == 1
    assert "no/such.toml" in answer.output


def test_echo_names_the_archives_that_are_known(tmp_path: Path) -> None:
    archive = '[[archives]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'

    answer = run("echo", "pasc", "--config", settings_file(tmp_path, archive))

    assert answer.exit_code == 1
    assert "pasc" in answer.output
    assert "known: pacs" in answer.output


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves its socket
def test_echo_says_why_nobody_answers() -> None:
    answer = run("echo", "--host", "127.0.0.1", "--port", "1", "--ae-title", "NOBODY")

    assert answer.exit_code == 1
    assert "cannot connect to 127.0.0.1:1" in answer.output


def test_send_refuses_an_empty_folder(tmp_path: Path) -> None:
    answer = run("send", str(tmp_path), "127.0.0.1", "1", "ANY")

    assert answer.exit_code == 1
    assert str(tmp_path) in answer.output


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_send_names_what_was_not_sent_and_why(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")

    answer = run("send", str(tmp_path), "127.0.0.1", "1", "ANY")

    assert answer.exit_code == 1
    assert "notes.txt" in answer.output
    assert "not a DICOM file" in answer.output


def test_status_of_a_node_that_never_ran_says_so(tmp_path: Path) -> None:
    answer = run("status", "--config", settings_file(tmp_path))

    assert answer.exit_code == 1
    assert str(tmp_path / "data") in answer.output


def test_status_shows_studies_and_retry_takes_their_number(tmp_path: Path) -> None:
    config = settings_file(tmp_path)
    (tmp_path / "data").mkdir()
    ledger = open_ledger(f"sqlite:///{tmp_path / 'data' / 'node.db'}")
    ledger.record_instance(image(1, at=NOW))
    study = ledger.open_studies()[0]
    later = NOW + timedelta(minutes=1)
    assert ledger.close_study(study.study_id, last_received_at=study.last_received_at, reason="closed", now=later)
    ledger.take_study(study.study_id, maximum_attempts=3, now=later)
    ledger.finish_failed(study.study_id, reason="a fault of the node: ValueError at x.py:1", now=later)
    uid = ledger.study(study.study_id).study_instance_uid
    ledger.close()

    shown = run("status", "--config", config)
    retried = run("retry", str(study.study_id), "--config", config)
    shown_again = run("status", "--config", config)
    unknown = run("retry", "1.2.3.4", "--config", config)

    assert "failed" in shown.output
    assert uid in shown.output
    assert "ValueError at x.py:1" in shown.output
    assert retried.exit_code == 0
    assert "queued" in shown_again.output
    assert unknown.exit_code == 1
    assert "1.2.3.4" in unknown.output


def test_grade_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    answer = run("grade", str(tmp_path / "missing"))

    assert answer.exit_code == 1
    assert "missing" in answer.output


def test_the_console_script_and_the_module_are_the_same_program() -> None:
    script = Path(sys.executable).parent / "spinenode"

    assert script.exists()
    answer = subprocess.run([str(script), "--version"], capture_output=True, text=True, check=True).stdout
    assert "research use only" in answer


@pytest.mark.parametrize("ae_title", ["WAYTOOLONGAETITLE12345", "BACK\\SLASH"])
def test_a_bad_ae_title_is_refused_before_anything_is_sent(tmp_path: Path, ae_title: str) -> None:
    answer = run("send", str(tmp_path), "127.0.0.1", "1", ae_title)

    assert answer.exit_code == 2
    assert "is not an AE title" in answer.output


def test_a_host_that_does_not_exist_is_named() -> None:
    answer = run("echo", "--host", "nosuch.host.invalid", "--port", "104", "--ae-title", "ANY")

    assert answer.exit_code == 1
    assert "cannot find the host nosuch.host.invalid" in answer.output


def test_the_operator_may_give_up_and_take_up_again(tmp_path: Path) -> None:
    config = settings_file(tmp_path)
    (tmp_path / "data").mkdir()
    ledger = open_ledger(f"sqlite:///{tmp_path / 'data' / 'node.db'}")
    ledger.record_instance(image(1, at=NOW))
    study = ledger.open_studies()[0]
    ledger.close_study(study.study_id, last_received_at=study.last_received_at, reason="closed", now=NOW)
    ledger.take_study(study.study_id, maximum_attempts=3, now=NOW)
    report = ResultObject(
        sop_instance_uid="2.25.1", sop_class_uid="1.2", kind="text_report", path=Path("x"), sha256="0"
    )
    ledger.finish_graded(study.study_id, results=[report], archives={"pacs": ["2.25.1"]}, reason="graded", now=NOW)
    ledger.close()

    given_up = run("give-up", str(study.study_id), "--config", config)
    shown = run("status", "--config", config)
    again = run("give-up", str(study.study_id), "--config", config)
    taken_up = run("retry", str(study.study_id), "--config", config)

    assert given_up.exit_code == 0
    assert "given up by the operator" in shown.output
    assert again.exit_code == 1
    assert taken_up.exit_code == 0
