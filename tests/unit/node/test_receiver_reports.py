"""Reports about storage commitment that come to the receiver, over an association that the archive makes for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pydicom.config
import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from node import commitment_report
from node.arriving_report import MAXIMUM_BYTES
from node.commitment_report import MOST_ITEMS, Filing, NotAReport
from node.ledger import Ledger, LedgerUnavailable
from node.proofs import Filed, Report
from node.records import DeliveryState
from tests import committing_archive
from tests.committing_archive import send_report
from tests.receiving import Receiver
from tests.unit.node.received_instances import NOON, after
from tests.unit.node.test_ledger import graded_study

ONE, TWO = "2.25.1", "2.25.2"
ASKED = "2.25.77"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path) as running:
        yield running


@pytest.fixture
def ledger(receiver: Receiver) -> Iterator[Ledger]:
    """Of the receiver; two results are at the archive, which was asked to commit itself to them."""
    opened = receiver.ledger()
    graded_study(opened)
    for delivery in opened.due_deliveries(NOON, limit=9):
        opened.delivery_delivered(delivery.delivery_id, status="0x0000", now=NOON)
    numbers = [item.delivery_id for item in opened.proofs.due("pacs", NOON, limit=9)]
    opened.proofs.asking(ASKED, archive="pacs", delivery_ids=numbers, overdue_at=after(600), now=NOON)
    opened.proofs.requested(ASKED)
    yield opened
    opened.close()


def report(held: tuple[str, ...] = (ONE, TWO), failed: tuple[str, ...] = (), transaction: str = ASKED) -> Dataset:
    made = Dataset()
    made.TransactionUID = transaction
    made.ReferencedSOPSequence = [committing_archive._reference("1.2.3", uid) for uid in held]
    made.FailedSOPSequence = [committing_archive._reference("1.2.3", uid, 0x0112) for uid in failed]
    return made


def states(ledger: Ledger) -> dict[DeliveryState, int]:
    return {state: count for state, count in ledger.delivery_counts()["pacs"].items() if count}


def test_a_report_is_written_down_before_it_is_answered(receiver: Receiver, ledger: Ledger) -> None:
    assert send_report(receiver.port, report()) == 0x0000
    receiver.kill()
    assert states(ledger) == {DeliveryState.PROVEN: 2}


def test_what_failed_is_sent_again(receiver: Receiver, ledger: Ledger) -> None:
    assert send_report(receiver.port, report((ONE,), (TWO,))) == 0x0000
    assert states(ledger) == {DeliveryState.PROVEN: 1, DeliveryState.DUE: 1}


def test_twice_is_answered_twice_and_the_first_counts(receiver: Receiver, ledger: Ledger) -> None:
    assert send_report(receiver.port, report()) == 0x0000
    assert send_report(receiver.port, report((), (ONE, TWO))) == 0x0000
    assert states(ledger) == {DeliveryState.PROVEN: 2}


def test_an_unknown_transaction_is_a_processing_failure_and_no_harm(receiver: Receiver, ledger: Ledger) -> None:
    assert send_report(receiver.port, report(transaction="2.25.666")) == 0x0110
    assert states(ledger) == {DeliveryState.DELIVERED: 2}
    receiver.wait_for_log("about a storage commitment that this node did not ask for")
    assert "2.25.666" not in receiver.log


@pytest.mark.parametrize(
    ("made", "event", "status"), [(report(), 3, 0x0113), (report(transaction=""), 1, 0x0115), (Dataset(), 1, 0x0115)]
)
def test_nonsense_is_answered_with_what_is_wrong(
    receiver: Receiver, ledger: Ledger, made: Dataset, event: int, status: int
) -> None:
    made.RetrieveAETitle = "ARCHIVE"  # a data set without any element would not be sent
    assert send_report(receiver.port, made, event=event) == status
    assert states(ledger) == {DeliveryState.DELIVERED: 2}
    assert send_report(receiver.port, report()) == 0x0000


def test_many_references_come_in_many_fragments(receiver: Receiver, ledger: Ledger) -> None:
    others = tuple(f"2.25.{number}" for number in range(10**30, 10**30 + 2000))
    assert send_report(receiver.port, report((*others, ONE, TWO))) == 0x0000
    assert states(ledger) == {DeliveryState.PROVEN: 2}


def test_a_report_larger_than_any_about_a_request_of_ours_ends_the_association(
    receiver: Receiver, ledger: Ledger
) -> None:
    others = tuple(f"2.25.{number}" for number in range(10**30, 10**30 + MAXIMUM_BYTES // 60))
    assert send_report(receiver.port, report((*others, ONE, TWO))) is None
    assert states(ledger) == {DeliveryState.DELIVERED: 2}
    assert send_report(receiver.port, report()) == 0x0000


def test_an_archive_that_proposes_no_role_may_report_all_the_same(receiver: Receiver, ledger: Ledger) -> None:
    """The requestor of an association is the user unless it says otherwise; some archives forget to say so."""
    ae = AE(ae_title="ARCHIVE")
    ae.add_requested_context(StorageCommitmentPushModel, [ImplicitVRLittleEndian])
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", receiver.port, ae_title="SPINENODE")
    status, _ = association.send_n_event_report(
        report(), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    assert status.Status == 0x0000
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert states(ledger) == {DeliveryState.PROVEN: 2}


def test_who_may_not_send_may_not_report(tmp_path: Path) -> None:
    with Receiver(tmp_path, allowed_calling_ae_titles=["SCANNER1"]) as receiver:
        ae = AE(ae_title="STRANGER")
        ae.add_requested_context(StorageCommitmentPushModel)
        assert ae.associate("127.0.0.1", receiver.port, ae_title="SPINENODE").is_rejected


def test_asking_this_node_for_its_own_commitment_ends_the_association(receiver: Receiver, ledger: Ledger) -> None:
    ae = AE(ae_title="SCANNER1")
    ae.add_requested_context(StorageCommitmentPushModel)
    association = ae.associate("127.0.0.1", receiver.port, ae_title="SPINENODE")
    status, _ = association.send_n_action(report(), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    assert "Status" not in status
    receiver.wait_for_log("that its presentation context is not for")
    assert send_report(receiver.port, report()) == 0x0000


class TestAnswer:
    """What is answered, whichever process has received it."""

    @staticmethod
    def encoded(dataset: Dataset, *, implicit: bool = False) -> bytes:
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, implicit
        write_dataset(stream, dataset)
        return stream.getvalue()

    def test_a_ledger_that_is_away_is_a_resource_limitation_so_that_the_archive_tells_again(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def away(_: Report) -> Filed:
            raise LedgerUnavailable("database is locked")

        with caplog.at_level(logging.ERROR):
            status = commitment_report.answer(
                self.encoded(report()),
                ExplicitVRLittleEndian,
                1,
                sent_by="pacs",
                filing=Filing(knows=lambda _: True, file=away),
            )
        assert status == 0x0213
        assert "database is locked" in caplog.text

    def test_nothing_after_an_unknown_transaction_is_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded: list[bytes] = []

        def references(encoded: bytes, _: bool) -> tuple[set[str], dict[str, int]]:
            decoded.append(encoded)
            return set(), {}

        monkeypatch.setattr(commitment_report, "_references", references)
        filing = Filing(knows=lambda uid: uid == ASKED, file=lambda _: Filed.ANSWER)
        unknown, known = self.encoded(report(transaction="2.25.666")), self.encoded(report())
        statuses = [
            commitment_report.answer(encoded, ExplicitVRLittleEndian, 1, sent_by="pacs", filing=filing)
            for encoded in (unknown, known)
        ]
        assert (statuses, decoded) == ([0x0110, 0x0000], [known])

    @pytest.mark.parametrize("sequence", [b"\x98\x11", b"\x99\x11", b"\x11\x11"])
    def test_a_report_full_of_empty_items_is_refused_before_it_is_decoded(self, sequence: bytes) -> None:
        items = b"\xfe\xff\x00\xe0\0\0\0\0" * (MOST_ITEMS + 1)
        filler = b"\x08\x00" + sequence + b"SQ\0\0" + len(items).to_bytes(4, "little") + items
        encoded = b"\x08\x00\x95\x11UI\x08\x002.25.77\0" + filler
        with pytest.raises(NotAReport, match="more than 4096 items") as refused:
            commitment_report.read(encoded, ExplicitVRLittleEndian, 1)
        assert refused.value.status == 0x0213

    def test_a_report_that_is_too_large_is_refused_whichever_way_it_came(self) -> None:
        with pytest.raises(NotAReport, match="more than 262144 bytes"):
            commitment_report.read(self.encoded(report()) + bytes(MAXIMUM_BYTES), ExplicitVRLittleEndian, 1)

    @pytest.mark.parametrize("implicit", [False, True])
    def test_both_native_transfer_syntaxes_are_read(self, implicit: bool) -> None:
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        read = commitment_report.read(self.encoded(report((ONE,), (TWO,)), implicit=implicit), syntax, 2)
        assert read == Report(transaction_uid=ASKED, held=frozenset({ONE}), failed={TWO: 0x0112})

    def test_what_is_named_as_held_and_as_failed_has_failed(self) -> None:
        read = commitment_report.read(self.encoded(report((ONE, TWO), (TWO,))), ExplicitVRLittleEndian, 2)
        assert (read.held, read.failed) == (frozenset({ONE}), {TWO: 0x0112})

    def test_a_failure_without_a_reason_is_a_processing_failure(self) -> None:
        made = report((), (ONE,))
        del made.FailedSOPSequence[0].FailureReason
        assert commitment_report.read(self.encoded(made), ExplicitVRLittleEndian, 2).failed == {ONE: 0x0110}

    def test_what_is_cut_off_is_not_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)  # as there
        encoded = self.encoded(report((TWO, ONE), ()))
        end = encoded.rindex(b"2.25.1")
        for cut in range(end + len(ONE) - 1, 0, -1):
            try:
                read = commitment_report.read(encoded[:cut], ExplicitVRLittleEndian, 1)
            except NotAReport:
                continue
            assert ONE not in read.held
