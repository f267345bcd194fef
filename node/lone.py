"""Being the only process with a task: a lock that the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from typing import IO

TRY_EVERY_S = 0.1


def wait_for_lock(
    file: IO[str], stop: threading.Event, on_waiting: Callable[[], object] = lambda: None, every_s: float = TRY_EVERY_S
) -> bool:
    """Lock ``file`` (flock) until it is closed; False when ``stop`` was set first.

    ``on_waiting`` is called once where somebody else holds it.
    """
    told = False
    while not stop.is_set():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                on_waiting()
            told = True
            stop.wait(every_s)
        else:
            return True
    return False
