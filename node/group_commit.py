"""Images that arrive at the same time are written down in one transaction: one wait for the disk serves them all.

Each caller returns only after the COMMIT that holds its own image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from node.ledger_database import LedgerError, LedgerUnavailable
from node.records import ReceivedInstance, Recorded

MOST_TOGETHER = 64


class _Ticket:
    def __init__(self, instance: ReceivedInstance) -> None:
        self.instance = instance
        self.is_alone = False
        self.recorded: Recorded | None = None
        self.error: LedgerUnavailable | None = None


class GroupCommit:
    """Safe for any number of threads.

    Args:
        record: writes several images down in one transaction, or none of them; says what each is, in order.
    """

    def __init__(self, record: Callable[[Sequence[ReceivedInstance]], Sequence[Recorded]]) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._turn = threading.Lock()

    def record(self, instance: ReceivedInstance) -> Recorded:
        """As the function it was made with, for one image, and with the errors of that image alone."""
        ticket = _Ticket(instance)
        with self._lock:
            self._waiting.append(ticket)
        while ticket.recorded is None and ticket.error is None:
            with self._turn:  # while one thread waits for the disk, the others gather here
                if ticket.is_alone:
                    ticket.recorded = self._record([instance])[0]
                elif ticket.recorded is None and ticket.error is None:
                    self._record_those_who_wait()
        if ticket.error is not None:
            raise type(ticket.error)(*ticket.error.args)
        return ticket.recorded  # type: ignore[return-value]  # the loop ends with one or the other

    def _record_those_who_wait(self) -> None:
        with self._lock:
            together, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
        try:
            recorded = self._record([ticket.instance for ticket in together])
        except LedgerUnavailable as error:
            for ticket in together:
                ticket.error = error
        except LedgerError:
            if len(together) == 1:
                raise
        else:
            for ticket, what in zip(together, recorded, strict=True):
                ticket.recorded = what
        finally:
            for ticket in together:  # refused together: then each for itself, so that the one at fault stands alone
                ticket.is_alone = ticket.recorded is None and ticket.error is None
