"""An archive for tests that stores, commits itself to what it holds, answers queries, and misbehaves as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

AE_TITLE = "COMMITTER"
QUERIES = StudyRootQueryRetrieveInformationModelFind
NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


@dataclass(kw_only=True)
class Request:
    """What it was asked to commit itself to."""

    transaction_uid: str
    references: list[tuple[str, str]]
    """SOP class and instance."""
    association: object
    """Of the request."""

    @property
    def uids(self) -> list[str]:
        return [uid for _, uid in self.references]


Behaviour = Callable[["Archive", Request], None]


@dataclass(kw_only=True)
class Archive:
    """What it holds and was asked."""

    port: int = 0
    held: dict[str, Dataset] = field(default_factory=dict)
    """SOP Instance UID -> object."""
    stores: list[str] = field(default_factory=list)
    """SOP Instance UID of each C-STORE."""
    requests: list[Request] = field(default_factory=list)
    queries: int = 0
    answers: list[int | None] = field(default_factory=list)
    """Statuses of its reports' answers; None where there was no answer."""
    loses: set[str] = field(default_factory=set)
    """SOP Instance UIDs that it says to have stored, and has not, each time."""

    behave: Behaviour
    action_status: int
    aborts_at_request: bool

    def on_store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.stores.append(uid)
        if uid not in self.loses:
            self.held[uid] = event.dataset
        return 0x0000

    def on_action(self, event: evt.Event) -> tuple[int, None]:
        if self.aborts_at_request:
            event.assoc.abort()
            return 0x0110, None
        information = event.action_information
        request = Request(
            transaction_uid=str(information.TransactionUID),
            references=[
                (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                for item in information.ReferencedSOPSequence
            ],
            association=event.assoc,
        )
        self.requests.append(request)
        if self.action_status == 0x0000:
            threading.Thread(target=self.behave, args=(self, request), daemon=True).start()
        return self.action_status, None

    def on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.queries += 1
        question = event.identifier
        for uid, item in list(self.held.items()):
            keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
            if all(not question.get(key) or str(question.get(key)) == str(item.get(key)) for key in keys):
                answer = Dataset()
                answer.QueryRetrieveLevel = "IMAGE"
                answer.SOPInstanceUID = uid
                yield 0xFF00, answer

    def wait_for_answers(self, count: int, within_s: float = 10) -> None:
        deadline = time.monotonic() + within_s
        while len(self.answers) < count:
            assert time.monotonic() < deadline, f"{len(self.answers)} of {count} reports were answered"
            time.sleep(0.02)


def committed(archive: Archive, request: Request) -> Dataset:
    """The honest report: what it holds is committed, what it does not is no such object."""
    report = Dataset()
    report.TransactionUID = request.transaction_uid
    held = [item for item in request.references if item[1] in archive.held]
    missing = [item for item in request.references if item[1] not in archive.held]
    if held:
        report.ReferencedSOPSequence = [_reference(*item) for item in held]
    if missing:
        report.FailedSOPSequence = [_reference(*item, reason=0x0112) for item in missing]
    return report


def event_type(report: Dataset) -> int:
    return 2 if report.get("FailedSOPSequence") else 1


def _reference(sop_class: str, sop_instance: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_instance
    if reason is not None:
        item.FailureReason = reason
    return item


def fails_all(reason: int) -> Callable[[Archive, Request], Dataset]:
    """A report that commits to nothing, for this reason."""

    def report(_: Archive, request: Request) -> Dataset:
        made = Dataset()
        made.TransactionUID = request.transaction_uid
        made.FailedSOPSequence = [_reference(*item, reason=reason) for item in request.references]
        return made

    return report


def report_on_same_association(
    make: Callable[[Archive, Request], Dataset] = committed, times: int = 1
) -> Callable[[Archive, Request], None]:
    """Behaviour: the report comes on the request's own association, right after its answer."""

    def behave(archive: Archive, request: Request) -> None:
        time.sleep(0.1)  # after the answer to the N-ACTION
        for _ in range(times):
            made = make(archive, request)
            archive.answers.append(_send(request.association, made))

    return behave


def report_to(
    port: int, make: Callable[[Archive, Request], Dataset] = committed, *, times: int = 1, after_s: float = 0.0
) -> Callable[[Archive, Request], None]:
    """Behaviour: the report comes on another association, towards the node."""

    def behave(archive: Archive, request: Request) -> None:
        time.sleep(after_s)
        for _ in range(times):
            archive.answers.append(send_report(port, make(archive, request)))

    return behave


def silent(_: Archive, __: Request) -> None:
    """Behaviour: it never reports."""


def send_report(port: int, report: Dataset, *, event: int | None = None, called: str = "SPINENODE") -> int | None:
    """One N-EVENT-REPORT to the node, as the standard wants it: the requestor proposes to be the SCP."""
    ae = AE(ae_title=AE_TITLE)
    ae.add_requested_context(StorageCommitmentPushModel, NATIVE)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = ae.associate("127.0.0.1", port, ae_title=called, ext_neg=[role])
    assert association.is_established
    try:
        return _send(association, report, event)
    finally:
        association.release()


def _send(association: object, report: Dataset, event: int | None = None) -> int | None:
    try:
        status, _ = association.send_n_event_report(  # type: ignore[attr-defined]
            report, event or event_type(report), StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except RuntimeError:
        return None
    return status.get("Status")


@contextmanager
def running(
    behave: Behaviour = silent,
    *,
    port: int = 0,
    action_status: int = 0x0000,
    aborts_at_request: bool = False,
    services: Sequence[str] = (StorageCommitmentPushModel,),
) -> Iterator[Archive]:
    """A listening archive; ``behave`` runs in a thread of its own for each request for commitment.

    Args:
        services: SOP classes that it offers beside storage; QUERIES for queries.
    """
    archive = Archive(behave=behave, action_status=action_status, aborts_at_request=aborts_at_request)
    ae = AE(ae_title=AE_TITLE)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), NATIVE)
    for sop_class in (Verification, *services):
        ae.add_supported_context(sop_class, NATIVE)
    handlers = [
        (evt.EVT_C_STORE, archive.on_store),
        (evt.EVT_C_ECHO, lambda _: 0x0000),
        (evt.EVT_N_ACTION, archive.on_action),
        (evt.EVT_C_FIND, archive.on_find),
    ]
    server = ae.make_server(("127.0.0.1", port), evt_handlers=handlers)
    ae._servers.append(server)  # where its shutdown expects it, as ``start_server`` does
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    serving.start()
    archive.port = int(server.server_address[1])
    try:
        yield archive
    finally:
        server.shutdown()
        serving.join()
