"""Looks at the node again and again, and keeps what it saw last: the one place where monitoring reads the ledger.

A thread of its own looks, so that whoever asks is answered at once from what was seen last, even while a database that
is away holds the looking up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from node import health, lifesigns, logs, metrics
from node.health import Backlog, Check
from node.latencies import Totals
from node.ledger_database import Database, LedgerError, open_database
from node.ledger_figures import Counts, Figures
from node.ledger_notices import Notices
from node.ledger_totals import RunningTotals
from node.notices import Casualties, NoticeState
from node.room import free_bytes
from node.settings import Settings

LOOK_EVERY_S = 5.0
FRESH_FOR_S = 1.0
"""What was seen this recently answers a question; older, and another look is waited for."""
WAIT_FOR_A_LOOK_S = 2.0
HANGS_AFTER_S = 20.0
"""A look that takes longer than this means that the database does not answer."""

logger = logging.getLogger(__name__)

Now = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one look read from the ledger."""

    backlog: Backlog
    counts: Counts
    totals: Totals | None
    dead_letters: Mapping[str, Casualties]
    failed_studies: Casualties | None
    notices: Mapping[tuple[str, NoticeState], int]


class Watch:
    """Looks in the background from ``start`` on.

    Args:
        after_look: called by the looking thread after each look that could read the ledger, with its database.
    """

    def __init__(self, settings: Settings, now: Now, after_look: Callable[[Database], None]) -> None:
        self._settings = settings
        self._now = now
        self._after_look = after_look
        self._began = time.monotonic()
        self._eyes: _Eyes | None = None
        self._seen = threading.Condition()
        self._asked = threading.Event()
        self._stopped = False
        self._reading: Reading | None = None
        self._read_at: float | None = None
        self._looked_at = self._began
        self._has_looked = False
        self._trouble = ""

    def start(self) -> None:
        threading.Thread(target=self._look_for_ever, name="watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped = True
        self._asked.set()

    def refresh(self) -> None:
        """Wait a moment for a look that is not older than this question, if the last one is."""
        if self._has_looked and time.monotonic() - self._looked_at < FRESH_FOR_S:
            return
        with self._seen:
            before = self._looked_at
            self._asked.set()
            self._seen.wait_for(lambda: self._looked_at > before, timeout=WAIT_FOR_A_LOOK_S)

    def reading(self) -> Reading | None:
        """What was read last; None while the ledger cannot be read."""
        return None if self._trouble_now() else self._reading

    def checks(self) -> tuple[Check, ...]:
        """The health of the node as it is now: processes and disk are looked at, the ledger as it was read last."""
        trouble = self._trouble_now()
        reading = self._reading
        seen = health.Seen(
            backlog=None if trouble or reading is None else reading.backlog,
            ledger_trouble=trouble,
            free_bytes=free_bytes(self._settings),
            parts=self._parts(),
            up_s=time.monotonic() - self._began,
        )
        return health.judge(seen, self._settings, self._now())

    def picture(self) -> metrics.Picture:
        """What the metrics are made of."""
        reading = self.reading()
        return metrics.Picture(
            version=version("spinenode"),
            now=self._now(),
            read_s_ago=None if self._read_at is None else time.monotonic() - self._read_at,
            counts=reading.counts if reading else None,
            backlog=reading.backlog if reading else None,
            totals=reading.totals if reading else None,
            notices=reading.notices if reading else {},
            checks=self.checks(),
            parts=self._parts(),
            silent_after_s=self._settings.monitoring.silent_after_s,
            free_bytes=free_bytes(self._settings),
            watermark_bytes=health.disk_watermark_mb(self._settings) * 2**20,
            archives=tuple(archive.name for archive in self._settings.archives),
        )

    def _parts(self) -> tuple[lifesigns.Sign, ...]:
        return lifesigns.read(self._settings.node.data_dir)

    def _trouble_now(self) -> str:
        waiting_s = time.monotonic() - self._looked_at
        if waiting_s > HANGS_AFTER_S:
            return f"it has not answered for {waiting_s:.0f} s"
        return self._trouble

    def _look_for_ever(self) -> None:
        while not self._stopped:
            self._look()
            self._asked.wait(LOOK_EVERY_S)
            self._asked.clear()
        if self._eyes is not None:
            self._eyes.database.close()

    def _look(self) -> None:
        try:
            if self._eyes is None:
                self._eyes = _Eyes(open_database(self._settings.database_url))
            reading = self._eyes.read(self._now())
            self._note(reading, "")
            self._after_look(self._eyes.database)
        except LedgerError as error:
            self._note(None, str(error))
        except Exception as error:  # a watchman does not fall asleep: what cannot be read, for whatever reason, is red
            if not self._trouble:
                logger.exception("the ledger cannot be looked at")
            self._note(None, _sentence(error))

    def _note(self, reading: Reading | None, trouble: str) -> None:
        if trouble and not self._trouble:
            logger.error("the ledger cannot be read: %s", trouble)
        elif self._trouble and not trouble:
            logger.info("the ledger can be read again")
        with self._seen:
            self._looked_at, self._has_looked = time.monotonic(), True
            self._trouble = trouble
            if reading is not None:
                self._reading, self._read_at = reading, self._looked_at
            self._seen.notify_all()


def _sentence(error: Exception) -> str:
    return f"{error.strerror} ({logs.place(error)})" if isinstance(error, OSError) else logs.place(error)


class _Eyes:
    """What reads the ledger, once it could be opened."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._figures = Figures(database)
        self._totals = RunningTotals(database)
        self._notices = Notices(database)

    def read(self, now: datetime) -> Reading:
        return Reading(
            backlog=self._figures.backlog(),
            counts=self._figures.counts(),
            totals=self._totals.advance(now),
            dead_letters=self._figures.dead_letters(),
            failed_studies=self._figures.failed_studies(),
            notices=self._notices.counts(),
        )
