"""`spinenode status`: what the operator reads, what programs read, and that the documentation knows every key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from node import lifesigns
from node.__main__ import main
from node.breaker import BreakerState, Health
from node.ledger import Ledger, open_ledger
from tests.unit.node.graded_studies import graded, taken
from tests.unit.node.received_instances import NOON, after, image

DOCUMENTATION = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
Run = Callable[..., Result]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def ledger(data_dir: Path) -> Iterator[Ledger]:
    data_dir.mkdir()
    opened = open_ledger(f"sqlite:///{data_dir / 'node.db'}")
    yield opened
    opened.close()


@pytest.fixture
def run(tmp_path: Path, data_dir: Path, ledger: Ledger) -> Run:
    config = tmp_path / "node.toml"
    archives = "".join(
        f'[[archives]]\nname = "{name}"\nae_title = "A"\nhost = "127.0.0.1"\nport = 104\n'
        for name in ("pacs", "second")
    )
    config.write_text(f'[node]\ndata_dir = "{data_dir}"\n{archives}', encoding="utf-8")

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(main, ("status", *words, "--config", str(config)), prog_name="spinenode")

    return invoke


def parsed(answer: Result) -> dict[str, Any]:
    assert answer.exit_code == 0, answer.output
    content: dict[str, Any] = json.loads(answer.output)
    return content


def keys_of(content: Any) -> set[str]:
    """Every key that is a name, at any depth; not those of tables whose keys are data."""
    if isinstance(content, list):
        return {key for item in content for key in keys_of(item)}
    if isinstance(content, dict):
        return set(content) | {key for value in content.values() for key in keys_of(value)}
    return set()


def says_that_it_lives(data_dir: Path, name: str, facts: dict[str, Any], *, age_s: float = 0.0) -> None:
    import time

    (data_dir / lifesigns.FOLDER).mkdir(exist_ok=True)
    sign = {"pid": 1, "started_at": NOON.isoformat(), "starts": [], "beat": time.monotonic() - age_s, "facts": facts}
    (data_dir / lifesigns.FOLDER / f"{name}.json").write_text(json.dumps(sign))


def down(since_s: float) -> Health:
    return Health(
        state=BreakerState.OPEN,
        since=after(since_s),
        down_since=after(since_s),
        failures=4,
        not_before=after(since_s + 60),
        last_answer="cannot connect to 192.0.2.11:104",
        last_success_at=NOON,
    )


def test_a_node_without_studies_shows_what_it_is_set_up_for(run: Run) -> None:
    answer = run()

    assert answer.output.splitlines()[0] == "node: not running"
    assert "archive pacs: nothing was sent to it yet; 0 results arrived, 0 wait" in answer.output
    assert "no study has been received yet" in answer.output


def test_the_overview_says_who_runs_what_waits_and_what_is_wrong(run: Run, ledger: Ledger, data_dir: Path) -> None:
    model = {"name": "spinenode", "version": "grader-1", "sha256": "ab" * 32}
    says_that_it_lives(data_dir, "worker", {"model": model})
    says_that_it_lives(data_dir, "receiver", {"refused": {"too many": 2}})
    says_that_it_lives(data_dir, "dispatcher", {}, age_s=45)
    first, second = graded(ledger, 1, ["pacs", "second"])["pacs"]
    ledger.delivery_delivered(first, status="0x0000 success", now=after(50))
    ledger.delivery_dead(second, status="0xA900 no match", now=after(51))
    ledger.archives.write_health("second", down(60), now=after(60))
    taken(ledger, 2)
    ledger.record_instance(image(9000, study="1.2.3.9"))

    lines = run().output.splitlines()
    assert lines[0] == "node: running (receiver, worker); weights grader-1 (sha256 abababababab)"
    assert any(line.startswith("RED: dispatcher: no sign of life for 4") for line in lines)
    assert any(line.startswith("RED: archive second: takes nothing since 2026-03-01 12:01:00Z") for line in lines)
    assert any(line.startswith("queue: 1 study arriving, 0 to grade, 1 in work (the oldest") for line in lines)
    (pacs,) = (line for line in lines if line.startswith("archive pacs: "))
    assert pacs.endswith("1 result arrived, 0 wait, 1 dead letter")
    (second_archive,) = (line for line in lines if line.startswith("archive second: "))
    assert second_archive.startswith("archive second: DOWN since 2026-03-01 12:01:00Z")
    assert "cannot connect to 192.0.2.11:104; asked again now" in second_archive
    assert "dead letters: 1 (`spinenode dead-letters` lists them)" in lines
    assert "turned away since the start: too many (2 times)" in lines
    assert "3 studies, the newest first:" in lines


def test_a_node_that_was_killed_is_not_running(run: Run, data_dir: Path) -> None:
    says_that_it_lives(data_dir, "worker", {}, age_s=3600)

    assert run().output.splitlines()[0] == "node: not running (last sign of life 1 h ago)"


def test_a_study_shows_its_timeline_and_each_delivery(run: Run, ledger: Ledger) -> None:
    first, second = graded(ledger, 1)["pacs"]
    ledger.timelines.note_steps(1, [("read", after(33)), ("graded", after(39)), ("rendered", after(41))])
    ledger.delivery_postponed(second, status="cannot connect", not_before=after(60), now=after(49))
    ledger.delivery_delivered(first, status="0x0000 success", now=after(50))

    text = run("1").output
    assert text == run("1.2.3.1").output
    expected = [
        "study 1  graded  1.2.3.1",
        "    1 image from MODALITY",
        "    2026-03-01 12:00:31Z         +31 s  complete          no new image for 30 s",
        "    2026-03-01 12:00:32Z        +1.0 s  started           a worker has it",
        "    2026-03-01 12:00:33Z        +1.0 s  read",
        "    2026-03-01 12:00:39Z        +6.0 s  graded",
        "    2026-03-01 12:00:41Z        +2.0 s  rendered",
        "    2026-03-01 12:00:42Z        +1.0 s  results listed    6 discs",
        "    to pacs:",
        "      text_report                delivered  arrived 2026-03-01 12:00:50Z (+8.0 s)",
        "        1 attempt: 0x0000 success",
        "      secondary_capture          due        next try now",
        "        1 attempt: cannot connect",
    ]
    lines = text.splitlines()
    assert [line for line in expected if line not in lines] == []


@pytest.mark.parametrize("study", ["99", "1.2.840.99", "99999999999999999999999", "DROP TABLE"])
def test_a_study_that_is_not_known_is_named(run: Run, study: str) -> None:
    answer = run(study)

    assert answer.exit_code == 1
    assert f"no study {study}; `spinenode status` lists what is known" in answer.output


def test_every_key_of_the_node_is_documented_and_the_values_are_right(run: Run, ledger: Ledger, data_dir: Path) -> None:
    model = {"name": "spinenode", "version": "grader-1", "sha256": "ab" * 32}
    says_that_it_lives(data_dir, "worker", {"model": model})
    graded(ledger, 1)
    ledger.archives.write_health("second", down(60), now=after(60))
    content = parsed(run("--json"))

    undocumented = {
        key for key in keys_of(content) - {"pacs", "second"} if not re.search(rf"`{key}(\[\])?`|`{key}`", DOCUMENTATION)
    }
    assert undocumented == set()
    assert content["schema"] == 1
    assert (content["running"], content["model"], content["health"]) == (True, model, "red")
    assert content["studies_by_state"]["graded"] == 1
    pacs, second = content["archives"]
    assert (pacs["name"], pacs["breaker"], pacs["deliveries"]["due"]) == ("pacs", None, 2)
    assert (second["breaker"], second["failures"], second["asked_again_at"]) == (
        "open",
        4,
        "2026-03-01T12:02:00.000+00:00",
    )
    assert [(item["study"], item["state"], item["deliveries_by_state"]["due"]) for item in content["studies"]] == [
        (1, "graded", 2)
    ]


def test_a_node_that_does_not_run_is_not_well(run: Run, ledger: Ledger) -> None:
    content = parsed(run("--json"))

    assert (content["running"], content["health"], content["model"]) == (False, "red", None)


def test_every_key_of_a_study_is_documented_and_the_values_are_right(run: Run, ledger: Ledger) -> None:
    first, second = graded(ledger, 1)["pacs"]
    for delivery in (first, second):
        ledger.delivery_delivered(delivery, status="0x0000 success", now=after(50))
    content = parsed(run("1", "--json"))

    undocumented = {key for key in keys_of(content) if not re.search(rf"`{key}(\[\])?`", DOCUMENTATION)}
    assert undocumented == set()
    (study,) = content["studies"]
    assert (study["study"], study["study_instance_uid"], study["state"]) == (1, "1.2.3.1", "delivered")
    assert study["turnaround_s"] == 50
    assert {stage["name"]: stage["seconds"] for stage in study["stages"]} == {
        "receiving": 0,
        "closing": 31,
        "waiting": 1,
        "working": 10,
        "delivering": 8,
    }
    assert [(item["state"], item["attempts"], item["last_answer"]) for item in study["deliveries"]] == [
        ("delivered", 1, "0x0000 success")
    ] * 2


def test_alerts_ask_for_metrics_that_there_are() -> None:
    from node import metrics
    from tests.unit.node.test_metrics import FULL

    told = metrics.exposition(metrics.Picture(**FULL)).decode("utf-8")
    alerts = (Path(__file__).resolve().parents[3] / "deploy" / "prometheus-alerts.yml").read_text(encoding="utf-8")
    asked = set(re.findall(r"spinenode_\w+", alerts))

    assert asked
    assert [name for name in sorted(asked) if f"\n{name}{{" not in told and f"\n{name} " not in told] == []


def test_a_study_whose_images_were_all_kept_beside_another_is_told_with_the_one_that_claims_them(
    run: Run, ledger: Ledger
) -> None:
    for number in (1, 2):
        ledger.record_instance(image(number))
        ledger.record_instance(image(number, study="1.2.9"))
    ledger.record_instance(image(3, study="1.2.4"))
    ledger.record_instance(image(3, study="1.2.9"))
    said = run("1.2.9")
    assert said.exit_code == 1
    assert (
        "study 1.2.9 has no image of its own, so it is not graded: 3 objects came of it and are kept beside, for their "
        "SOP Instance UIDs are claimed already: 2 by study 1.2.3; 1 by study 1.2.4"
    ) in said.output
    assert "no study 1.2.99" in run("1.2.99").output


def test_other_bytes_are_not_called_other_content(run: Run, ledger: Ledger) -> None:
    ledger.record_instance(image(1))
    ledger.record_instance(image(1, content="compressed"))
    for words in ((), ("1.2.3",)):
        said = run(*words).output
        assert "1 object kept beside it: a known SOP Instance UID with other bytes (as the same image has" in said
        assert "transfer syntax" in said
