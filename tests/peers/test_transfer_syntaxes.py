"""Images that DCMTK wrote in every transfer syntax it knows stack to the same volume."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from inference.stacking import stack
from inference.volume import Unsuitable
from tests.dicom_factories import mr_series

pytestmark = pytest.mark.peers

LOSSLESS = [
    ("dcmconv", "+ti"),  # Implicit VR Little Endian
    ("dcmconv", "+tb"),  # Explicit VR Big Endian
    ("dcmconv", "+td"),  # Deflated
    ("dcmcrle",),
    ("dcmcjpeg", "+e1"),  # JPEG lossless, process 14 selection value 1
    ("dcmcjpeg", "+el"),  # JPEG lossless, process 14
    ("dcmcjpls", "+el"),
]
LOSSY = [("dcmcjpeg", "+ee", "dcmdjpeg"), ("dcmcjpls", "+en", "dcmdjpls")]
"""JPEG extended (12 bit) and JPEG-LS near-lossless, and DCMTK's decoder for each."""


def pixels() -> np.ndarray:
    """A smooth 12-bit image with an edge and noise."""
    rows, columns = np.mgrid[:96, :80]
    noise = np.random.default_rng(1).integers(0, 40, (96, 80))
    return (rows * 20 + columns * 10 + noise + np.where(columns > 40, 700, 0)).astype(np.uint16)


def rewritten(tmp_path: Path, tool: Path, *options: str) -> list[Dataset]:
    """Two slices, written by pydicom and rewritten by the tool."""
    images = []
    for image in mr_series(2, pixels=pixels(), BitsStored=12, HighBit=11):
        source, target = tmp_path / f"{image.InstanceNumber}.dcm", tmp_path / f"{image.InstanceNumber}_again.dcm"
        image.save_as(source, enforce_file_format=True)
        done = subprocess.run([tool, *options, source, target], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        images.append(pydicom.dcmread(target))
    return images


@pytest.mark.parametrize("command", LOSSLESS, ids=" ".join)
def test_lossless_syntaxes_change_no_pixel(
    command: tuple[str, ...], tmp_path: Path, require_program: Callable[[str], Path]
) -> None:
    images = rewritten(tmp_path, require_program(command[0]), *command[1:])
    voxels = stack(images).volume.voxels
    assert np.array_equal(voxels, np.stack([pixels(), pixels()]).astype(np.float32))


@pytest.mark.parametrize("command", LOSSY, ids=" ".join)
def test_lossy_syntaxes_give_what_dcmtk_decodes(
    command: tuple[str, str, str], tmp_path: Path, require_program: Callable[[str], Path]
) -> None:
    compress, option, decompress = command
    images = rewritten(tmp_path, require_program(compress), option)
    subprocess.run([require_program(decompress), tmp_path / "1_again.dcm", tmp_path / "plain.dcm"], check=True)
    expected = pydicom.dcmread(tmp_path / "plain.dcm").pixel_array
    assert not np.array_equal(expected, pixels())
    assert np.array_equal(stack(images).volume.voxels[0], expected.astype(np.float32))


@pytest.mark.parametrize("command", [*LOSSLESS[2:], *(command[:2] for command in LOSSY)], ids=" ".join)
def test_a_file_cut_in_half_is_refused_whatever_its_syntax(
    command: tuple[str, ...], tmp_path: Path, require_program: Callable[[str], Path]
) -> None:
    images = rewritten(tmp_path, require_program(command[0]), *command[1:])
    if not images[0].file_meta.TransferSyntaxUID.is_encapsulated:
        images[0].PixelData = images[0].PixelData[: len(images[0].PixelData) // 2]
    else:
        frame = next(iter(pydicom.encaps.generate_frames(images[0].PixelData, number_of_frames=1)))
        images[0].PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])
    with pytest.raises(Unsuitable, match=str(images[0].SOPInstanceUID)):
        stack(images)
