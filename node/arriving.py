"""One object while its fragments come: in memory at first, in a file of the spool when it grows."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from node.dataset_header import uid_or_empty
from node.intake import DATA_SET_DOES_NOT_MATCH, OUT_OF_RESOURCES, Intake, SentObject, discard, file_header, refused
from node.records import Recorded
from node.spool import Draft, NoRoom

IN_MEMORY_BYTES = 2**18
"""An object that is bigger goes to the disk as it comes: a hundred senders of big objects need 25 MB, not 400 GB."""
_GROWTH_BYTES = 2**16


class TooBig(Exception):
    """The object has more bytes than receiver.maximum_object_mb allows."""


class Incoming(Protocol):
    """What a data set goes into while it comes: see ``Arriving``."""

    def room(self, wanted: int) -> memoryview: ...

    def filled(self, count: int) -> None: ...

    def end(self) -> tuple[int, Recorded | None]: ...

    def discard(self) -> None: ...


class Arriving:
    """Fill ``room()`` and say how much with ``filled()`` until the last fragment came; then ``end()`` or ``discard()``.

    Args:
        buffer: grows as needed, and can serve the next object; its content does not matter.
    """

    def __init__(self, intake: Intake, command: SentObject, *, maximum_bytes: int, buffer: bytearray) -> None:
        self._intake = intake
        self._command = command
        self._maximum_bytes = maximum_bytes
        self._buffer = buffer
        self._used = 0
        self._size_bytes = 0
        self._draft: Draft | None = None
        self._trouble: tuple[int, str] | None = None
        if not (uid_or_empty(command.sop_instance_uid) and uid_or_empty(command.sop_class_uid)):
            self._trouble = (DATA_SET_DOES_NOT_MATCH, "the SOP Class or Instance UID of the command is not valid")

    def room(self, wanted: int) -> memoryview:
        """Where the next bytes go: at most ``wanted``, at least 1. Release it before the next call."""
        if self._used == len(self._buffer):
            if self._used < IN_MEMORY_BYTES:
                self._buffer.extend(bytes(min(_GROWTH_BYTES, IN_MEMORY_BYTES - self._used)))
            else:
                self._empty()
        return memoryview(self._buffer)[self._used : self._used + wanted]

    def filled(self, count: int) -> None:
        """So many bytes were put into the last ``room()``.

        Raises:
            TooBig
        """
        self._used += count
        self._size_bytes += count
        if self._size_bytes > self._maximum_bytes:
            raise TooBig

    def _empty(self) -> None:
        """Writes the buffer to the draft; what fails here is answered when the object is whole, as DIMSE demands."""
        used, self._used = self._used, 0
        if self._trouble is not None:
            return
        try:
            if self._draft is None:
                self._draft = self._intake.draft()
                self._draft.write(file_header(self._command))
            self._draft.write(memoryview(self._buffer)[:used])
        except NoRoom as error:
            self._give_up(str(error))
        except OSError as error:
            self._give_up(f"the spool cannot be written: {error.strerror}")

    def _give_up(self, why: str) -> None:
        self._trouble = (OUT_OF_RESOURCES, why)
        self.discard()

    def end(self) -> tuple[int, Recorded | None]:
        """Keeps the object; the status to answer and what became of it, as ``Intake.keep``."""
        if self._draft is not None:
            self._empty()
        if self._trouble is not None:
            self.discard()
            return refused(self._command.calling_ae_title, *self._trouble)
        draft, self._draft = self._draft, None
        if draft is None:
            with memoryview(self._buffer)[: self._used] as dataset:
                return self._intake.keep(replace(self._command, dataset=dataset))
        try:
            content = draft.mapped()
        except OSError as error:
            discard(draft)
            return refused(self._command.calling_ae_title, OUT_OF_RESOURCES, f"the spool: {error.strerror}")
        begin = len(file_header(self._command))
        with content, memoryview(content) as whole, whole[begin:] as dataset:
            return self._intake.keep(replace(self._command, dataset=dataset), draft)

    def discard(self) -> None:
        """Leaves nothing behind; harmless when there is nothing."""
        if self._draft is not None:
            discard(self._draft)
            self._draft = None
