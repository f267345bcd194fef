"""`spinenode demo`, as `make demo` calls it: what it prints, and what it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node", "demo", "--out", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_the_demonstration_ends_with_results_in_the_archive_and_may_be_repeated(tmp_path: Path) -> None:
    first = demo(tmp_path / "out")
    again = demo(tmp_path / "out")

    for answer in (first, again):
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "delivered: every archive holds every result" in answer.stdout
        assert "L5/S1" in answer.stdout
        assert "Pfirrmann grade" in answer.stdout
    objects = [pydicom.dcmread(path) for path in (tmp_path / "out/archive").glob("*.dcm")]
    assert {item.Modality for item in objects} == {"SR", "OT"}
    assert "RESEARCH USE ONLY" in (tmp_path / "out/report.txt").read_text()
    pictures = sorted((tmp_path / "out/captures").glob("*.png"))
    assert len(pictures) == sum(item.Modality == "OT" for item in objects)
    for picture in pictures:
        with Image.open(picture) as page:
            assert max(page.size) > 500, f"{picture.name} is too small to read: {page.size}"
