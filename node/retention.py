"""Deletes what is proven long enough: images first, results later, what the ledger knows last. Nothing else, ever.

A full disk does not change when: the receiver refuses, and the operator makes room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from node.ledger import Ledger
from node.settings import Settings
from node.spool import Spool

logger = logging.getLogger(__name__)

BATCH = 100
"""Studies at a look."""
LOOK_EVERY_S = 600.0
"""Where the shortest of the times is days."""
REQUESTS_DAYS = 30
"""Requests for storage commitment that nobody answered are remembered so long for a late answer."""


def look_every_s(settings: Settings) -> float:
    """How often to look: as often as makes sense where the times are short, as in a trial."""
    return max(1.0, min(LOOK_EVERY_S, settings.retention.images_days * 86400 / 10))


class Keeper:
    """Looks again and again at what may go. ``look`` is a tick."""

    def __init__(self, settings: Settings, ledger: Ledger, spool: Spool, now: Callable[[], datetime]) -> None:
        self._wanted = settings.retention
        self._retention = ledger.retention
        self._spool = spool
        self._now = now
        unproving = tuple(archive.name for archive in settings.archives if archive.proof == "none")
        self._trusted = unproving if settings.retention.without_proof else ()
        self._unproving = () if settings.retention.without_proof else unproving
        self._is_first_look = True
        self._is_left_over = True

    def look(self) -> None:
        """Takes one step further with every study whose time has come."""
        if self._is_first_look:
            self._say_what_never_goes()
            self._is_first_look = False
        if self._wanted.keep_everything:
            return
        if self._is_left_over:
            self._remove(self._retention.left_over(limit=1000 * BATCH))
        self._retention.forget_requests(self._now() - timedelta(days=REQUESTS_DAYS))
        self._purge_images()
        self._purge_results()
        self._forget()

    def _say_what_never_goes(self) -> None:
        if self._wanted.keep_everything:
            logger.info("retention.keep_everything: nothing is ever deleted")
        for name in self._unproving if not self._wanted.keep_everything else ():
            logger.warning(
                'proof = "none": studies whose results go to this archive are never deleted, unless '
                "retention.without_proof is set",
                extra={"archive": name},
            )

    def _before(self, days: float) -> datetime:
        return self._now() - timedelta(days=days)

    def _purge_images(self) -> None:
        before = self._before(self._wanted.images_days)
        studies = self._retention.with_images(before, trusted=self._trusted, limit=BATCH)
        count = 0
        for study in studies:
            paths = self._retention.purge_images(study, before, trusted=self._trusted, now=self._now())
            self._remove(paths)
            count += len(paths)
        if count:
            logger.info("deleted %d images of %d studies that are proven", count, len(studies))

    def _purge_results(self) -> None:
        before = self._before(self._wanted.results_days)
        for study in self._retention.with_results(before, trusted=self._trusted, limit=BATCH):
            self._remove(self._retention.purge_results(study, before, trusted=self._trusted, now=self._now()))

    def _forget(self) -> None:
        before = self._before(self._wanted.rows_days)
        for study in self._retention.with_rows(before, trusted=self._trusted, limit=BATCH):
            self._retention.forget(study, before, trusted=self._trusted)

    def _remove(self, paths: Sequence[Path]) -> None:
        """Deletes files that the ledger holds to be deleted, and has it know when they are."""
        self._is_left_over = True  # until the ledger knows
        try:
            self._spool.remove_all(paths)
        except OSError as error:
            logger.error("files cannot be deleted, tried again at the next look: %s", error.strerror)
            return
        if paths:
            self._retention.removed(paths)
        self._is_left_over = False
