"""Contrast and body part on the headers of all SPIDER series, several scanners of four hospitals."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from inference.body_part import foreign_body_part
from inference.contrast import Weighting, contrast_of
from inference.frames import Frame, read_frames

pytestmark = pytest.mark.realdata

STIR_AMONG_THE_T2 = {"116_t2"}
"""SPIDER files this inversion recovery series (Scanning Sequence SE, IR; named "SAG T2 TSE STIR") under T2."""


@pytest.fixture(scope="module")
def series(data_root: Path) -> dict[str, Frame]:
    frames = {}
    with (data_root / "spider" / "series.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            header = Dataset()
            header.EchoTime, header.RepetitionTime = row["EchoTime"][:16], row["RepetitionTime"][:16]
            header.ScanningSequence = [
                term
                for term in ("SE", "IR", "GR", "EP")
                if f"'{term}'" in row["ScanningSequence"] or term == row["ScanningSequence"]
            ]
            header.SeriesDescription, header.BodyPartExamined = row["SeriesDescription"], row["BodyPartExamined"][:16]
            frames[row["series"]] = read_frames([header])[0]
    return frames


def test_every_series_has_the_weighting_that_its_scanner_meant(series: dict[str, Frame]) -> None:
    found = {name: contrast_of(frame).weighting for name, frame in series.items()}
    expected = {name: Weighting.T1 if name.endswith("_t1") else Weighting.T2 for name in series}
    expected |= dict.fromkeys(STIR_AMONG_THE_T2, Weighting.STIR)
    assert len(expected) == 360
    assert {name: found[name] for name in found if found[name] is not expected[name]} == {}


def test_no_lumbar_series_is_taken_for_another_body_part(series: dict[str, Frame]) -> None:
    assert [name for name, frame in series.items() if foreign_body_part(frame)] == []
