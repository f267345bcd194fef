"""Group commit: everybody gets the answer about their own image, after the commit that holds it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from node.group_commit import MOST_TOGETHER, GroupCommit
from node.ledger import Ledger, LedgerError, LedgerUnavailable, OutcomeUnknown
from node.records import ReceivedInstance, Recorded
from tests.unit.node.received_instances import image

REFUSED = "1.2.3.1.666"


class SlowLedger:
    """Notes which images were written down together; holds the first commit until it is told to go on."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.failure: LedgerUnavailable | None = None

    def record(self, instances: Sequence[ReceivedInstance]) -> list[Recorded]:
        uids = [instance.sop_instance_uid for instance in instances]
        self.begun.set()
        self.go_on.wait(10)
        if self.failure is not None:
            raise self.failure
        if REFUSED in uids:
            raise LedgerError("refused")
        self.commits.append(uids)
        return [Recorded.CONFLICT if uid.endswith("7") else Recorded.NEW for uid in uids]


def ask(group: GroupCommit, uids: Sequence[str], ledger: SlowLedger) -> dict[str, Recorded | Exception]:
    """One thread for each image; the first is in its commit when the others come."""
    answers: dict[str, Recorded | Exception] = {}

    def one(uid: str) -> None:
        try:
            answers[uid] = group.record(image(int(uid.rpartition(".")[2])))
        except LedgerError as error:
            answers[uid] = error

    threads = [threading.Thread(target=one, args=(uid,)) for uid in uids]
    threads[0].start()
    ledger.begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(group._waiting) < len(uids) - 1:
        pass
    ledger.go_on.set()
    for thread in threads:
        thread.join(10)
    return answers


def test_those_who_come_while_one_waits_for_the_disk_are_written_down_together() -> None:
    ledger = SlowLedger()
    uids = [f"1.2.3.1.{number}" for number in range(10)]
    answers = ask(GroupCommit(ledger.record), uids, ledger)
    assert [sorted(commit) for commit in ledger.commits] == [["1.2.3.1.0"], uids[1:]]
    assert {uid for uid, answer in answers.items() if answer is Recorded.CONFLICT} == {"1.2.3.1.7"}
    assert len(answers) == 10


def test_one_alone_does_not_wait_for_company() -> None:
    ledger = SlowLedger()
    ledger.go_on.set()
    assert GroupCommit(ledger.record).record(image(1)) is Recorded.NEW
    assert ledger.commits == [["1.2.3.1.1"]]


def test_an_image_that_is_refused_takes_no_other_with_it() -> None:
    ledger = SlowLedger()
    uids = ["1.2.3.1.1", "1.2.3.1.2", REFUSED, "1.2.3.1.3"]
    answers = ask(GroupCommit(ledger.record), uids, ledger)
    assert isinstance(answers.pop(REFUSED), LedgerError)
    assert set(answers.values()) == {Recorded.NEW}


@pytest.mark.parametrize("failure", [LedgerUnavailable("away"), OutcomeUnknown("broke")])
def test_a_ledger_that_is_away_is_told_to_all_in_the_word_it_used(failure: LedgerUnavailable) -> None:
    ledger = SlowLedger()
    ledger.failure = failure
    answers = ask(GroupCommit(ledger.record), ["1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"], ledger)
    assert [type(answer) for answer in answers.values()] == [type(failure)] * 3


def test_more_than_a_transaction_should_hold_go_in_several() -> None:
    ledger = SlowLedger()
    uids = [f"1.2.3.1.{number}" for number in range(1, 2 * MOST_TOGETHER + 10)]
    answers = ask(GroupCommit(ledger.record), uids, ledger)
    assert len(answers) == len(uids)
    assert max(len(commit) for commit in ledger.commits) == MOST_TOGETHER


def test_images_of_two_studies_sent_by_many_threads_are_all_counted(ledger: Ledger) -> None:
    """On both databases: the same image twice at once is one image."""
    images = [image(number, study=f"1.2.{number % 2}", copy=copy) for number in range(20) for copy in (1, 2)]
    answers: list[Recorded] = []
    threads = [threading.Thread(target=lambda i=one: answers.append(ledger.record_instance(i))) for one in images]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [Recorded.NEW] * 20 + [Recorded.SAME_AGAIN] * 20
    assert [study.instance_count for study in ledger.open_studies()] == [10, 10]
