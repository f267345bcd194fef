"""Threads of pynetdicom that wait to be woken, where its own look a thousand times a second."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

WAKE_EVERY_S = 1.0


class Checkpoint(threading.Event):
    """Where pynetdicom's association thread comes by in each round: it waits here for news."""

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(WAKE_EVERY_S if timeout is None else timeout)
        self.clear()
        return True


class Announced(queue.Queue):  # type: ignore[type-arg]  # pynetdicom's hold several types
    """A queue that wakes the thread which looks into it only now and then."""

    def __init__(self, wake: Callable[[], object]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()
