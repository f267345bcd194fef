"""What the operator is told of dead letters, and what becomes of them on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from pydicom.uid import UID

from node.ledger import Ledger, UnknownStudy
from node.overview import ledger_of
from node.records import Delivery
from node.settings import Settings

EVERY = 1_000_000
AT_ONCE = 1000
"""Letters in one transaction: it must not hold up the receiver's."""


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
        unproven = _chosen(ledger, chosen, _never_proven(ledger, settings))
        lines = [line for _, same in groupby(letters, key=_together) for line in _lines(list(same))]
        of_gone = [line for _, same in groupby(unproven, key=_together) for line in _lines(list(same))]
    if not letters and not unproven:
        return "no dead letters"
    head = f"{len(letters)} dead letters (results that did not reach an archive; they stay here until you decide):"
    says = "taken, and never proven, by an archive that is not in the settings any more; redirect or discard them:"
    return "\n".join(
        [
            *([head, *lines] if letters else []),
            *([f"{_count(len(unproven))} {says}", *of_gone] if unproven else []),
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
    sent = there = 0
    with ledger_of(settings) as ledger:
        for numbers in _parts(_numbers(ledger, chosen, _never_proven(ledger, settings))):
            now = datetime.now(UTC)
            more = ledger.dead_letters.redirect(numbers, archive=to, now=now, known=known)
            sent, there = sent + more[0], there + more[1]
    if not sent and not there:
        raise NoSuchLetters(f"they are letters to {to} itself: retry sends them again")
    told = [f"{_count(sent)} sent to {to} instead"] if sent else []
    return "; ".join(told + ([f"{_count(there)} already there, or on the way to {to}"] if there else []))


def discard(settings: Settings, chosen: Chosen) -> str:
    """Take letters off the list, and what an archive that is gone has never proved; results and images stay in the
    spool.

    Raises:
        NoSuchLetters
    """
    with ledger_of(settings) as ledger:
        known = [archive.name for archive in settings.archives]
        why, now = "discarded by the operator", datetime.now(UTC)
        meant = _parts(_numbers(ledger, chosen, _never_proven(ledger, settings)))
        gone = sum(ledger.dead_letters.discard(numbers, why=why, now=now, known=known) for numbers in meant)
    return f"{_count(gone)} taken off the list; the results stay in the spool"


def _never_proven(ledger: Ledger, settings: Settings) -> Sequence[Delivery]:
    return ledger.dead_letters.never_proven([archive.name for archive in settings.archives], limit=EVERY)


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """For one transaction each."""
    return (numbers[first : first + AT_ONCE] for first in range(0, len(numbers), AT_ONCE))


def _numbers(ledger: Ledger, chosen: Chosen, also: Sequence[Delivery] = ()) -> list[int]:
    letters = _chosen(ledger, chosen, [*ledger.dead_letters.listed(limit=EVERY), *also])
    if not letters:
        raise NoSuchLetters("no dead letter is meant; `spinenode dead-letters` lists them with their numbers")
    return [letter.delivery_id for letter in letters]


def _chosen(ledger: Ledger, chosen: Chosen, of: Sequence[Delivery] | None = None) -> list[Delivery]:
    """Of the dead letters, where nothing else is given."""
    letters = ledger.dead_letters.listed(limit=EVERY) if of is None else of
    studies = _studies(ledger, chosen.study, letters)
    return [
        letter
        for letter in letters
        if (not chosen.numbers or any(letter.delivery_id in numbers for numbers in chosen.numbers))
        and (studies is None or letter.study_id in studies)
        and chosen.archive in ("", letter.archive)
    ]


def _studies(ledger: Ledger, study: str, letters: Sequence[Delivery]) -> set[int] | None:
    """Numbers of the generations that a study's number or UID means; None for any."""
    if not study:
        return None
    if study.isdigit():
        return {int(study)}
    return {letter.study_id for letter in letters if _is(ledger, letter, study)}


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
