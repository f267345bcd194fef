"""OHIF in Chromium shows what a radiologist is to read. Screenshots are left in the test's folder, to be looked at.

OHIF comes from the npm registry: `npm pack @ohif/app@3.13.2` unpacked to DIR/package and `npm install playwright-core`
in DIR; SPINENODE_OHIF=DIR names it. Skipped without; fails where REQUIRE_OHIF=1.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inference.grades import TITLES, Finding
from sr_templates.render import OutputKind, Wanted, render
from tests import orthanc_process
from tests.peers import ohif_server
from tests.report_factories import RUN, STUDY_UID, GradedStudy, graded_study

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(600)]

SERIES = {
    "grading SR": OutputKind.MEASUREMENT_REPORT,
    "grading text": OutputKind.TEXT_REPORT,
    "grading images": OutputKind.SECONDARY_CAPTURE,
    "grading segments": OutputKind.SEGMENTATION,
    "Evidence: Pfirrmann": OutputKind.PARAMETRIC_MAP,
}
"""Words of the series' thumbnails -> what the series holds; those kinds that OHIF shows."""


@pytest.fixture(scope="module")
def ohif() -> Path:
    folder = Path(os.environ.get("SPINENODE_OHIF", "ohif-is-not-here"))
    if not (folder / "package" / "dist" / "index.html").is_file():
        complaint = "OHIF is not here: see the head of this file, then set SPINENODE_OHIF"
        if os.environ.get("REQUIRE_OHIF") == "1":
            pytest.fail(complaint)
        pytest.skip(complaint)
    return folder


@pytest.fixture(scope="module")
def shown(
    ohif: Path, require_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What could be read with the study open, and with each of its series open."""
    study = with_a_slip_next_to_nothing(graded_study())
    folder = tmp_path_factory.mktemp("ohif")
    files = folder / "files"
    files.mkdir()
    write_study(study, files)
    with orthanc_process.running(require_program("Orthanc"), folder / "archive") as archive:
        archive.upload(files)
        with ohif_server.serving(ohif / "package" / "dist", archive.http_port) as origin:
            return read_in_ohif(ohif, f"{origin}/viewer?StudyInstanceUIDs={STUDY_UID}", folder, require_program)


def with_a_slip_next_to_nothing(study: GradedStudy) -> GradedStudy:
    first, *others = study.report.discs
    first = replace(first, measurements={**first.measurements, "slip_mm": 0.003})
    return replace(study, report=replace(study.report, discs=(first, *others)))


def write_study(study: GradedStudy, folder: Path) -> None:
    wanted = Wanted(kinds=frozenset(SERIES.values()))
    for index, instance in enumerate(study.source):
        instance.save_as(folder / f"source-{index:02d}.dcm", enforce_file_format=True)
    for index, item in enumerate(render(study.report, study.source, RUN, wanted)):
        item.dataset.save_as(folder / f"{index:02d}.dcm", enforce_file_format=True)


def read_in_ohif(ohif: Path, url: str, folder: Path, require_program: Callable[[str], Path]) -> dict[str, str]:
    script = Path(__file__).with_name("ohif_pages.js")
    command = [require_program("node"), script, url, folder, require_program("chromium"), *SERIES]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "NODE_PATH": str(ohif / "node_modules")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {item["name"]: item["text"] for item in json.loads(done.stdout)["seen"]}


def test_every_series_of_the_results_is_listed(shown: dict[str, str]) -> None:
    for words in SERIES:
        assert words in shown["study"], words


def test_the_measurement_report_names_levels_and_grades_on_the_image(shown: dict[str, str]) -> None:
    text = shown["grading SR"]
    assert TITLES[Finding.PFIRRMANN] in text
    assert "T12/L1 disc" in text  # the first of its groups is opened
    assert "Vertebral slip: 0.00 mm" in text  # OHIF shows the number 0 as "mm"


def test_the_text_report_can_be_read(shown: dict[str, str]) -> None:
    text = " ".join(shown["grading text"].split())
    assert "RESEARCH USE ONLY" in text
    assert "L4/L5: Pfirrmann grade 4, moderate disc narrowing, upper marrow change." in text


def test_the_segments_open_over_the_source(shown: dict[str, str]) -> None:
    text = shown["grading segments"]
    assert "Do you want to open this Segmentation?" not in text
    assert "T2 TSE SAG" in text


def test_the_evidence_is_loaded_over_the_source(shown: dict[str, str]) -> None:
    text = shown["Evidence: Pfirrmann"]
    assert "Loading" not in text
    assert "T2 TSE SAG" in text


def test_nothing_that_is_opened_is_reported_as_broken(shown: dict[str, str]) -> None:
    for name, text in shown.items():
        assert "Something went wrong" not in text, name
        assert "unsupported" not in text.lower(), name
