"""Storage and Verification SCU: sends files to an archive as they are, and says what the archive answered.

Knows no ledger: it yields one outcome for each file as soon as it is known, and the caller writes it down. Nothing of
a data set is decoded unless the archive takes only another uncompressed transfer syntax than the file's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from node.host_names import why_unknown
from node.retry import Failure, Verdict, judge
from node.settings import ArchiveSettings

_config.STORE_SEND_CHUNKED_DATASET = True  # the encoded bytes of the file go out untouched
_config.LOG_HANDLER_LEVEL = "none"  # the standard handlers log identifiers

MAXIMUM_CONTEXTS = 128
"""Presentation context IDs are the odd numbers 1-255 (PS3.8 section 9.3.2.2)."""
NEGOTIATION_TIMEOUT_S = 30
ANSWER_TIMEOUT_S = 120
"""An archive may commit an object to tape before it answers; beyond this it is not going to."""
SOP_CLASS_NOT_SUPPORTED = 0x0122
"""PS3.7 annex C.4.2, as an answer to a C-STORE."""
VERIFICATION = UID("1.2.840.10008.1.1")
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
UNREADABLE = (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError)
"""What pydicom raises for a file that is no DICOM file, or a broken one."""


class SendError(Exception):
    """The peer made no association or did not answer; the message says why, and what to look at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """The other side of an association, and what we call ourselves to it."""

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    connect_timeout_s: float

    @property
    def address(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """The archive has the object."""

    status: str
    """What it said, e.g. ``0x0000 success``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one file."""

    path: Path
    answer: Stored | Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outgoing:
    path: Path
    sop_class_uid: UID
    transfer_syntax_uid: UID


def peer_of(archive: ArchiveSettings, connect_timeout_s: float) -> Peer:
    """The archive of the settings as a peer."""
    return Peer(
        host=archive.host,
        port=archive.port,
        ae_title=archive.ae_title,
        calling_ae_title=archive.calling_ae_title,
        connect_timeout_s=connect_timeout_s,
    )


def echo(peer: Peer) -> str:
    """Ask for a C-ECHO; gives the status as text, e.g. ``0x0000 success``.

    Raises:
        SendError: no association, or no answer.
    """
    association = _associate(peer, [build_context(VERIFICATION)])
    if isinstance(association, Failure):
        raise SendError(association.what)
    try:
        if not association.is_established:
            raise SendError(_why_not(association, peer).what)
        status = association.send_c_echo()
        if "Status" not in status:
            raise SendError(f"{peer.address} accepted the association and did not answer the C-ECHO")
        return judge(int(status.Status))[1]
    finally:
        _leave(association)


def send(paths: Sequence[Path], peer: Peer) -> Iterator[Outcome]:
    """Send files over as few associations as their presentation contexts allow, in order.

    Each outcome is yielded when it is known. After a failure that concerns the peer rather than the file, the rest of
    the association's files share that failure without being tried: an archive that is full or gone is left in peace.
    """
    outgoing: list[_Outgoing] = []
    for path in paths:
        described = _describe(path)
        if isinstance(described, Failure):
            yield Outcome(path=path, answer=described)
        else:
            outgoing.append(described)
    for batch in _batches(outgoing):
        yield from _send_batch(batch, peer)


def send_folder(paths: Sequence[Path], peer: Peer, progress: Callable[[int, int], object]) -> tuple[Outcome, ...]:
    """Send files once, whatever becomes of each, telling ``progress(done, total)`` after each one."""
    outcomes = []
    for outcome in send(paths, peer):
        outcomes.append(outcome)
        progress(len(outcomes), len(paths))
    return tuple(outcomes)


def _send_batch(batch: Sequence[_Outgoing], peer: Peer) -> Iterator[Outcome]:
    association = _associate(peer, _contexts(batch))
    if isinstance(association, Failure):
        for item in batch:
            yield Outcome(path=item.path, answer=association)
        return
    try:
        given_up: Failure | None = None if association.is_established else _why_not(association, peer)
        for item in batch:
            if given_up is not None:
                yield Outcome(path=item.path, answer=given_up)
                continue
            answer = _store(association, item, peer)
            if isinstance(answer, Failure) and not answer.permanent:
                given_up = answer
            yield Outcome(path=item.path, answer=answer)
    finally:
        _leave(association)


def _store(association: Association, item: _Outgoing, peer: Peer) -> Stored | Failure:
    accepted = {
        context.transfer_syntax[0]
        for context in association.accepted_contexts
        if context.abstract_syntax == item.sop_class_uid
    }
    convertible = item.transfer_syntax_uid in NATIVE and bool(accepted & set(NATIVE))
    if item.transfer_syntax_uid not in accepted and not convertible:
        offer = f"{item.sop_class_uid.name} in {item.transfer_syntax_uid.name}"
        what = f"{peer.address} accepts no presentation context for {offer}"
        return Failure(what=what, permanent=True, class_refused=not accepted)
    try:
        whole = item.path if item.transfer_syntax_uid in accepted else pydicom.dcmread(item.path)
        response = association.send_c_store(whole)
    except RuntimeError:  # pynetdicom's word for an association that ended under us
        return Failure(what=f"{peer.address} ended the association", permanent=False)
    except UNREADABLE as error:
        return Failure(what=f"the file cannot be sent ({type(error).__name__})", permanent=True)
    if "Status" not in response:
        return Failure(what=f"{peer.address} ended the association or did not answer", permanent=False)
    verdict, text = judge(int(response.Status))
    if verdict is Verdict.STORED:
        return Stored(status=text)
    refused = int(response.Status) == SOP_CLASS_NOT_SUPPORTED
    return Failure(what=text, permanent=verdict is Verdict.NEVER, class_refused=refused)


def _describe(path: Path) -> _Outgoing | Failure:
    try:
        with path.open("rb") as stream:
            meta = pydicom.filereader.read_partial(stream, stop_when=lambda tag, vr, length: True).file_meta
        return _Outgoing(
            path=path,
            sop_class_uid=UID(meta.MediaStorageSOPClassUID),
            transfer_syntax_uid=UID(meta.TransferSyntaxUID),
        )
    except FileNotFoundError:
        return Failure(what="the file is gone", permanent=True)
    except UNREADABLE as error:
        return Failure(what=f"not a DICOM file ({type(error).__name__})", permanent=True)


_Offer = tuple[UID, UID]
"""SOP class and transfer syntax of one presentation context."""


def _offers(item: _Outgoing) -> set[_Offer]:
    """What is proposed for a file: its own transfer syntax, and for an uncompressed one the other of the two too.

    Each in a context of its own: in a common one the archive would choose, and might choose the conversion.
    """
    own = item.transfer_syntax_uid
    return {(item.sop_class_uid, syntax) for syntax in (NATIVE if own in NATIVE else (own,))}


def _batches(outgoing: Sequence[_Outgoing]) -> Iterator[tuple[_Outgoing, ...]]:
    """The files in order, split where an association would need more contexts than there are IDs."""
    batch: list[_Outgoing] = []
    offers: set[_Offer] = set()
    for item in outgoing:
        if len(offers | _offers(item)) > MAXIMUM_CONTEXTS:
            yield tuple(batch)
            batch, offers = [], set()
        batch.append(item)
        offers |= _offers(item)
    if batch:
        yield tuple(batch)


def _contexts(batch: Sequence[_Outgoing]) -> list[PresentationContext]:
    offers = set[_Offer]().union(*map(_offers, batch))
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(offers)]


def _associate(peer: Peer, contexts: list[PresentationContext]) -> Association | Failure:
    """An association, established or not; a Failure where the host's name leads nowhere."""
    if unknown := why_unknown(peer.host, peer.port):
        return Failure(what=unknown, permanent=False)
    ae = AE(ae_title=peer.calling_ae_title)
    ae.connection_timeout = peer.connect_timeout_s
    ae.acse_timeout = NEGOTIATION_TIMEOUT_S
    ae.dimse_timeout = ANSWER_TIMEOUT_S
    ae.network_timeout = ANSWER_TIMEOUT_S
    return ae.associate(peer.host, peer.port, contexts=contexts, ae_title=peer.ae_title, max_pdu=0)


def _leave(association: Association) -> None:
    if association.is_established:
        association.release()


def _why_not(association: Association, peer: Peer) -> Failure:
    """The reason in words an operator can act on: pynetdicom does not tell "nobody there" from "aborted"."""
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = answer.reason_str if answer is not None else "no reason given"
        return Failure(what=f"{peer.address} rejected the association: {reason}", permanent=False)
    if association.rejected_contexts:
        what = f"{peer.address} accepts none of the presentation contexts"
        return Failure(what=what, permanent=True, class_refused=True)
    try:
        socket.create_connection((peer.host, peer.port), timeout=peer.connect_timeout_s).close()
    except OSError as error:
        reason = "timed out" if isinstance(error, TimeoutError) else (error.strerror or type(error).__name__)
        return Failure(what=f"cannot connect to {peer.host}:{peer.port}: {reason}", permanent=False)
    said = f"{peer.host}:{peer.port} answers but makes no association: is it DICOM, and does it know {peer.ae_title}"
    return Failure(what=f"{said} and {peer.calling_ae_title}?", permanent=False)
