"""The intake: what is kept, what is refused and with which status, and that no identifier reaches the log."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from node.intake import CANNOT_UNDERSTAND, DATA_SET_DOES_NOT_MATCH, OUT_OF_RESOURCES, SUCCESS, Intake, SentObject
from node.ledger import Ledger, LedgerUnavailable, OutcomeUnknown, open_ledger
from node.records import ReceivedInstance, Recorded
from node.spool import Spool
from tests.unit.node.encoded_images import encoded, mr_image
from tests.unit.node.received_instances import NOON


class House:
    """An intake with its spool and its ledger."""

    def __init__(self, folder: Path, *, minimum_free_bytes: int = 0) -> None:
        self.folder = folder
        self.spool = Spool(folder / "spool", minimum_free_bytes)
        self.ledger = open_ledger(f"sqlite:///{folder / 'node.db'}")
        self.intake = Intake(self.spool, self.ledger, self.now)

    def now(self) -> datetime:
        return NOON

    def files(self) -> list[Path]:
        return [path for path in (self.folder / "spool").rglob("*") if path.is_file()]

    def instances(self) -> tuple[ReceivedInstance, ...]:
        (study,) = self.ledger.open_studies()
        return self.ledger.instances(study.study_id)


@pytest.fixture
def house(tmp_path: Path, migrated_sqlite: Path) -> House:
    shutil.copy(migrated_sqlite, tmp_path / "node.db")
    return House(tmp_path)


def sent(dataset: pydicom.Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> SentObject:
    return SentObject(
        dataset=memoryview(encoded(dataset, transfer_syntax)),
        sop_class_uid=MRImageStorage,
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "1.2.3.1.1")),
        transfer_syntax_uid=transfer_syntax,
        calling_ae_title="MODALITY",
    )


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_the_file_holds_the_data_set_byte_for_byte_and_pydicom_reads_it(house: House, transfer_syntax: str) -> None:
    image = sent(mr_image(1), transfer_syntax)
    assert house.intake.keep(image) == (SUCCESS, Recorded.NEW)
    (kept,) = house.instances()
    content = house.spool.absolute(kept.path).read_bytes()
    assert content.endswith(bytes(image.dataset))
    read = pydicom.dcmread(io.BytesIO(content))
    assert read.PatientName == "SECRET^NAME"
    assert read.file_meta.TransferSyntaxUID == transfer_syntax
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.3.1.1"
    assert read.file_meta.FileMetaInformationGroupLength == len(content) - 132 - 12 - len(image.dataset)


def test_the_row_says_what_came_from_whom_and_when(house: House) -> None:
    house.intake.keep(sent(mr_image(1)))
    (kept,) = house.instances()
    assert (kept.study_instance_uid, kept.series_instance_uid, kept.sop_instance_uid) == (
        "1.2.3",
        "1.2.3.1",
        "1.2.3.1.1",
    )
    assert (kept.modality, kept.calling_ae_title, kept.received_at) == ("MR", "MODALITY", NOON)
    assert kept.size_bytes == house.spool.absolute(kept.path).stat().st_size


def test_the_same_image_again_is_a_success_and_leaves_one_file(house: House) -> None:
    first, second = house.intake.keep(sent(mr_image(1))), house.intake.keep(sent(mr_image(1)))
    assert (first, second) == ((SUCCESS, Recorded.NEW), (SUCCESS, Recorded.SAME_AGAIN))
    assert house.files() == [house.spool.absolute(house.instances()[0].path)]


@pytest.mark.parametrize(
    "loss", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:99])], ids=["gone", "cut"]
)
def test_a_file_that_the_disk_has_lost_is_taken_from_the_same_image_again(
    house: House, loss: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    house.intake.keep(sent(mr_image(1)))
    (path,) = house.files()
    content = path.read_bytes()
    loss(path)
    assert house.intake.keep(sent(mr_image(1))) == (SUCCESS, Recorded.SAME_AGAIN)
    assert house.files() == [path]
    assert path.read_bytes() == content
    assert "lost or cut off" in caplog.text


def test_the_same_image_again_is_no_success_while_nobody_can_tell_whether_the_first_is_there(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.intake.keep(sent(mr_image(1)))

    def broken(path: object, size_bytes: int) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(house.spool, "holds", broken)
    before = house.files()
    assert house.intake.keep(sent(mr_image(1))) == (OUT_OF_RESOURCES, None)
    assert house.files() == before


def test_the_same_uid_with_other_bytes_is_a_success_and_both_are_kept(house: House) -> None:
    house.intake.keep(sent(mr_image(1)))
    changed = mr_image(1)
    changed.PixelData = bytes(8)
    assert house.intake.keep(sent(changed)) == (SUCCESS, Recorded.CONFLICT)
    assert len(house.files()) == 2


def without(keyword: str) -> Callable[[], SentObject]:
    def make() -> SentObject:
        dataset = mr_image(1)
        delattr(dataset, keyword)
        return sent(dataset)

    return make


def truncated() -> SentObject:
    whole = sent(mr_image(1))
    return replace(whole, dataset=whole.dataset[:60])


def path_for_a_uid() -> SentObject:
    honest = sent(mr_image(1, study="9.9.9.9.9.9.9.9.9.9"))
    return replace(
        honest, dataset=memoryview(bytes(honest.dataset).replace(b"9.9.9.9.9.9.9.9.9.9", b"../../../etc/cron.d"))
    )


REFUSED = {
    "a text": (lambda: replace(sent(mr_image(1)), dataset=memoryview(b"Dear all,\n" * 50)), CANNOT_UNDERSTAND),
    "truncated in its header": (truncated, CANNOT_UNDERSTAND),
    "nothing": (lambda: replace(sent(mr_image(1)), dataset=memoryview(b"")), DATA_SET_DOES_NOT_MATCH),
    "no study": (without("StudyInstanceUID"), DATA_SET_DOES_NOT_MATCH),
    "no series": (without("SeriesInstanceUID"), DATA_SET_DOES_NOT_MATCH),
    "no instance": (without("SOPInstanceUID"), DATA_SET_DOES_NOT_MATCH),
    "another instance": (lambda: replace(sent(mr_image(1)), sop_instance_uid="1.2.3.1.2"), DATA_SET_DOES_NOT_MATCH),
    "another class": (lambda: replace(sent(mr_image(1)), sop_class_uid="1.2.840.10008.5.1.4.1.1.2"), 0xA900),
    "a path": (path_for_a_uid, DATA_SET_DOES_NOT_MATCH),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_filed_is_refused_and_leaves_nothing(
    house: House, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, status = REFUSED[what]
    with caplog.at_level(logging.DEBUG):
        assert house.intake.keep(make()) == (status, None)  # type: ignore[operator]
    assert house.files() == []
    assert house.ledger.open_studies() == ()
    assert f"'MODALITY' refused with 0x{status:04X}" in caplog.text
    assert "SECRET" not in caplog.text
    assert "1.2.3" not in caplog.text


def test_an_image_cut_off_in_its_pixels_is_kept_for_it_can_be_filed(house: House) -> None:
    whole = sent(mr_image(1))
    assert house.intake.keep(replace(whole, dataset=whole.dataset[:-4])) == (SUCCESS, Recorded.NEW)


def test_a_full_disk_is_out_of_resources(tmp_path: Path) -> None:
    house = House(tmp_path, minimum_free_bytes=2**62)
    assert house.intake.keep(sent(mr_image(1))) == (OUT_OF_RESOURCES, None)


def test_without_a_ledger_the_file_goes_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(ledger: Ledger, instance: ReceivedInstance) -> Recorded:
        raise LedgerUnavailable("database is locked")

    monkeypatch.setattr(Ledger, "record_instance", away)
    assert house.intake.keep(sent(mr_image(1))) == (OUT_OF_RESOURCES, None)
    assert house.files() == []


def test_a_file_whose_row_may_stand_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(ledger: Ledger, instance: ReceivedInstance) -> Recorded:
        raise OutcomeUnknown("connection lost")

    monkeypatch.setattr(Ledger, "record_instance", unknown)
    assert house.intake.keep(sent(mr_image(1))) == (OUT_OF_RESOURCES, None)
    assert len(house.files()) == 1
