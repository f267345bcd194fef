"""How an archive is asked for proof, and when again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import proofs
from node.proofs import Patience, ProofWanted
from tests.unit.node.received_instances import NOON, after


@pytest.mark.parametrize(
    ("wanted", "commits", "answers_queries", "asked", "way"),
    [
        ("auto", True, True, 0, "commitment"),
        ("auto", True, True, 1, "commitment"),
        ("auto", True, True, 2, "query"),
        ("auto", True, False, 9, "commitment"),
        ("auto", False, True, 0, "query"),
        ("auto", False, False, 0, None),
        ("commitment", True, True, 9, "commitment"),
        ("commitment", False, True, 9, None),
        ("query", True, True, 0, "query"),
        ("query", True, False, 0, None),
        ("none", True, True, 0, None),
    ],
)
def test_the_way_is_what_is_wanted_and_offered_and_a_query_where_reports_do_not_come(
    wanted: ProofWanted, commits: bool, answers_queries: bool, asked: int, way: str | None
) -> None:
    assert proofs.way(wanted, commits=commits, answers_queries=answers_queries, asked=asked) == way


def test_transaction_uids_are_uids_and_never_the_same() -> None:
    made = {proofs.new_transaction_uid() for _ in range(1000)}
    assert len(made) == 1000
    assert all(uid.startswith("2.25.") and len(uid) <= 64 and uid[5:].isdigit() for uid in made)


@pytest.mark.parametrize(("looks", "wait_s"), [(0, 5), (1, 30), (2, 180), (3, 1080)])
def test_looks_for_what_is_not_found_become_rarer(looks: int, wait_s: float) -> None:
    assert proofs.look_again_at(NOON, looks) == after(wait_s)


@given(asked=st.integers(min_value=0, max_value=10**6))
def test_the_waits_never_shrink_and_never_exceed_the_longest(asked: int) -> None:
    again_at = Patience(first_s=5, longest_s=21600, most_sent_again=3).again_after(NOON)
    assert again_at(asked) <= again_at(asked + 1) <= after(21600)
    assert again_at(0) == after(5)


@pytest.mark.parametrize(
    ("reason", "text", "is_asked_again"),
    [
        (0x0112, "0x0112 no such object", False),
        (0x0110, "0x0110 processing failure", False),
        (0x0122, "0x0122 SOP class not supported", False),
        (0x0213, "0x0213 resource limitation", True),
        (0x0131, "0x0131 duplicate transaction UID", True),
        (0xABCD, "0xABCD unknown reason", False),
    ],
)
def test_reasons_are_told_in_words_and_few_of_them_concern_the_archive_alone(
    reason: int, text: str, is_asked_again: bool
) -> None:
    assert proofs.failure_text(reason) == text
    assert proofs.is_asked_again(reason) is is_asked_again
