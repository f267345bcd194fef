"""The records: frozen, and their states written in the ledger by stable words."""

from __future__ import annotations

import dataclasses

import pytest

from node import records
from tests.unit.node.received_instances import image

RECORDS = [value for value in vars(records).values() if dataclasses.is_dataclass(value)]


@pytest.mark.parametrize("record", RECORDS)
def test_every_record_is_frozen_with_slots_and_named_arguments(record: type) -> None:
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in dataclasses.fields(record))
    assert "__slots__" in vars(record)


def test_a_record_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        image(1).path = image(2).path  # type: ignore[misc]


def test_the_words_for_states_are_those_in_databases_that_exist() -> None:
    """A changed word would make studies of an older ledger unreadable: it needs a migration."""
    assert [state.value for state in records.StudyState] == [
        "receiving",
        "queued",
        "grading",
        "graded",
        "delivered",
        "declined",
        "unchanged",
        "failed",
    ]
    assert [state.value for state in records.Recorded] == ["new", "same_again", "conflict", "own_result"]
    assert [state.value for state in records.DeliveryState] == [
        "due",
        "delivered",
        "proven",
        "dead",
        "replaced",
        "discarded",
    ]
