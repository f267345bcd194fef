"""Storage and Verification SCU: sends files to an archive as they are, and says what the archive answered.

Knows no ledger: it yields one outcome for each file as soon as it is known, and the caller writes it down. Nothing of
a data set is decoded unless it goes out in another transfer syntax than the file's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from node import encodings
from node.association import Peer, SendError, associate, leave, peer_of
from node.encodings import UNREADABLE, CannotEncode
from node.retry import Failure, Verdict, judge

__all__ = ["Outcome", "Peer", "SendError", "Stored", "describe", "echo", "peer_of", "probe", "send", "send_folder"]

_config.STORE_SEND_CHUNKED_DATASET = True  # the encoded bytes of the file go out untouched

MAXIMUM_CONTEXTS = 128
"""Presentation context IDs are the odd numbers 1-255 (PS3.8 section 9.3.2.2)."""
SOP_CLASS_NOT_SUPPORTED = 0x0122
"""PS3.7 annex C.4.2, as an answer to a C-STORE."""
VERIFICATION = UID("1.2.840.10008.1.1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """The archive has the object."""

    status: str
    """What it said, e.g. ``0x0000 success``."""
    warned: bool = False
    """It said a warning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one file."""

    path: Path
    answer: Stored | Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """A file, as far as it has to be known before it is sent."""

    path: Path
    sop_class_uid: UID
    transfer_syntaxes: tuple[UID, ...]
    """Those it may go out in, the best first."""
    own_syntax: UID

    @property
    def offers(self) -> frozenset[tuple[UID, UID]]:
        """SOP class and transfer syntax of each presentation context that is proposed for it.

        Each in a context of its own: in a common one the archive would choose, and might choose the conversion.
        """
        return frozenset((self.sop_class_uid, syntax) for syntax in self.transfer_syntaxes)


def echo(peer: Peer) -> str:
    """Ask for a C-ECHO; gives the status as text, e.g. ``0x0000 success``.

    Raises:
        SendError: no association, or no answer.
    """
    association = associate(peer, [build_context(VERIFICATION)])
    if isinstance(association, Failure):
        raise SendError(association.what)
    try:
        status = association.send_c_echo()
        if "Status" not in status:
            raise SendError(f"{peer.address} accepted the association and did not answer the C-ECHO")
        return judge(int(status.Status))[1]
    except RuntimeError as error:
        raise SendError(f"{peer.address} ended the association before the C-ECHO") from error
    finally:
        leave(association)


def probe(peer: Peer) -> Failure | None:
    """Whether an archive works again, by a C-ECHO; None when it does.

    One that makes associations but takes no C-ECHO works: it has negotiated.
    """
    association = associate(peer, [build_context(VERIFICATION)])
    if isinstance(association, Failure):
        return None if association.class_refused else association
    try:
        answered = "Status" in association.send_c_echo()
    except RuntimeError:
        answered = False
    finally:
        leave(association)
    if answered:
        return None
    what = f"{peer.address} accepted the association and did not answer the C-ECHO"
    return Failure(what=what, permanent=False, of_archive=True)


def send(paths: Sequence[Path], peer: Peer, preferred: Sequence[UID] = ()) -> Iterator[Outcome]:
    """Send files over as few associations as their presentation contexts allow, in order.

    Each outcome is yielded when it is known. After a failure of the archive rather than of the object, the rest of the
    files share that failure without being tried: an archive that is full or gone is left in peace.

    Args:
        paths: of DICOM files.
        peer: that gets them.
        preferred: transfer syntaxes, the best first; a file goes out in the first one that it can have and the peer
            takes, else as it is.
    """
    outgoing: list[Outgoing] = []
    for path in paths:
        described = describe(path, preferred)
        if isinstance(described, Failure):
            yield Outcome(path=path, answer=described)
        else:
            outgoing.append(described)
    given_up: Failure | None = None
    for batch in _batches(outgoing):
        if given_up is not None:
            yield from (Outcome(path=item.path, answer=given_up) for item in batch)
            continue
        for outcome in _send_batch(batch, peer):
            if isinstance(outcome.answer, Failure) and outcome.answer.of_archive:
                given_up = replace(outcome.answer, tried=False)
            yield outcome


def send_folder(paths: Sequence[Path], peer: Peer, progress: Callable[[int, int], object]) -> tuple[Outcome, ...]:
    """Send files once, whatever becomes of each, telling ``progress(done, total)`` after each one."""
    outcomes = []
    for outcome in send(paths, peer):
        outcomes.append(outcome)
        progress(len(outcomes), len(paths))
    return tuple(outcomes)


def _send_batch(batch: Sequence[Outgoing], peer: Peer) -> Iterator[Outcome]:
    association = associate(peer, _contexts(batch))
    if isinstance(association, Failure):
        yield from (Outcome(path=item.path, answer=association) for item in batch)
        return
    try:
        given_up: Failure | None = None
        for item in batch:
            if given_up is not None:
                yield Outcome(path=item.path, answer=given_up)
                continue
            answer = _store(association, item, peer)
            if isinstance(answer, Failure) and answer.of_archive:
                given_up = replace(answer, tried=False)
            yield Outcome(path=item.path, answer=answer)
    finally:
        leave(association)


def _store(association: Association, item: Outgoing, peer: Peer) -> Stored | Failure:
    accepted = {
        context.transfer_syntax[0]
        for context in association.accepted_contexts
        if context.abstract_syntax == item.sop_class_uid
    }
    takes = [uid for uid in item.transfer_syntaxes if uid in accepted]
    for uid in takes:
        try:
            return _store_in(association, item, uid, peer)
        except CannotEncode:
            continue  # the next one; its own, where the peer takes that, always works
    offer = f"{item.sop_class_uid.name} in {item.own_syntax.name}"
    what = f"{peer.address} accepts no presentation context for {offer}"
    return Failure(what=what, permanent=True, class_refused=not accepted)


def _store_in(association: Association, item: Outgoing, uid: UID, peer: Peer) -> Stored | Failure:
    """The answer to a C-STORE in one transfer syntax; raises ``CannotEncode``."""
    try:
        if uid == item.own_syntax:
            response = association.send_c_store(item.path)
        else:
            whole = encodings.encoded(item.path, uid)
            with tempfile.NamedTemporaryFile(suffix=".dcm") as scratch:  # what is sent from a file is sent untouched
                scratch.write(whole)
                scratch.flush()
                response = association.send_c_store(scratch.name)
    except RuntimeError:  # pynetdicom's word for an association that ended under us
        return Failure(what=f"{peer.address} ended the association", permanent=False, of_archive=True, tried=False)
    except UNREADABLE as error:
        return Failure(what=f"the file cannot be sent ({type(error).__name__})", permanent=True, local=True)
    if "Status" not in response:
        what = f"{peer.address} ended the association or did not answer"
        return Failure(what=what, permanent=False, of_archive=True)
    return answer_of(int(response.Status))


def answer_of(status: int) -> Stored | Failure:
    """What a status says about an object."""
    verdict, text = judge(status)
    if verdict in (Verdict.STORED, Verdict.WARNED):
        return Stored(status=text, warned=verdict is Verdict.WARNED)
    return Failure(
        what=text,
        permanent=verdict is Verdict.NEVER,
        class_refused=status == SOP_CLASS_NOT_SUPPORTED,
        content_refused=verdict is Verdict.NEVER,
        of_archive=verdict is Verdict.FULL,
    )


def describe(path: Path, preferred: Sequence[UID] = ()) -> Outgoing | Failure:
    """What a file is, or why it cannot be sent."""
    try:
        with path.open("rb") as stream:
            meta = pydicom.filereader.read_partial(stream, stop_when=lambda tag, vr, length: True).file_meta
        own = UID(meta.TransferSyntaxUID)
        return Outgoing(
            path=path,
            sop_class_uid=UID(meta.MediaStorageSOPClassUID),
            transfer_syntaxes=encodings.candidates(path, own, preferred),
            own_syntax=own,
        )
    except FileNotFoundError:
        return Failure(what="the file is gone", permanent=True, local=True)
    except UNREADABLE as error:
        return Failure(what=f"not a DICOM file ({type(error).__name__})", permanent=True, local=True)


def _batches(outgoing: Sequence[Outgoing]) -> Iterator[tuple[Outgoing, ...]]:
    """The files in order, split where an association would need more contexts than there are IDs."""
    batch: list[Outgoing] = []
    offers: frozenset[tuple[UID, UID]] = frozenset()
    for item in outgoing:
        if len(offers | item.offers) > MAXIMUM_CONTEXTS:
            yield tuple(batch)
            batch, offers = [], frozenset()
        batch.append(item)
        offers |= item.offers
    if batch:
        yield tuple(batch)


def _contexts(batch: Sequence[Outgoing]) -> list[PresentationContext]:
    offers = frozenset[tuple[UID, UID]]().union(*(item.offers for item in batch))
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(offers)]
