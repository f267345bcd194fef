"""Who may associate, and what the others are told (PS3.8 section 9.3.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.admission import Request, refusal
from node.settings import ReceiverSettings

SETTINGS = ReceiverSettings(
    allowed_calling_ae_titles=("MODALITY",),
    maximum_associations=10,
    maximum_associations_per_address=5,
    maximum_associations_per_calling_ae_title=3,
)
WELCOME = Request(
    calling_ae_title="MODALITY",
    called_ae_title="SPINENODE",
    open_associations=9,
    open_of_this_address=4,
    open_of_this_title=2,
    has_room=True,
)


def test_who_breaks_no_rule_is_let_in() -> None:
    assert refusal(WELCOME, SETTINGS) is None


@pytest.mark.parametrize(
    ("change", "numbers", "why"),
    [
        ({"called_ae_title": "OTHER"}, (1, 1, 7), "it called 'OTHER', not receiver.ae_title 'SPINENODE'"),
        ({"calling_ae_title": "STRANGER"}, (1, 1, 3), "it is not in receiver.allowed_calling_ae_titles"),
        ({"open_associations": 10}, (2, 3, 2), "receiver.maximum_associations (10) are open"),
        ({"open_of_this_address": 5}, (2, 3, 2), "receiver.maximum_associations_per_address (5) are open"),
        ({"open_of_this_title": 3}, (2, 3, 2), "receiver.maximum_associations_per_calling_ae_title (3) are open"),
        ({"has_room": False}, (2, 3, 2), "the disk is below its watermark (receiver.minimum_free_mb)"),
    ],
)
def test_each_rule_has_its_answer(change: dict[str, object], numbers: tuple[int, int, int], why: str) -> None:
    refused = refusal(replace(WELCOME, **change), SETTINGS)  # type: ignore[arg-type]
    assert refused is not None
    assert ((refused.result, refused.source, refused.diagnostic), refused.why) == (numbers, why)


def test_what_is_counted_names_nobody() -> None:
    stranger = replace(WELCOME, calling_ae_title="DR-SMITH", called_ae_title="ROOM-7")
    kinds = [
        refusal(stranger, settings).kind  # type: ignore[union-attr]
        for settings in (SETTINGS, SETTINGS.model_copy(update={"require_called_ae_title": False}))
    ]
    assert not any("SMITH" in kind or "ROOM" in kind for kind in kinds)


def test_without_a_list_any_calling_title_will_do_and_the_called_one_can_be_let_be() -> None:
    lenient = ReceiverSettings(require_called_ae_title=False)
    assert refusal(replace(WELCOME, calling_ae_title="ANY", called_ae_title="ANY"), lenient) is None
