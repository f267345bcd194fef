"""The report about a storage commitment, as an archive sends it: what it says, and what to answer.

PS3.4 section J.3.3 defines no statuses of its own for the answer; those are PS3.7 section 10.1.1.1.8.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import ImplicitVRLittleEndian

from node.arriving_report import MAXIMUM_BYTES
from node.ledger import Ledger, LedgerError
from node.proofs import FAILURES_EXIST, SUCCESSFUL, Filed, Patience, Report
from node.settings import Settings

COMMITMENT_CLASS = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class: PS3.4 section J.3.5."""
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The one well-known SOP Instance of it."""
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NO_SUCH_EVENT = 0x0113
INVALID_ARGUMENT = 0x0115
RESOURCE_LIMITATION = 0x0213
MOST_ITEMS = 4096
"""In a report, nested ones among them; none about a request of ours has more than 200."""
_ITEM = b"\xfe\xff\x00\xe0"
"""Item tag (FFFE,E000) in little endian."""
_TRANSACTION_UID = 0x00081195
_GENERAL_FAILURE = 0x0110
"""Of a failed reference that does not say why."""
_UNREADABLE = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    MemoryError,
    struct.error,
)
"""What pydicom stumbles with."""

_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True)
class Filing:
    """The ledger, as far as reports need it; both may raise ``LedgerError``."""

    knows: Callable[[str], bool]
    """Whether a transaction is one of ours: ``ledger.proofs.knows``."""
    file: Callable[[Report], Filed]
    """``ledger.proofs.reported``."""


def patience_of(settings: Settings) -> Patience:
    """What the settings say about waiting for proof."""
    return Patience(
        first_s=settings.delivery.first_delay_s,
        longest_s=settings.proof.maximum_delay_s,
        most_sent_again=settings.proof.sent_again,
    )


def filing(ledger: Ledger, settings: Settings, now: Callable[[], datetime]) -> Filing:
    """What files a report, whichever process received it."""
    patience = patience_of(settings)
    return Filing(
        knows=ledger.proofs.knows,
        file=lambda report: ledger.proofs.reported(report, patience=patience, now=now()),
    )


class NotAReport(Exception):
    """It cannot be taken; ``status`` is to be answered, and the message says why, without what it held."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def answer(encoded: bytes, transfer_syntax_uid: str, event_type: int, *, sent_by: str, filing: Filing) -> int:
    """Files a report and gives the status to answer: success only when it is durable, or was before.

    A report about a transaction that this node never began (or has forgotten with its rows) is a processing failure:
    nothing was done about it, and nothing of it was read. One that comes again or late is a success. One at a time is
    decoded: anybody who may associate may send them.
    """
    try:
        transaction_uid = transaction_of(encoded, transfer_syntax_uid, event_type)
        if not filing.knows(transaction_uid):
            return _unknown(sent_by)
        report = read(encoded, transfer_syntax_uid, event_type)
        filed = filing.file(report)
    except NotAReport as error:
        _log.warning("report of %r about a storage commitment refused with 0x%04X: %s", sent_by, error.status, error)
        return error.status
    except LedgerError as error:
        _log.error("a report about a storage commitment cannot be written down, and is refused: %s", error)
        return RESOURCE_LIMITATION
    if filed is Filed.UNKNOWN:
        return _unknown(sent_by)
    _log.info(
        "%r commits itself to %d results, and not to %d%s",
        sent_by,
        len(report.held),
        len(report.failed),
        {Filed.AGAIN: " (told before)", Filed.LATE: " (late)"}.get(filed, ""),
    )
    return SUCCESS


def _unknown(sent_by: str) -> int:
    _log.warning("report of %r about a storage commitment that this node did not ask for", sent_by)
    return PROCESSING_FAILURE


def transaction_of(encoded: bytes, transfer_syntax_uid: str, event_type: int) -> str:
    """The Transaction UID of a report, without reading further than that.

    Raises:
        NotAReport: there is none, or the report is larger than any about a request of ours.
    """
    if event_type not in (SUCCESSFUL, FAILURES_EXIST):
        raise NotAReport(NO_SUCH_EVENT, f"no event of type {event_type} is known")
    if len(encoded) > MAXIMUM_BYTES:
        raise NotAReport(RESOURCE_LIMITATION, f"it has more than {MAXIMUM_BYTES} bytes")
    if encoded.count(_ITEM) > MOST_ITEMS:
        raise NotAReport(RESOURCE_LIMITATION, f"it has more than {MOST_ITEMS} items")
    is_implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    try:
        with _one_at_a_time:
            dataset = read_dataset(BytesIO(encoded), is_implicit, True, stop_when=_is_past_the_transaction)
        transaction_uid = _text(dataset, "TransactionUID")
    except _UNREADABLE as error:
        raise NotAReport(PROCESSING_FAILURE, f"it cannot be decoded ({type(error).__name__})") from error
    if not transaction_uid:
        raise NotAReport(INVALID_ARGUMENT, "it names no transaction")
    return transaction_uid


def _is_past_the_transaction(tag: int, _vr: str | None, _length: int) -> bool:
    return tag > _TRANSACTION_UID


def read(encoded: bytes, transfer_syntax_uid: str, event_type: int) -> Report:
    """The Event Information of PS3.4 table J.3-2, in a native little endian transfer syntax.

    Raises:
        NotAReport
    """
    transaction_uid = transaction_of(encoded, transfer_syntax_uid, event_type)
    with _one_at_a_time:
        held, failed = _references(encoded, transfer_syntax_uid == ImplicitVRLittleEndian)
    return Report(transaction_uid=transaction_uid, held=frozenset(held - set(failed) - {""}), failed=failed)


def _references(encoded: bytes, is_implicit: bool) -> tuple[set[str], dict[str, int]]:
    try:
        dataset = read_dataset(BytesIO(encoded), is_implicit, True)
        failed = {
            _text(item, "ReferencedSOPInstanceUID"): _reason(item) for item in _items(dataset, "FailedSOPSequence")
        }
        held = {_text(item, "ReferencedSOPInstanceUID") for item in _items(dataset, "ReferencedSOPSequence")}
    except _UNREADABLE as error:
        raise NotAReport(PROCESSING_FAILURE, f"it cannot be decoded ({type(error).__name__})") from error
    return held, failed


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()


def _items(dataset: Dataset, keyword: str) -> Any:
    return dataset.get(keyword) or ()


def _reason(item: Dataset) -> int:
    told = item.get("FailureReason")
    return int(told) if told is not None else _GENERAL_FAILURE
