"""What the operator is told of dead letters, and what becomes of them on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from pydicom.uid import UID

from node.ledger import Ledger, UnknownStudy
from node.overview import ledger_of
from node.records import Delivery
from node.settings import Settings

EVERY = 1_000_000


class NoSuchLetters(Exception):
    """Nothing on the list is meant, or it cannot go where it should; the message says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """Which dead letters are meant: those that all of the given words hold for."""

    numbers: tuple[range, ...] = ()
    """Of letters, as the list shows them; empty: any."""
    study: str = ""
    """Its number or its Study Instance UID; empty: any."""
    archive: str = ""
    """Empty: any."""


def shown(settings: Settings, chosen: Chosen) -> str:
    """The list: a line for the letters of a study and archive that ended with the same words, and how to go on."""
    with ledger_of(settings) as ledger:
        letters = _chosen(ledger, chosen)
        lines = [line for _, same in groupby(letters, key=_together) for line in _lines(list(same))]
    if not letters:
        return "no dead letters"
    return "\n".join(
        [
            f"{len(letters)} dead letters (results that did not reach an archive; they stay here until you decide):",
            *lines,
            "",
            "try again:            spinenode dead-letters retry NUMBER... | --study STUDY | --archive NAME | --all",
            "to another archive:   spinenode dead-letters redirect --to NAME NUMBER... | ...",
            "take off the list:    spinenode dead-letters discard NUMBER... | ...",
        ]
    )


def retry(settings: Settings, chosen: Chosen) -> str:
    """Have letters sent again, at once.

    Raises:
        NoSuchLetters
    """
    now = datetime.now(UTC)
    with ledger_of(settings) as ledger:
        numbers = _numbers(ledger, chosen)
        known = {archive.name for archive in settings.archives}
        if gone := sorted({letter.archive for letter in _chosen(ledger, chosen)} - known):
            named = ", ".join(gone)
            raise NoSuchLetters(f"no archive {named} in the settings any more: redirect or discard its letters")
        tried = ledger.dead_letters.retry(numbers, now=now)
        ledger.archives.ask_at_once(now=now)
    return f"{_count(tried)} sent again now; `spinenode status` shows how it goes"


def redirect(settings: Settings, chosen: Chosen, to: str) -> str:
    """Have the results of letters sent to another archive instead.

    Raises:
        NoSuchLetters
    """
    known = [archive.name for archive in settings.archives]
    if to not in known:
        raise NoSuchLetters(f"no archive {to!r} in the settings (known: {', '.join(known) or 'none is set'})")
    with ledger_of(settings) as ledger:
        moved = ledger.dead_letters.redirect(_numbers(ledger, chosen), archive=to, now=datetime.now(UTC))
    if not moved:
        raise NoSuchLetters(f"they are letters to {to} itself: retry sends them again")
    return f"{_count(moved)} sent to {to} instead"


def discard(settings: Settings, chosen: Chosen) -> str:
    """Take letters off the list; results and images stay in the spool.

    Raises:
        NoSuchLetters
    """
    with ledger_of(settings) as ledger:
        numbers = _numbers(ledger, chosen)
        gone = ledger.dead_letters.discard(numbers, why="discarded by the operator", now=datetime.now(UTC))
    return f"{_count(gone)} taken off the list; the results stay in the spool"


def _numbers(ledger: Ledger, chosen: Chosen) -> list[int]:
    letters = _chosen(ledger, chosen)
    if not letters:
        raise NoSuchLetters("no dead letter is meant; `spinenode dead-letters` lists them with their numbers")
    return [letter.delivery_id for letter in letters]


def _chosen(ledger: Ledger, chosen: Chosen) -> list[Delivery]:
    studies = _studies(ledger, chosen.study)
    return [
        letter
        for letter in ledger.dead_letters.listed(limit=EVERY)
        if (not chosen.numbers or any(letter.delivery_id in numbers for numbers in chosen.numbers))
        and (studies is None or letter.study_id in studies)
        and chosen.archive in ("", letter.archive)
    ]


def _studies(ledger: Ledger, study: str) -> set[int] | None:
    """Numbers of the generations that a study's number or UID means; None for any."""
    if not study:
        return None
    if study.isdigit():
        return {int(study)}
    return {letter.study_id for letter in ledger.dead_letters.listed(limit=EVERY) if _is(ledger, letter, study)}


def _is(ledger: Ledger, letter: Delivery, study_instance_uid: str) -> bool:
    try:
        return ledger.study(letter.study_id).study_instance_uid == study_instance_uid
    except UnknownStudy:
        return False


def _together(letter: Delivery) -> tuple[int, str, str]:
    return letter.study_id, letter.archive, letter.last_status


def _lines(same: Sequence[Delivery]) -> list[str]:
    first = same[0]
    classes = list(dict.fromkeys(UID(letter.sop_class_uid).name.removesuffix(" Storage") for letter in same))
    attempts = max(letter.attempts for letter in same)
    head = f"{_spans([letter.delivery_id for letter in same]):>8}  study {first.study_id} to {first.archive}"
    return [
        f"{head}: {_count(len(same))}, {', '.join(classes)}",
        f"          after {attempts} attempt{'' if attempts == 1 else 's'}: {first.last_status or 'no word'}",
    ]


def _spans(numbers: Sequence[int]) -> str:
    """``3-5,8`` for 3, 4, 5 and 8."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ",".join("-".join(map(str, span)) for span in spans)


def _count(number: int) -> str:
    return "1 result" if number == 1 else f"{number} results"
