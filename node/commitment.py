"""Storage Commitment SCU (PS3.4 annex J): asks an archive to commit itself to objects, over one association.

Knows no ledger. What the archive reports while the association lasts is handed on; it may as well report later, over an
association of its own, to the receiver.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
)

from node.association import Peer, SendError, associate, leave
from node.commitment_report import COMMITMENT_CLASS, COMMITMENT_INSTANCE, PROCESSING_FAILURE, SUCCESS
from node.retry import Failure

REQUEST_STORAGE_COMMITMENT = 1
"""Action type (PS3.4 table J.3-1)."""
NATIVE: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
LOOK_EVERY_S = 0.1
ANSWERED_WITHIN_S = 40
"""The ledger has noted a report, and the archive has read the answer."""
_STATUSES = {
    0x0110: "processing failure",
    0x0112: "no such SOP instance",
    0x0114: "no such argument",
    0x0115: "invalid argument value",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class-instance conflict",
    0x0123: "no such action",
    0x0124: "not authorized",
    0x0210: "duplicate invocation",
    0x0211: "unrecognized operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
}
"""Of an N-ACTION (PS3.7 section 10.1.4.1.10)."""

OnReport = Callable[[bytes, str, int], int]
"""Event Information, its transfer syntax and the event type to the status to answer."""


class NotOffered(SendError):
    """The archive offers no service by which it could prove anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """An object to commit to."""

    sop_class_uid: str
    sop_instance_uid: str


class Archive:
    """The archive at the other end of an association."""

    def __init__(self, association: Association) -> None:
        self._association = association
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        self.commits = COMMITMENT_CLASS in accepted
        self.answers_queries = StudyRootQueryRetrieveInformationModelFind in accepted

    @property
    def association(self) -> Association:
        """For queries."""
        return self._association

    def request(self, transaction_uid: str, references: Sequence[Reference]) -> str:
        """Asks for its commitment; empty when the archive took the request, else why it did not.

        Once for each association: the report about a first request could come in place of the answer to a second.
        """
        try:
            status, _ = self._association.send_n_action(
                _action_information(transaction_uid, references),
                REQUEST_STORAGE_COMMITMENT,
                UID(COMMITMENT_CLASS),
                UID(COMMITMENT_INSTANCE),
            )
        except (RuntimeError, ValueError):  # pynetdicom's words for an association that ended under us
            return "it ended the association"
        code = status.get("Status")
        if code is None:
            return "it ended the association or did not answer the request for storage commitment"
        if code != SUCCESS:
            said = _STATUSES.get(code, "unknown status")
            return f"it answered the request for storage commitment with 0x{code:04X} {said}"
        return ""

    def wait_until(self, is_enough: Callable[[], bool], within_s: float) -> None:
        """Keeps the association so that the archive may report on it, until that is enough or ``within_s`` are over."""
        deadline = time.monotonic() + within_s
        while self._association.is_established and time.monotonic() < deadline and not is_enough():
            time.sleep(LOOK_EVERY_S)


class _Door:
    """Between the reports and the release: pynetdicom answers each report in a thread of its own, and what it sends
    once the release is on its way breaks the protocol."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answering: list[threading.Thread] = []
        self._is_closed = False
        self.has_ended = threading.Event()

    def lets_in(self) -> bool:
        """In the thread of a report: whether it may be answered; if not, not before the association has ended."""
        with self._lock:
            if not self._is_closed:
                self._answering.append(threading.current_thread())
                return True
        self.has_ended.wait(ANSWERED_WITHIN_S)
        return False

    def close(self) -> None:
        """Returns when all reports are answered and none follows at once."""
        while (thread := self._next()) is not None:
            thread.join(ANSWERED_WITHIN_S)
            time.sleep(LOOK_EVERY_S)

    def _next(self) -> threading.Thread | None:
        with self._lock:
            if self._answering:
                return self._answering.pop()
            self._is_closed = True
            return None


@contextmanager
def association_with(peer: Peer, *, commitment: bool, queries: bool, on_report: OnReport) -> Iterator[Archive]:
    """An association that proposes the services named; released in the end.

    Raises:
        NotOffered: the archive accepts none of them.
        SendError: there is none, and why.
    """
    contexts = [build_context(UID(COMMITMENT_CLASS), NATIVE)] if commitment else []
    if queries:
        contexts.append(build_context(StudyRootQueryRetrieveInformationModelFind, NATIVE))

    door = _Door()

    def take_report(event: evt.Event) -> tuple[int, None]:
        if not door.lets_in():
            return PROCESSING_FAILURE, None  # to nobody, the association has ended: the archive reports again
        request: Any = event.request
        encoded = request.EventInformation.getvalue() if request.EventInformation is not None else b""
        return on_report(encoded, str(event.context.transfer_syntax), int(request.EventTypeID or 0)), None

    made = associate(peer, contexts, handlers=[(evt.EVT_N_EVENT_REPORT, take_report)])
    if isinstance(made, Failure):
        raise NotOffered(made.what) if made.class_refused else SendError(made.what)
    try:
        yield Archive(made)
    finally:
        door.close()
        try:
            leave(made)
        finally:
            door.has_ended.set()


def _action_information(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """PS3.4 table J.3-1."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    items = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = reference.sop_instance_uid
        items.append(item)
    information.ReferencedSOPSequence = DicomSequence(items)
    return information
