"""``spinenode evaluate measured`` as a user calls it, on some of SPIDER's patients, from images to the page."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from inference.training import measured_page, spider
from node.__main__ import main

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(900)]
PATIENTS, STACKS = 40, 3


@pytest.fixture(scope="module")
def some_patients(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the first patients who have images of both weightings; three of them with their stacks."""
    whole, part = data_root / "spider", tmp_path_factory.mktemp("spider")
    stacked = spider.stack_patients(whole)[:STACKS]
    by_patient: dict[int, set[str]] = {}
    for image in spider.midsagittal_images(whole):
        by_patient.setdefault(image.patient, set()).add(image.weighting)
    both = [patient for patient, weightings in by_patient.items() if {"t1", "t2"} <= weightings]
    chosen = {*stacked, *[patient for patient in both if patient not in stacked][: PATIENTS - STACKS]}
    for name in ("midsagittal", "series.csv", "radiological_gradings.csv"):
        (part / name).symlink_to(whole / name)
    with (whole / "midsagittal.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if spider.patient_of(row["image"]) in chosen]
    with (part / "midsagittal.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (part / "stacks").mkdir()
    for patient in stacked:
        for path in (whole / "stacks").glob(f"{patient}_*"):
            (part / "stacks" / path.name).symlink_to(path)
    return part


def test_measured_grades_are_held_against_labels_and_written_into_the_page(some_patients: Path, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "grading.md"
    page.parent.mkdir()
    page.write_text(f"# Before\n\n{measured_page.START}\nof yesterday\n{measured_page.END}\n\nAfter.\n")

    done = CliRunner().invoke(main, ["evaluate", "measured", "--data", str(some_patients), "--out", str(page.parent)])

    assert done.exit_code == 0, done.output
    text = page.read_text()
    before, _, rest = text.partition(measured_page.START)
    told, _, after = rest.partition(measured_page.END)
    assert (before, after) == ("# Before\n\n", "\n\nAfter.\n")
    assert "of yesterday" not in told
    assert told.strip() in done.output
    tables = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in _lines(told)}
    discs, narrowed = map(int, re.findall(r"\d+", tables["mid-sagittal"][0]))
    assert 100 < discs <= 9 * PATIENTS
    assert 10 < narrowed < discs / 2
    assert float(tables["mid-sagittal"][1]) > 0.85
    by_bands = [re.findall(r"\d+", cell) for cell in tables["mid-sagittal"][2:]]
    assert sum(int(band[1]) for band in by_bands if band) == discs
    assert int(by_bands[0][0]) < 15 < int(by_bands[2][0])
    assert tables["L3/L4"][0] == str(STACKS)
    assert 8 < float(tables["L3/L4"][1]) < 18
    modic = {label: sum(map(int, tables[label])) for label in "0123"}
    assert modic["0"] > modic["2"] > 0
    assert f"({sum(modic.values())} discs with T1" in told


def _lines(text: str) -> list[str]:
    """Of all tables, without their headings."""
    return [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
