"""The header of a data set as it comes from the network: right for whatever pydicom writes, safe for whatever comes."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from io import BytesIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from node.dataset_header import DatasetHeader, Unreadable, read_header, uid_or_empty

EXPECTED = DatasetHeader(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
    sop_instance_uid="1.2.3.4",
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.1",
    modality="MR",
)
SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    "1.2.826.0.1.9999.1",  # a private one
]


def image(*, undefined_lengths: bool = False) -> Dataset:
    """An MR image with nested sequences and private elements before and after its identifiers."""
    item, inner = Dataset(), Dataset()
    inner.CodeValue = "T-11503"
    item.ReferencedSOPClassUID = "9.9"
    item.ReferencedSOPInstanceUID = "9.9.9"
    item.PurposeOfReferenceCodeSequence = [inner, Dataset()]
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = EXPECTED.sop_class_uid
    dataset.SOPInstanceUID = EXPECTED.sop_instance_uid
    dataset.Modality = "MR"
    dataset.ReferencedImageSequence = [item, item]
    dataset.add_new(0x00090010, "LO", "SOMEBODY")
    dataset.add_new(0x00091001, "OB", bytes(70000))
    dataset.add_new(0x00091002, "UN", b"abcd")
    dataset.PatientName = "Müller^Jürgen"
    dataset.StudyInstanceUID = EXPECTED.study_instance_uid
    dataset.SeriesInstanceUID = EXPECTED.series_instance_uid
    dataset.PixelData = bytes(2000)
    dataset["PixelData"].VR = "OW"
    if undefined_lengths:
        for sequence in (dataset["ReferencedImageSequence"], item["PurposeOfReferenceCodeSequence"]):
            sequence.is_undefined_length = True
            for member in sequence.value:
                member.is_undefined_length_sequence_item = True
    return dataset


def encoded(dataset: Dataset, transfer_syntax: str) -> bytes:
    stream = DicomBytesIO()
    stream.is_implicit_VR = transfer_syntax == ImplicitVRLittleEndian
    stream.is_little_endian = transfer_syntax != ExplicitVRBigEndian
    write_dataset(stream, dataset)
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(stream.getvalue()) + deflater.flush()
    return stream.getvalue()


@pytest.mark.parametrize("undefined_lengths", [False, True])
@pytest.mark.parametrize("transfer_syntax", SYNTAXES)
def test_the_identifiers_are_found_in_every_encoding(transfer_syntax: str, undefined_lengths: bool) -> None:
    content = encoded(image(undefined_lengths=undefined_lengths), transfer_syntax)
    assert read_header(content, transfer_syntax) == EXPECTED


def test_what_comes_after_the_header_is_not_looked_at() -> None:
    content = encoded(image(), ExplicitVRLittleEndian)
    assert read_header(content[:-1500] + b"\xff" * 50, ExplicitVRLittleEndian) == EXPECTED


def test_a_private_sequence_of_undefined_length_as_un_is_implicit_inside() -> None:
    beginning = encoded(image(), ExplicitVRLittleEndian)
    item = struct.pack("<HHL", 0x0008, 0x0100, 2) + b"AB"
    sequence = (
        struct.pack("<HH2sHL", 0x0007, 0x1001, b"UN", 0, 0xFFFFFFFF)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        + item
        + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )
    assert read_header(sequence + beginning, ExplicitVRLittleEndian) == EXPECTED


def test_a_data_set_without_identifiers_is_readable_but_says_nothing() -> None:
    header = read_header(encoded(Dataset(), ExplicitVRLittleEndian), ExplicitVRLittleEndian)
    assert header == DatasetHeader(
        sop_class_uid="", sop_instance_uid="", study_instance_uid="", series_instance_uid="", modality=""
    )


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("1.2.840.10008", "1.2.840.10008"),
        ("1.2.03", "1.2.03"),
        ("1" * 64, "1" * 64),
        ("1" * 65, ""),
        ("../../etc/passwd", ""),
        ("1.2.3/..", ""),
        ("..", ""),
        ("", ""),
        ("1.2.3\n", ""),
        ("1.2\\1.3", ""),
        ("١.٢", ""),  # digits, but not of ASCII  # noqa: RUF001
    ],
)
def test_uids_that_could_do_harm_are_none(value: str, kept: str) -> None:
    assert uid_or_empty(value) == kept


@pytest.mark.parametrize("transfer_syntax", SYNTAXES)
@given(content=st.binary(max_size=400))
@example(content=b"")
@example(content=struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF))
def test_any_bytes_end_as_a_header_or_as_unreadable(transfer_syntax: str, content: bytes) -> None:
    try:
        header = read_header(content, transfer_syntax)
    except Unreadable:
        return
    assert isinstance(header, DatasetHeader)


@pytest.mark.parametrize("transfer_syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@given(data=st.data())
def test_a_damaged_data_set_ends_as_a_header_or_as_unreadable(transfer_syntax: str, data: st.DataObject) -> None:
    content = bytearray(encoded(image(undefined_lengths=True), transfer_syntax)[:70400])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 600))] = data.draw(st.integers(0, 255))
    complaint = ""
    try:
        read_header(bytes(content[: data.draw(st.integers(0, len(content)))]), transfer_syntax)
    except Unreadable as error:
        complaint = str(error)
    assert "1.2.3" not in complaint


def test_a_tower_of_sequences_inside_each_other_is_given_up_without_recursion() -> None:
    opened = struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(Unreadable, match="too many elements"):
        read_header(opened * 200_000, ExplicitVRLittleEndian)


def test_a_small_file_that_inflates_without_end_is_given_up() -> None:
    element = struct.pack("<HH2sHL", 9, 0x1001, b"OB", 0, 2**31)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = deflater.compress(element + bytes(2**26)) + deflater.flush()
    assert len(content) < 2**17
    with pytest.raises(Unreadable):
        read_header(content, DeflatedExplicitVRLittleEndian)


def test_a_memoryview_is_read_in_place() -> None:
    with BytesIO(encoded(image(), ExplicitVRLittleEndian)).getbuffer() as view:
        assert read_header(view, ExplicitVRLittleEndian) == EXPECTED


def deflated(content: bytes, level: int = 6) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


@given(
    value=st.sampled_from([b"\0", b"\x7f\x01ab"]),
    length=st.sampled_from([0, 2, 16382, 16384, 16386, 32768, 100_000, 3_000_000]),
    level=st.sampled_from([0, 1, 9]),
    undefined_lengths=st.booleans(),
)
def test_wherever_a_piece_ends_the_header_is_the_same(
    value: bytes, length: int, level: int, undefined_lengths: bool
) -> None:
    private = struct.pack("<HH2sHL", 7, 0x1001, b"OB", 0, length) + (value * length)[:length]
    content = private + encoded(image(undefined_lengths=undefined_lengths), ExplicitVRLittleEndian)
    assert read_header(deflated(content, level), DeflatedExplicitVRLittleEndian) == EXPECTED


def test_of_a_deflated_data_set_only_the_header_is_inflated() -> None:
    """And so what comes after it need not even be whole; 64 KiB are stored in each block of level 0."""
    content = deflated(encoded(image(), ExplicitVRLittleEndian) + bytes(2**18), level=0)
    assert read_header(content[: 2**17] + b"\xff" * 1000, DeflatedExplicitVRLittleEndian) == EXPECTED


@pytest.mark.parametrize(
    "content",
    [
        deflated(encoded(image(), ExplicitVRLittleEndian) + bytes(2**24), level=0),
        deflated(struct.pack("<HH2sHL", 7, 0x1001, b"OB", 0, 2**24 - 2**18) + bytes(2**24 - 2**18)),
        deflated(struct.pack("<HH2sHL", 7, 0x1001, b"OB", 0, 2**31) + bytes(2**25)),
    ],
    ids=["stored as it is", "big before the header", "without end"],
)
def test_however_big_it_is_a_piece_of_it_is_held_at_a_time(content: bytes) -> None:
    tracemalloc.start()
    try:
        read_header(content, DeflatedExplicitVRLittleEndian)
    except Unreadable:
        assert len(content) < 2**16
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**18
