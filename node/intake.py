"""What happens to one object that a peer has sent, until an answer may be given. Knows no network."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from node.dataset_header import DatasetHeader, Unreadable, read_header, uid_or_empty
from node.ledger import Ledger, LedgerError, OutcomeUnknown
from node.records import ReceivedInstance, Recorded
from node.spool import Draft, NoRoom, Spool, StoredFile

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DATA_SET_DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
"""C-STORE statuses: PS3.4 section B.2.3."""

IMPLEMENTATION_CLASS_UID = "2.25.300755462787980791960930888927531884557"
IMPLEMENTATION_VERSION_NAME = "SPINENODE"
"""Without a version: the file of an image, and so its sha256, must be the same when it comes again after an upgrade."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SentObject:
    """A C-STORE request."""

    dataset: memoryview
    """As it was sent, in ``transfer_syntax_uid``."""
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str


class Intake:
    """Keeps objects: file, then ledger row, then the answer."""

    def __init__(self, spool: Spool, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._spool = spool
        self._ledger = ledger
        self._clock = clock

    def has_room(self) -> bool:
        """Whether the disk is above its watermark: below it nothing would be kept."""
        try:
            return self._spool.has_room()
        except OSError as error:
            _log.error("the spool's disk does not answer: %s", error.strerror)
            return False

    def _drop(self, file: StoredFile) -> None:
        try:
            self._spool.remove(file.path)
        except OSError as error:  # it is in nobody's way, and what is to be answered does not depend on it
            _log.warning("a file that is not needed cannot be deleted: %s", error.strerror)

    def draft(self) -> Draft:
        """A file for an object that is too big to wait in memory. Raises ``NoRoom`` or ``OSError``."""
        return self._spool.draft_received()

    def keep(self, sent: SentObject, draft: Draft | None = None, *, study: str = "") -> tuple[int, Recorded | None]:
        """The status to answer, and what the ledger made of the object; None when it was refused.

        SUCCESS means: the file and its directory are fsynced and the ledger's row is committed.

        Args:
            draft: the file of an object that was written while it came: ``file_header(sent)`` and its data set.
            study: the study it must belong to; empty for any.
        """
        try:
            header = read_header(sent.dataset, sent.transfer_syntax_uid)
        except Unreadable as error:
            return self._refused(sent, draft, CANNOT_UNDERSTAND, str(error))
        if complaint := _mismatch(header, sent, study):
            return self._refused(sent, draft, DATA_SET_DOES_NOT_MATCH, complaint)
        try:
            file = draft.finish() if draft else self._spool.store_received((file_header(sent), sent.dataset))
        except NoRoom as error:
            return self._refused(sent, draft, OUT_OF_RESOURCES, str(error))
        except OSError as error:
            return self._refused(sent, draft, OUT_OF_RESOURCES, f"the spool cannot be written: {error.strerror}")
        return self._record(sent, header, file)

    def _refused(self, sent: SentObject, draft: Draft | None, status: int, why: str) -> tuple[int, None]:
        if draft is not None:
            discard(draft)
        return refused(sent.calling_ae_title, status, why)

    def _record(self, sent: SentObject, header: DatasetHeader, file: StoredFile) -> tuple[int, Recorded | None]:
        instance = ReceivedInstance(
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=sent.transfer_syntax_uid,
            modality=header.modality,
            calling_ae_title=sent.calling_ae_title,
            path=file.path,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            received_at=self._clock(),
        )
        try:
            recorded = self._ledger.record_instance(instance)
        except OutcomeUnknown as error:  # the row may stand: its file must too
            return refused(sent.calling_ae_title, OUT_OF_RESOURCES, f"the ledger did not confirm: {error}")
        except LedgerError as error:
            self._drop(file)
            return refused(sent.calling_ae_title, OUT_OF_RESOURCES, f"the ledger cannot be written: {error}")
        if recorded is Recorded.SAME_AGAIN:
            try:
                self._keep_one_of(instance, file)
            except (OSError, LedgerError):
                self._drop(file)
                why = "it came before, and whether its file still stands cannot be told"
                return refused(sent.calling_ae_title, OUT_OF_RESOURCES, why)
        if recorded is Recorded.CONFLICT:
            _log.warning(
                "object from %r claims the SOP Instance UID of another one: kept beside, not graded",
                sent.calling_ae_title,
            )
        return SUCCESS, recorded

    def _keep_one_of(self, again: ReceivedInstance, file: StoredFile) -> None:
        """The file that the ledger names stays, unless it was lost: then its sender has just brought it back."""
        kept = self._ledger.path_of(again.sop_instance_uid, again.sha256)
        if kept is None or self._spool.holds(kept, file.size_bytes):
            self._drop(file)
            return
        self._spool.put_in_place(file.path, kept)
        _log.error(
            "a file of the spool was lost or cut off, and is there again: %r has sent it again. Look after the disk",
            again.calling_ae_title,
        )


def _mismatch(header: DatasetHeader, sent: SentObject, study: str) -> str:
    """Why the data set is not what its command says it is; empty when it is."""
    if not (header.study_instance_uid and header.series_instance_uid):
        return "the data set has no valid Study or Series Instance UID"
    if not header.sop_instance_uid or header.sop_instance_uid != sent.sop_instance_uid:
        return "the SOP Instance UIDs of command and data set differ, or are not valid"
    if not header.sop_class_uid or header.sop_class_uid != sent.sop_class_uid:
        return "the SOP Class UIDs of command and data set differ, or are not valid"
    if study and header.study_instance_uid != study:
        return "it belongs to another study than the request is about"
    if not uid_or_empty(sent.transfer_syntax_uid):
        return "the transfer syntax has no valid UID"
    return ""


def discard(draft: Draft) -> None:
    """Deletes a draft; where the disk refuses even that, the sweep at the next start does."""
    try:
        draft.discard()
    except OSError as error:
        _log.warning("an unfinished file cannot be deleted: %s", error.strerror)


def refused(calling_ae_title: str, status: int, why: str) -> tuple[int, None]:
    """The answer to an object that is not kept, said in the log."""
    _log.warning("object from %r refused with 0x%04X: %s", calling_ae_title, status, why)
    return status, None


def file_header(sent: SentObject) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 section 7.1) to put before the data set as it was sent."""
    elements = b"".join(
        (
            struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01",
            _short_element(0x0002, b"UI", sent.sop_class_uid),
            _short_element(0x0003, b"UI", sent.sop_instance_uid),
            _short_element(0x0010, b"UI", sent.transfer_syntax_uid),
            _short_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    group_length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(elements))
    return bytes(128) + b"DICM" + group_length + elements


def _short_element(number: int, vr: bytes, value: str) -> bytes:
    encoded = value.encode("ascii")
    encoded += (b"\0" if vr == b"UI" else b" ") * (len(encoded) % 2)
    return struct.pack("<HH2sH", 0x0002, number, vr, len(encoded)) + encoded
