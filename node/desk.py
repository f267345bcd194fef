"""The desk of the Storage SCP: who is in, who may come in, and where what they bring goes.

Log lines name AE titles and addresses, never a patient, a study or an instance.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections import Counter

from pynetdicom import evt
from pynetdicom.association import Association

from node import admission, commitment_report
from node.arriving import Arriving, Incoming
from node.arriving_report import ArrivingReport
from node.commitment_report import Filing
from node.dimse import N_EVENT_REPORT_RQ, Command, uid_text
from node.front_door import Caller
from node.intake import SUCCESS, Intake, SentObject
from node.records import Recorded
from node.refusals import Refusals
from node.settings import ReceiverSettings

MORE_CONNECTIONS = 20
"""Beyond the limits of associations: room to tell a few more peers that there is none."""
ASSOCIATIONS_BETWEEN_COLLECTIONS = 20

_log = logging.getLogger(__name__)


class Desk:
    """Keeps the list of those who are in, and takes what they bring."""

    def __init__(self, intake: Intake, filing: Filing, settings: ReceiverSettings) -> None:
        self._intake = intake
        self._filing = filing
        self._settings = settings
        self.refusals = Refusals()
        self._lock = threading.Lock()
        self._inside: set[Caller] = set()
        self._open: dict[Association, Caller] = {}
        self._tallies: dict[Association, Counter[str]] = {}
        self._ended = 0

    # Coming and going.

    def enter(self, caller: Caller) -> bool:
        """Whether there is room for one more connection."""
        with self._lock:
            same = sum(other.address == caller.address for other in self._inside)
            if (
                len(self._inside) >= self._settings.maximum_associations + MORE_CONNECTIONS
                or same >= self._settings.maximum_associations_per_address + MORE_CONNECTIONS
            ):
                return False
            self._inside.add(caller)
            return True

    def leave(self, caller: Caller) -> None:
        """Of one whose association did not start."""
        with self._lock:
            self._inside.discard(caller)
            for association in [begun for begun, its_caller in self._open.items() if its_caller is caller]:
                del self._open[association], self._tallies[association]

    def watch(self, association: Association, caller: Caller) -> None:
        with self._lock:
            self._open[association] = caller
            self._tallies[association] = Counter()
        association.bind(evt.EVT_REQUESTED, self._on_request)
        association.bind(evt.EVT_RELEASED, self._on_end, ["released"])
        association.bind(evt.EVT_ABORTED, self._on_end, ["aborted"])

    def ended(self, association: Association) -> None:
        with self._lock:
            self._tallies.pop(association, None)
            caller = self._open.pop(association, None)
            if caller is not None:
                self._inside.discard(caller)
            self._ended += 1
            is_time_to_tidy = self._ended % ASSOCIATIONS_BETWEEN_COLLECTIONS == 0
        if is_time_to_tidy:
            gc.collect()  # pynetdicom's associations are circles, which Python leaves lying about for long

    def associations(self) -> list[Association]:
        with self._lock:
            return list(self._open)

    # Objects.

    def begin(
        self, association: Association, command: Command, transfer_syntax_uid: str, buffer: bytearray
    ) -> Incoming:
        if command.field == N_EVENT_REPORT_RQ:
            return self._begin_report(association, command, transfer_syntax_uid)
        sent = SentObject(
            dataset=memoryview(b""),
            sop_class_uid=uid_text(command.sop_class_uid),
            sop_instance_uid=uid_text(command.sop_instance_uid),
            transfer_syntax_uid=transfer_syntax_uid,
            calling_ae_title=association.requestor.ae_title,
        )
        most = self._settings.maximum_object_mb * 2**20
        return Arriving(self._intake, sent, maximum_bytes=most, buffer=buffer)

    def _begin_report(self, association: Association, command: Command, transfer_syntax_uid: str) -> Incoming:
        def answer(encoded: bytes) -> int:
            sent_by = association.requestor.ae_title
            return commitment_report.answer(
                encoded, transfer_syntax_uid, command.event_type, sent_by=sent_by, filing=self._filing
            )

        return ArrivingReport(answer)

    def answered(self, association: Association, status: int, recorded: Recorded | None) -> None:
        if status != SUCCESS:
            self.refusals.count(f"answered with 0x{status:04X}")
        what = "refused" if status != SUCCESS else "reports" if recorded is None else recorded.value
        self._tallies[association][what] += 1

    def breach(self, association: Association, why: str) -> None:
        """Of the protocol; it ends the association. Health checks that speak HTTP make one every second."""
        with self._lock:
            caller = self._open.get(association)
        title, address = _calling_ae_title(association), caller.address if caller else "?"
        peer = f"{title!r} at {address}" if title else str(address)
        self.refusals.note(peer, f"association ended: {why}", kind="ended for a breach of the protocol")

    # Events of pynetdicom.

    def _on_request(self, event: evt.Event) -> None:
        association = event.assoc
        asked = association.requestor.primitive
        if asked is None:
            return
        with self._lock:
            caller = self._open[association]
            others = [other for other in self._open.values() if other is not caller]
            titles = [_calling_ae_title(other) for other in self._open if other is not association]
        calling_ae_title = asked.calling_ae_title.strip()
        request = admission.Request(
            calling_ae_title=calling_ae_title,
            called_ae_title=asked.called_ae_title.strip(),
            open_associations=len(others),
            open_of_this_address=sum(other.address == caller.address for other in others),
            open_of_this_title=titles.count(calling_ae_title),
            has_room=self._intake.has_room(),
        )
        if refused := admission.refusal(request, self._settings):
            peer = f"association of {request.calling_ae_title!r} at {caller.address} refused"
            self.refusals.note(peer, refused.why, kind=refused.kind)
            association.acse.send_reject(refused.result, refused.source, refused.diagnostic)
            association.kill()  # returns when the peer was told

    def _on_end(self, event: evt.Event, how: str) -> None:
        """One line about what an association has brought."""
        association = event.assoc
        tally = self._tallies.get(association, Counter())
        if tally or how == "aborted":
            brought = ", ".join(f"{tally[what]} {what}" for what in (*Recorded, "reports", "refused") if tally[what])
            requestor = association.requestor
            _log.info(
                "association of %r at %s %s: %s", requestor.ae_title, requestor.address, how, brought or "nothing"
            )


def _calling_ae_title(association: Association) -> str | None:
    """None where it has not asked yet."""
    asked = association.requestor.primitive
    return asked.calling_ae_title.strip() if asked is not None else None
