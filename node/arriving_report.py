"""A report about a storage commitment while its fragments come, on an association that an archive made for it."""

from __future__ import annotations

from collections.abc import Callable

from node.arriving import TooBig
from node.records import Recorded

MAXIMUM_BYTES = 2**18
"""A report about the largest request of ours (200 references) has 30 KB."""
_GROWTH_BYTES = 2**14


class ArrivingReport:
    """Used as ``arriving.Arriving`` is.

    Args:
        answer: what is to be done with the whole of it; gives the status to answer.
    """

    def __init__(self, answer: Callable[[bytes], int]) -> None:
        self._answer = answer
        self._buffer = bytearray()
        self._used = 0

    def room(self, wanted: int) -> memoryview:
        """Where the next bytes go: at most ``wanted``, at least 1. Release it before the next call."""
        if self._used == len(self._buffer):
            self._buffer.extend(bytes(_GROWTH_BYTES))
        return memoryview(self._buffer)[self._used : self._used + wanted]

    def filled(self, count: int) -> None:
        """So many bytes were put into the last ``room()``.

        Raises:
            TooBig
        """
        self._used += count
        if self._used > MAXIMUM_BYTES:
            raise TooBig

    def end(self) -> tuple[int, Recorded | None]:
        """The status to answer; it is no object, so nothing was recorded of one."""
        return self._answer(bytes(self._buffer[: self._used])), None

    def discard(self) -> None:
        """It did not come whole: nothing is left of it."""
        self._buffer, self._used = bytearray(), 0
