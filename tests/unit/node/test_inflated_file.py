"""Deflated files are read a piece at a time: what they become is bounded, and what is legal comes out whole."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node import inflated_file, study_files
from tests.unit.node.test_study_files import PIXELS, write_image

MB = 2**20
EMPTY_ITEM = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"


def write_with(path: Path, before_group_0028: bytes, zeros: int = 0) -> Path:
    """A deflated image with other elements, and so many zeros, before group 0028."""
    write_image(path, DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    begin = 144 + int(read_file_meta_info(path).FileMetaInformationGroupLength)
    elements = zlib.decompress(whole[begin:], -zlib.MAX_WBITS)
    at = elements.index(struct.pack("<HH2s", 0x28, 2, b"US"))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [deflate.compress(elements[:at] + before_group_0028)]
    parts += [deflate.compress(bytes(MB)) for _ in range(zeros // MB)]
    path.write_bytes(whole[:begin] + b"".join([*parts, deflate.compress(elements[at:]), deflate.flush()]))
    return path


def private(length: int) -> bytes:
    """The head of a private element."""
    return struct.pack("<HH2sHL", 0x21, 0x1010, b"OB", 0, length)


def sequence(vr: bytes, length: int) -> bytes:
    """The head of Referenced Image Evidence Sequence."""
    return struct.pack("<HH2sHL", 0x21, 0x9092, vr, 0, length)


def reasons(path: Path) -> list[str]:
    found = study_files.read([path])
    assert len(found.instances) + len(found.unreadable) == 1
    return [file.reason for file in found.unreadable]


def test_what_a_file_inflates_to_is_never_held_and_its_image_is_read(tmp_path: Path) -> None:
    path = write_with(tmp_path / "image", private(64 * MB), zeros=64 * MB)
    assert path.stat().st_size < MB
    tracemalloc.start()
    (image,) = study_files.read([path]).instances
    pixels = image.pixel_array
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(pixels, PIXELS)
    assert peak < 4 * MB


def test_a_file_that_inflates_beyond_the_limit_is_named_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflated_file, "MOST_INFLATED_BYTES", 8 * MB)
    bomb = write_with(tmp_path / "bomb", private(64 * MB), zeros=64 * MB)
    whole = write_image(tmp_path / "whole", DeflatedExplicitVRLittleEndian)
    content = bomb.read_bytes()
    tracemalloc.start()
    found = study_files.read([bomb, whole])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(file.path, file.reason) for file in found.unreadable] == [(bomb, "it inflates to more than 8 MB")]
    assert [image.filename for image in found.instances] == [str(whole)]
    assert bomb.read_bytes() == content
    assert peak < 4 * MB


def test_more_items_than_any_header_has_are_not_made(tmp_path: Path) -> None:
    """Of a length that is not told: pydicom makes a data set of each, at once."""
    end = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    path = write_with(tmp_path / "image", sequence(b"SQ", 0xFFFFFFFF) + EMPTY_ITEM * 200_000 + end)
    assert reasons(path) == ["its deflated header holds too many elements"]


@pytest.mark.parametrize("vr", [b"SQ", b"UN", b"UC"])
def test_a_long_value_that_would_be_taken_apart_is_not_read(tmp_path: Path, vr: bytes) -> None:
    path = write_with(tmp_path / "image", sequence(vr, 2 * MB), zeros=2 * MB)
    assert reasons(path) == ["a value of its deflated header inflates to too many bytes"]


def test_many_values_that_are_each_small_enough_to_be_kept_are_bounded(tmp_path: Path) -> None:
    each = b"".join(struct.pack("<HH2sHL", 0x21, 0x1010 + n, b"OB", 0, 65000) + bytes(65000) for n in range(300))
    assert reasons(write_with(tmp_path / "image", each)) == ["its deflated header inflates to too many bytes"]


def test_a_file_cut_off_or_broken_is_named(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image", DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert reasons(path) == ["it cannot be inflated to its end (truncated?)"]
    path.write_bytes(whole[:600] + b"\xff" * 200 + whole[800:])
    assert len(reasons(path)) == 1


def test_memory_that_runs_out_is_told_as_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def runs_out(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(inflated_file, "read_deflated", runs_out)
    path = write_image(tmp_path / "image", DeflatedExplicitVRLittleEndian)
    assert reasons(path) == ["there is not enough memory to read it"]


def test_pixels_are_left_in_the_file_until_somebody_asks(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image", DeflatedExplicitVRLittleEndian)
    (image,) = study_files.read([path]).instances
    assert image.get_item("PixelData", keep_deferred=True).value is None
    assert image.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian


def test_reading_goes_back_as_a_plain_file_does(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image", DeflatedExplicitVRLittleEndian)
    begin = 144 + int(read_file_meta_info(path).FileMetaInformationGroupLength)
    inflated = zlib.decompress(path.read_bytes()[begin:], -zlib.MAX_WBITS)
    file = inflated_file.InflatedFile(str(path))
    for position, count in ((0, 10), (130_000, 5), (129_990, 20), (3, 100_000), (len(inflated) + 5, 4), (50, 1)):
        file.seek(position)
        assert file.read(count) == inflated[position : position + count]
    file.close()
