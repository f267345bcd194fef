"""Asks the archives that send studies how many images there are, and remembers what they said.

In memory: after a restart they are asked again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from node import assembly
from node.assembly import Comparison, Untold
from node.ledger import Ledger
from node.query import QueryError
from node.records import ArchiveCounts, OpenStudy
from node.settings import SenderSettings

ASK_AFTER = timedelta(seconds=2)
"""Since the last image: in the middle of a transfer the answer would be of no use."""
ASK_AGAIN_AFTER = timedelta(seconds=10)
ANSWER_WITHIN = timedelta(seconds=60)
"""A study that would close by other rules waits so long for the first answer: longer than a query that fails takes."""
_AWAITED = "the sending archive did not answer in time"

_log = logging.getLogger(__name__)

AskArchive = Callable[[SenderSettings, str], ArchiveCounts]
"""Sender and Study Instance UID to counts; raises ``QueryError``."""


@dataclass(frozen=True, slots=True)
class _Answer:
    about: datetime
    """When the last image had come that the answer was compared with."""
    asked_at: datetime
    comparison: Comparison | Untold
    told: ArchiveCounts | None
    """None: it could not be asked."""
    told_since: datetime
    """When it was first asked to tell this of these images."""


class Enquiries:
    """Each sender is asked in a thread of its own: ``ask``; the thread that closes studies looks: ``known_of``."""

    def __init__(
        self, ledger: Ledger, ask_archive: AskArchive, *, ae_titles: Collection[str], count_confirmed_s: float
    ) -> None:
        """``ae_titles`` of the senders that are asked; again after ``count_confirmed_s``, where it may end a study."""
        self._ledger = ledger
        self._ask_archive = ask_archive
        self._ae_titles = frozenset(ae_titles)
        self._confirmed_after = timedelta(seconds=count_confirmed_s)
        self._lock = threading.Lock()
        self._answers: dict[int, _Answer] = {}
        self._awaited_since: dict[tuple[int, datetime], datetime] = {}

    def ask(self, sender: SenderSettings, now: Callable[[], datetime]) -> None:
        """Asks about every study of this sender that has paused, and forgets those that are closed."""
        studies = self._ledger.open_studies()
        self._forget_all_but({study.study_id for study in studies})
        for study in studies:
            if study.calling_ae_title == sender.ae_title and self._is_worth_asking(study, now()):
                self._ask_about(study, sender, now())

    def known_of(self, studies: Collection[OpenStudy], now: datetime) -> Mapping[int, Comparison | Untold]:
        """Of the studies that have an archive to ask: what it said after their last image."""
        asked = [study for study in studies if study.calling_ae_title in self._ae_titles]
        keys = {(study.study_id, study.last_received_at) for study in asked}
        # from the first look, not from the last image: after a restart they have not been asked either
        self._awaited_since = {key: self._awaited_since.get(key, now) for key in keys}
        return {study.study_id: self._known(study, now) for study in asked}

    def _known(self, study: OpenStudy, now: datetime) -> Comparison | Untold:
        with self._lock:
            answer = self._answers.get(study.study_id)
        if answer is not None and answer.about == study.last_received_at:
            return answer.comparison
        waited = now - self._awaited_since[study.study_id, study.last_received_at]
        return Untold(why=_AWAITED, awaited=waited < ANSWER_WITHIN)

    def _is_worth_asking(self, study: OpenStudy, now: datetime) -> bool:
        with self._lock:
            answer = self._answers.get(study.study_id)
        if now - study.last_received_at < ASK_AFTER:
            return False
        return answer is None or answer.about != study.last_received_at or now >= self._again_at(answer)

    def _again_at(self, answer: _Answer) -> datetime:
        again, confirmed = answer.asked_at + ASK_AGAIN_AFTER, answer.told_since + self._confirmed_after
        return min(again, confirmed) if confirmed > answer.asked_at else again

    def _ask_about(self, study: OpenStudy, sender: SenderSettings, now: datetime) -> None:
        came = self._ledger.series_counts(study.study_instance_uid)
        told: ArchiveCounts | None = None
        comparison: Comparison | Untold
        try:
            told = self._ask_archive(sender, study.study_instance_uid)
            comparison = assembly.compare(came, told)
        except QueryError as error:
            _log.warning("not told how many images there are: %s", error, extra={"study_id": study.study_id})
            comparison = Untold(why=f"the sending archive could not be asked: {error}")
        since = self._told_since(study, told, now)
        if isinstance(comparison, Comparison):
            comparison = replace(comparison, told_for_s=(now - since).total_seconds())
        with self._lock:
            self._answers[study.study_id] = _Answer(study.last_received_at, now, comparison, told, since)

    def _told_since(self, study: OpenStudy, told: ArchiveCounts | None, now: datetime) -> datetime:
        with self._lock:
            before = self._answers.get(study.study_id)
        if before is None or before.about != study.last_received_at or told is None or before.told is None:
            return now
        is_same = before.told.study == told.study and set(before.told.series) == set(told.series)
        return before.told_since if is_same else now

    def _forget_all_but(self, study_ids: Collection[int]) -> None:
        with self._lock:
            self._answers = {key: answer for key, answer in self._answers.items() if key in study_ids}
