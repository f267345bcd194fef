"""Who was turned away, and how often: one log line for each peer and reason in a while, and a count of all."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

SAY_AGAIN_AFTER_S = 60.0
MOST_REMEMBERED = 1000
"""Peers and reasons; a peer that calls itself another name each time makes the table begin anew."""

_log = logging.getLogger(__name__)


class Refusals:
    """Safe for any number of threads. ``peer`` is an AE title or an address, never a patient."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()
        self._said: dict[tuple[str, str], float] = {}
        self._unsaid: Counter[tuple[str, str]] = Counter()

    def note(self, peer: str, why: str, *, kind: str = "") -> None:
        """Counts a refusal under ``kind`` (or ``why``), and logs it unless the same was logged a moment ago."""
        with self._lock:
            self._counts[kind or why] += 1
            now = self._clock()
            key = (peer, why)
            if now - self._said.get(key, -SAY_AGAIN_AFTER_S) < SAY_AGAIN_AFTER_S:
                self._unsaid[key] += 1
                return
            if len(self._said) >= MOST_REMEMBERED:
                self._said.clear()
                self._unsaid.clear()
            self._said[key] = now
            kept_quiet = self._unsaid.pop(key, 0)
        more = f" ({kept_quiet} more of these since it was last said)" if kept_quiet else ""
        _log.warning("%s: %s%s", peer, why, more)

    def count(self, kind: str) -> None:
        """Counts what has been logged already."""
        with self._lock:
            self._counts[kind] += 1

    def take(self) -> Mapping[str, int]:
        """The counts since they were last taken."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
            self._taken += taken
        return dict(taken)

    def all(self) -> Mapping[str, int]:
        """The counts since the beginning."""
        with self._lock:
            return dict(self._taken + self._counts)
