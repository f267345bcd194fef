"""Dead letters: the operator reads them, and has them sent again, sent elsewhere, or taken off; nothing else does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from node.__main__ import main
from node.ledger import Ledger, open_ledger
from node.records import DeliveryState, StudyState
from tests.unit.node.sending_bench import NOON, Bench


def dead(bench: Bench, archive: str = "pacs", status: str = "0xA900 data set does not match SOP class") -> list[int]:
    """Every delivery to an archive is refused for good; gives their numbers."""
    due = bench.ledger.due_deliveries(bench.now, limit=100, archives=[archive])
    for delivery in due:
        bench.ledger.delivery_dead(delivery.delivery_id, status=status, now=bench.now)
    return [delivery.delivery_id for delivery in due]


class TestInTheLedger:
    def test_they_are_listed_with_what_was_said(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104})
        bench.grade()
        numbers = dead(bench)
        letters = ledger.dead_letters.listed(limit=10)
        assert [letter.delivery_id for letter in letters] == numbers
        assert {letter.last_status for letter in letters} == {"0xA900 data set does not match SOP class"}

    def test_sent_again_they_are_new(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104})
        bench.grade()
        first, _ = dead(bench)
        later = NOON + timedelta(days=30)
        assert ledger.dead_letters.retry([first, 999], now=later) == 1
        (again,) = ledger.due_deliveries(later, limit=10)
        assert (again.delivery_id, again.attempts, again.due_since) == (first, 0, later)
        assert ledger.dead_letters.retry([first], now=later) == 0  # it is no dead letter any more

    def test_taken_off_they_do_not_keep_the_study_from_its_end(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104, "other": 104})
        bench.grade(objects=1)
        for delivery in ledger.due_deliveries(NOON, limit=10, archives=["other"]):
            ledger.delivery_delivered(delivery.delivery_id, status="0x0000", now=NOON)
        numbers = dead(bench)
        assert ledger.dead_letters.discard(numbers, why="discarded by the operator", now=NOON) == 1
        assert bench.counts() == {DeliveryState.DISCARDED: 1}
        assert bench.state is StudyState.DELIVERED
        said = "every archive holds every result, but for 1 that the operator took off the list"
        assert ledger.study(bench.study_id).reason == said
        assert ledger.dead_letters.listed(limit=10) == ()

    def test_a_study_of_which_nothing_arrived_is_not_called_delivered(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104})
        bench.grade()
        ledger.dead_letters.discard(dead(bench), why="discarded by the operator", now=NOON)
        assert bench.state is StudyState.GRADED
        assert ledger.due_deliveries(NOON + timedelta(days=99), limit=10) == ()

    def test_sent_elsewhere_the_results_are_due_there_and_the_letters_off_the_list(
        self, tmp_path: Path, ledger: Ledger
    ) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104})
        bench.grade()
        assert ledger.dead_letters.redirect(dead(bench), archive="other", now=NOON) == (2, 0)
        due = ledger.due_deliveries(NOON, limit=10)
        assert [(item.archive, item.sop_instance_uid) for item in due] == [
            ("other", "2.25.1001"),
            ("other", "2.25.1002"),
        ]
        assert bench.counts() == {DeliveryState.DISCARDED: 2}
        for delivery in due:
            ledger.delivery_delivered(delivery.delivery_id, status="0x0000", now=NOON)
        assert bench.state is StudyState.DELIVERED

    def test_what_the_other_archive_has_already_is_not_sent_twice(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104, "other": 104})
        bench.grade(objects=1)
        (there,) = ledger.due_deliveries(NOON, limit=10, archives=["other"])
        ledger.delivery_delivered(there.delivery_id, status="0x0000", now=NOON)
        assert ledger.dead_letters.redirect(dead(bench), archive="other", now=NOON) == (0, 1)
        assert ledger.due_deliveries(NOON, limit=10) == ()
        assert bench.state is StudyState.DELIVERED

    def test_a_letter_that_is_dead_there_too_is_tried_there_again(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104, "other": 104})
        bench.grade(objects=1)
        dead(bench, "other")
        ledger.dead_letters.redirect(dead(bench), archive="other", now=NOON)
        (again,) = ledger.due_deliveries(NOON, limit=10)
        assert again.archive == "other"

    def test_to_the_archive_that_refused_it_is_no_redirection(self, tmp_path: Path, ledger: Ledger) -> None:
        bench = Bench(tmp_path, ledger, {"pacs": 104})
        bench.grade()
        assert ledger.dead_letters.redirect(dead(bench), archive="pacs", now=NOON) == (0, 0)
        assert bench.counts() == {DeliveryState.DEAD: 2}

    def test_a_success_that_is_told_late_is_believed_and_a_failure_is_not(self, tmp_path: Path, ledger: Ledger) -> None:
        """The operator gave up while a C-STORE was under way."""
        bench = Bench(tmp_path, ledger, {"pacs": 104})
        bench.grade()
        first, second = dead(bench)
        ledger.delivery_postponed(first, status="0x0110", not_before=NOON, now=NOON)
        ledger.delivery_delivered(second, status="0x0000", now=NOON)
        assert bench.counts() == {DeliveryState.DEAD: 1, DeliveryState.DELIVERED: 1}


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "node.toml"
    archives = "".join(
        f'[[archives]]\nname = "{name}"\nae_title = "A"\nhost = "127.0.0.1"\nport = 104\n' for name in ("pacs", "other")
    )
    file.write_text(f'[node]\ndata_dir = "{tmp_path}"\n{archives}', encoding="utf-8")
    return str(file)


@pytest.fixture
def numbers(tmp_path: Path, config: str) -> list[int]:
    """The dead letters of two studies to "pacs", and one to an archive that has left the settings."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/node.db")
    bench = Bench(tmp_path, ledger, {"pacs": 104})
    bench.grade(objects=3)
    bench.grade(2, objects=1)
    dead_ones = dead(bench)
    bench.use({"gone": 104})
    bench.grade(3, objects=1)
    dead_ones += dead(bench, "gone", status="no archive of this name in the settings")
    ledger.close()
    return dead_ones


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["dead-letters", *words])


def due_at(folder: Path, archive: str) -> int:
    ledger = open_ledger(f"sqlite:///{folder}/node.db")
    try:
        return len(ledger.due_deliveries(NOON + timedelta(days=9999), limit=100, archives=[archive]))
    finally:
        ledger.close()


@pytest.fixture
def never_proven(tmp_path: Path, config: str) -> None:
    """A study whose result "pacs" has proved, and "gone" has taken; "gone" has left the settings."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/node.db")
    bench = Bench(tmp_path, ledger, {"pacs": 104, "gone": 104})
    bench.grade(objects=1)
    for delivery in ledger.due_deliveries(NOON, limit=9):
        ledger.delivery_delivered(delivery.delivery_id, status="0x0000", now=NOON)
    ledger.close()


def states(folder: Path) -> dict[str, set[DeliveryState]]:
    ledger = open_ledger(f"sqlite:///{folder}/node.db")
    try:
        return {archive: set(counts) for archive, counts in ledger.delivery_counts().items()}
    finally:
        ledger.close()


@pytest.mark.usefixtures("never_proven")
class TestWhatAnArchiveThatIsGoneHasNotProved:
    def test_it_is_listed(self, config: str) -> None:
        lines = run("--config", config).output.splitlines()
        assert lines[0].startswith("1 result taken, and never proven, by an archive that is not in the settings")
        assert lines[1].endswith("study 1 to gone: 1 result, Basic Text SR")

    def test_discarded_it_keeps_the_study_no_longer(self, config: str, tmp_path: Path) -> None:
        answer = run("discard", "--archive", "gone", "--config", config)
        assert answer.output == "1 result taken off the list; the results stay in the spool\n"
        assert states(tmp_path) == {"gone": {DeliveryState.DISCARDED}, "pacs": {DeliveryState.DELIVERED}}
        assert run("--config", config).output == "no dead letters\n"

    def test_what_a_known_archive_took_is_nobodys_to_discard(self, config: str, tmp_path: Path) -> None:
        assert run("discard", "--archive", "pacs", "--config", config).exit_code == 1
        assert states(tmp_path)["pacs"] == {DeliveryState.DELIVERED}

    def test_redirected_it_is_sent_unless_it_is_there(self, config: str, tmp_path: Path) -> None:
        answer = run("redirect", "--to", "pacs", "--all", "--config", config)
        assert answer.output == "1 result already there, or on the way to pacs\n"
        assert states(tmp_path) == {"gone": {DeliveryState.DISCARDED}, "pacs": {DeliveryState.DELIVERED}}

    def test_redirected_to_an_archive_that_has_it_not(self, config: str, tmp_path: Path) -> None:
        assert (
            run("redirect", "--to", "other", "--all", "--config", config).output == "1 result sent to other instead\n"
        )
        assert states(tmp_path)["other"] == {DeliveryState.DUE}

    def test_it_cannot_be_tried_again(self, config: str) -> None:
        assert "no dead letter is meant" in run("retry", "--archive", "gone", "--config", config).output


class TestTheOperatorsWords:
    def test_the_list_tells_which_how_many_and_why(self, config: str, numbers: list[int]) -> None:
        shown = run("--config", config)
        assert shown.exit_code == 0
        first, _, third, fourth, last = numbers
        lines = shown.output.splitlines()
        assert lines[0].startswith("5 dead letters ")
        assert lines[1].strip() == f"{first}-{third}  study 1 to pacs: 3 results, Basic Text SR"
        assert lines[2].strip() == "after 1 attempt: 0xA900 data set does not match SOP class"
        assert lines[3].strip() == f"{fourth}  study 2 to pacs: 1 result, Basic Text SR"
        assert lines[5].strip() == f"{last}  study 3 to gone: 1 result, Basic Text SR"

    def test_an_empty_list_says_so(self, config: str, tmp_path: Path) -> None:
        open_ledger(f"sqlite:///{tmp_path}/node.db").close()
        assert run("--config", config).output == "no dead letters\n"

    @pytest.mark.parametrize(
        ("words", "count"),
        [
            (["--study", "1"], 3),
            (["--study", "2.25.1"], 3),
            (["--archive", "pacs"], 4),
            (["--archive", "pacs", "--study", "2"], 1),
        ],
    )
    def test_what_is_meant_is_sent_again(
        self, words: list[str], count: int, config: str, numbers: list[int], tmp_path: Path
    ) -> None:
        answer = run("retry", *words, "--config", config)
        assert answer.exit_code == 0, answer.output
        assert answer.output.startswith(f"{count} result")
        assert due_at(tmp_path, "pacs") == count

    def test_by_their_numbers(self, config: str, numbers: list[int], tmp_path: Path) -> None:
        span = f"{numbers[0]}-{numbers[1]}"
        assert run("retry", span, str(numbers[3]), "--config", config).exit_code == 0
        assert due_at(tmp_path, "pacs") == 3

    def test_nothing_meant_is_not_everything(self, config: str, numbers: list[int], tmp_path: Path) -> None:
        answer = run("discard", "--config", config)
        assert answer.exit_code == 2
        assert "which? Give NUMBER..., --study, --archive or --all" in answer.output
        assert "5 dead letters" in run("--config", config).output

    def test_what_goes_to_an_archive_that_is_gone_cannot_be_sent_again_but_elsewhere(
        self, config: str, numbers: list[int], tmp_path: Path
    ) -> None:
        again = run("retry", "--all", "--config", config)
        assert again.exit_code == 1
        assert "no archive gone in the settings any more: redirect or discard its letters" in again.output
        elsewhere = run("redirect", "--to", "other", "--archive", "gone", "--config", config)
        assert elsewhere.output == "1 result sent to other instead\n"
        assert due_at(tmp_path, "other") == 1

    def test_to_an_archive_that_is_not_known_is_refused(self, config: str, numbers: list[int]) -> None:
        answer = run("redirect", "--to", "nowhere", "--all", "--config", config)
        assert answer.exit_code == 1
        assert "no archive 'nowhere' in the settings (known: pacs, other)" in answer.output

    def test_taken_off_the_list(self, config: str, numbers: list[int]) -> None:
        answer = run("discard", "--all", "--config", config)
        assert answer.output == "5 results taken off the list; the results stay in the spool\n"
        assert run("--config", config).output == "no dead letters\n"

    def test_a_number_that_is_on_no_list_is_said(self, config: str, numbers: list[int]) -> None:
        answer = run("discard", "9999", "--config", config)
        assert answer.exit_code == 1
        assert "no dead letter is meant" in answer.output
        assert "'x' is no number of a dead letter" in run("retry", "x", "--config", config).output
