"""``spinenode evaluate measured`` as a user calls it, on all of SPIDER, from images to the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from inference.training import measured_page, spider
from node.__main__ import main

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(1800)]
FEWEST = 0.9
"""Of what is labelled: images whose discs are counted otherwise are left out, and discs that are cut off."""


def test_measured_grades_are_held_against_labels_and_written_into_the_page(data_root: Path, tmp_path: Path) -> None:
    page = tmp_path / "grading.md"
    page.write_text(f"# Before\n\n{measured_page.START}\nof yesterday\n{measured_page.END}\n\nAfter.\n")

    done = CliRunner().invoke(
        main, ["evaluate", "measured", "--data", str(data_root / "spider"), "--out", str(tmp_path)]
    )

    assert done.exit_code == 0, done.output
    before, _, rest = page.read_text().partition(measured_page.START)
    told, _, after = rest.partition(measured_page.END)
    assert (before, after) == ("# Before\n\n", "\n\nAfter.\n")
    assert "of yesterday" not in told
    assert told.strip() in done.output
    _require_narrowing(told, data_root / "spider")
    _require_canal(told, data_root / "spider")
    _require_modic(told, data_root / "spider")


def _require_narrowing(told: str, root: Path) -> None:
    """As many discs as are labelled; the more is lost, the more are labelled narrowed."""
    labels = spider.gradings(root)
    t2 = [image.patient for image in spider.midsagittal_images(root) if image.weighting == "t2"]
    for name, patients in (("mid-sagittal", t2), ("stacks", spider.stack_patients(root))):
        size, auc, *bands = _row(told, name)
        labelled = [row["Disc narrowing"] for (patient, _), row in labels.items() if patient in patients]
        discs, narrowed = _numbers(size)
        assert FEWEST * len(labelled) < discs <= len(labelled), name
        assert FEWEST * sum(labelled) < narrowed <= sum(labelled), name
        assert float(auc) > 0.85, name
        shares, counts = zip(*map(_numbers, bands), strict=True)
        assert sum(counts) == discs, name
        assert list(shares) == sorted(shares), name


def _require_canal(told: str, root: Path) -> None:
    """Chatha 2011 found means of 11.6 mm (L5/S1) to 15.6 mm (L1/L2); patients with back pain have less."""
    stacks = len(spider.stack_patients(root))
    for level in ("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"):
        discs, diameter_mm, _, narrow, effaced, _ = _row(told, level)
        assert FEWEST * stacks < int(discs) <= stacks, level
        assert 10 < float(diameter_mm) < 16, level
        assert int(narrow) + int(effaced) < int(discs) / 3, level


def _require_modic(told: str, root: Path) -> None:
    """Every disc with T1 is counted once, by its label."""
    match = re.search(r"\((\d+) discs with T1", told)
    assert match is not None
    by_label = {label: sum(_numbers(" ".join(_row(told, label)))) for label in "0123"}
    assert sum(by_label.values()) == int(match[1]) > 0
    labels = [row["Modic"] for row in spider.gradings(root).values()]
    assert all(by_label[label] <= labels.count(int(label)) for label in by_label)


def _row(text: str, name: str) -> list[str]:
    """The cells beside a row's name."""
    (row,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", text, re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


def _numbers(cell: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", cell)]
