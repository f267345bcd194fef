"""Asks the archives that send studies how many images there are, and remembers what they said.

In memory: after a restart they are asked again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from node import assembly
from node.assembly import Comparison
from node.ledger import Ledger
from node.query import QueryError
from node.records import OpenStudy, SeriesCount
from node.settings import SenderSettings

ASK_AFTER = timedelta(seconds=2)
"""Since the last image: in the middle of a transfer the answer would be of no use."""
ASK_AGAIN_AFTER = timedelta(seconds=10)

_log = logging.getLogger(__name__)

AskArchive = Callable[[SenderSettings, str], tuple[SeriesCount, ...]]
"""Sender and Study Instance UID to counts; raises ``QueryError``."""


@dataclass(frozen=True, slots=True)
class _Answer:
    about: datetime
    """When the last image had come that the answer was compared with."""
    asked_at: datetime
    comparison: Comparison | None
    """None where the archive did not tell."""


class Enquiries:
    """Each sender is asked in a thread of its own: ``ask``; anybody may look: ``known``."""

    def __init__(self, ledger: Ledger, ask_archive: AskArchive) -> None:
        self._ledger = ledger
        self._ask_archive = ask_archive
        self._lock = threading.Lock()
        self._answers: dict[int, _Answer] = {}

    def ask(self, sender: SenderSettings, now: Callable[[], datetime]) -> None:
        """Asks about every study of this sender that has paused, and forgets those that are closed."""
        studies = self._ledger.open_studies()
        self._forget_all_but({study.study_id for study in studies})
        for study in studies:
            if study.calling_ae_title == sender.ae_title and self._is_worth_asking(study, now()):
                self._ask_about(study, sender, now())

    def known(self, study: OpenStudy) -> Comparison | None:
        """What its archive said after its last image; None where it was not asked since, or did not tell."""
        with self._lock:
            answer = self._answers.get(study.study_id)
        return answer.comparison if answer is not None and answer.about == study.last_received_at else None

    def known_of(self, studies: Collection[OpenStudy]) -> Mapping[int, Comparison]:
        found = {study.study_id: self.known(study) for study in studies}
        return {study_id: known for study_id, known in found.items() if known is not None}

    def _is_worth_asking(self, study: OpenStudy, now: datetime) -> bool:
        with self._lock:
            answer = self._answers.get(study.study_id)
        if now - study.last_received_at < ASK_AFTER:
            return False
        return answer is None or answer.about != study.last_received_at or now - answer.asked_at >= ASK_AGAIN_AFTER

    def _ask_about(self, study: OpenStudy, sender: SenderSettings, now: datetime) -> None:
        came = self._ledger.series_counts(study.study_instance_uid)
        try:
            comparison = assembly.compare(came, self._ask_archive(sender, study.study_instance_uid))
        except QueryError as error:
            _log.warning("not told how many images there are: %s", error, extra={"study_id": study.study_id})
            comparison = None
        with self._lock:
            self._answers[study.study_id] = _Answer(study.last_received_at, now, comparison)

    def _forget_all_but(self, study_ids: Collection[int]) -> None:
        with self._lock:
            self._answers = {key: answer for key, answer in self._answers.items() if key in study_ids}
