"""The receiver and DCMTK: echo, images in many transfer syntaxes, many senders at once, a sender that is killed."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import JPEG2000Lossless

from node.records import Recorded
from tests import postgresql_server
from tests.receiving import Receiver
from tests.unit.node.encoded_images import mr_image

pytestmark = pytest.mark.peers

Find = Callable[[str], Path]

SYNTAXES = {
    "explicit little endian": (["dcmconv", "+te"], "-xe", "1.2.840.10008.1.2.1"),
    "explicit big endian": (["dcmconv", "+tb"], "-xb", "1.2.840.10008.1.2.2"),
    "implicit little endian": (["dcmconv", "+ti"], "-xi", "1.2.840.10008.1.2"),
    "deflated": (["dcmconv", "+td"], "-xd", "1.2.840.10008.1.2.1.99"),
    "RLE": (["dcmcrle"], "-xr", "1.2.840.10008.1.2.5"),
    "JPEG lossless": (["dcmcjpeg", "+e1"], "-xs", "1.2.840.10008.1.2.4.70"),
    "JPEG-LS": (["dcmcjpls"], "-xt", "1.2.840.10008.1.2.4.80"),
    "JPEG 2000": (None, "-xv", JPEG2000Lossless),
}
"""Program that writes it, storescu's option that proposes it, its UID."""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


def picture(number: int) -> Dataset:
    """A 32 x 32 image of 12 bits, each different."""
    dataset = mr_image(number)
    dataset.Rows = dataset.Columns = 32
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelData = ((np.arange(1024, dtype="<u2") * 3 + number) % 4096).tobytes()
    return dataset


def store(program: Path, receiver: Receiver, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(program), "-aec", "SPINENODE", "127.0.0.1", str(receiver.port), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_echo(receiver: Receiver, require_program: Find) -> None:
    assert store(require_program("echoscu"), receiver).returncode == 0


def test_echo_to_another_title_is_refused(receiver: Receiver, require_program: Find) -> None:
    command = [str(require_program("echoscu")), "-aec", "OTHER", "127.0.0.1", str(receiver.port)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Called AE Title Not Recognized" in answer.stdout + answer.stderr


@pytest.mark.parametrize("name", SYNTAXES)
def test_an_image_arrives_in_the_transfer_syntax_it_has(
    receiver: Receiver, require_program: Find, tmp_path: Path, name: str
) -> None:
    converter, proposal, transfer_syntax = SYNTAXES[name]
    number = 500 + list(SYNTAXES).index(name)
    original = picture(number)
    plain, file = tmp_path / "plain.dcm", tmp_path / "sent.dcm"
    original.save_as(plain, enforce_file_format=True)
    if converter is None:
        original.compress(JPEG2000Lossless, generate_instance_uid=False)
        original.save_as(file, enforce_file_format=True)
    else:
        program, *options = converter
        keep_uid = [] if program == "dcmconv" else ["+un"]  # the encoders may name what they make anew
        subprocess.run([require_program(program), *options, *keep_uid, plain, file], check=True, timeout=60)

    answer = store(require_program("storescu"), receiver, proposal, file)

    assert answer.returncode == 0, answer.stderr
    kept = pydicom.dcmread(io.BytesIO(receiver.kept()[f"1.2.3.1.{number}"]))
    assert kept.file_meta.TransferSyntaxUID == transfer_syntax
    assert kept.PixelData == pydicom.dcmread(file).PixelData
    np.testing.assert_array_equal(kept.pixel_array, pydicom.dcmread(plain).pixel_array)


def test_the_same_folder_again_changes_nothing(receiver: Receiver, require_program: Find, tmp_path: Path) -> None:
    for number in range(600, 605):
        picture(number).save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    for _ in range(2):
        assert store(require_program("storescu"), receiver, "+sd", tmp_path).returncode == 0
    receiver.wait_for_log("released: 5 new")
    receiver.wait_for_log("released: 5 same_again")


def test_four_senders_at_once_lose_nothing(receiver: Receiver, require_program: Find, tmp_path: Path) -> None:
    senders = []
    for sender in range(4):
        folder = tmp_path / str(sender)
        folder.mkdir()
        for number in range(1000 + 100 * sender, 1025 + 100 * sender):
            picture(number).save_as(folder / f"{number}.dcm", enforce_file_format=True)
        command = [require_program("storescu"), "-aec", "SPINENODE", "127.0.0.1", str(receiver.port), "+sd", folder]
        senders.append(subprocess.Popen(command))
    assert [sender.wait(timeout=100) for sender in senders] == [0, 0, 0, 0]
    kept = receiver.kept()
    for sender in range(4):
        for number in range(1000 + 100 * sender, 1025 + 100 * sender):
            content = pydicom.dcmread(io.BytesIO(kept[f"1.2.3.1.{number}"]))
            assert content.PixelData == picture(number).PixelData


def test_a_sender_that_is_killed_takes_nothing_with_it(
    receiver: Receiver, require_program: Find, tmp_path: Path
) -> None:
    numbers = range(2000, 2080)
    for number in numbers:
        picture(number).save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    ledger = receiver.ledger()
    before = ledger.received_counts()[Recorded.NEW]
    command = [require_program("storescu"), "-aec", "SPINENODE", "127.0.0.1", str(receiver.port), "+sd", tmp_path]
    sender = subprocess.Popen(command)
    while ledger.received_counts()[Recorded.NEW] < before + 5:
        assert sender.poll() is None, "it was to be killed while it sends"
    sender.kill()
    sender.wait(timeout=20)
    ledger.close()
    assert store(require_program("storescu"), receiver, "+sd", tmp_path).returncode == 0
    assert {f"1.2.3.1.{number}" for number in numbers} <= set(receiver.kept())


def test_with_a_ledger_on_postgresql(require_program: Find, tmp_path: Path) -> None:
    picture(1).save_as(tmp_path / "sent.dcm", enforce_file_format=True)
    with postgresql_server.running_server() as server:
        url = f"{server}/postgres"
        with Receiver(tmp_path, database_url=url) as receiver:
            for _ in range(2):
                assert store(require_program("storescu"), receiver, tmp_path / "sent.dcm").returncode == 0
            receiver.wait_for_log("released: 1 same_again")
            assert list(receiver.kept()) == ["1.2.3.1.1"]
            assert receiver.rss_mb < 100
