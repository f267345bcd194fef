"""Programs of other authors judge the note that withdraws earlier results: dicom3tools, PixelMed, DCMTK."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sr_templates.render import OutputKind, Predecessor, Wanted, render, render_rejection
from tests.report_factories import RUN, Layout, graded_study

EXPECTED_WARNINGS = ("<99SPINENODE>", "DeviceUID(0018,1002)> - Attribute is not present in standard DICOM IOD")
"""dciodvfy knows no private scheme, and its dictionary is older than Device UID in Contributing Equipment."""
PIXELMED_LOOKS_FOR_THE_TITLE_IN_A_CODE = tuple(
    f'[Row {row}] CODE CID {cid}: within 1: /CONTAINER (113001,DCM,"Rejected for Quality Reasons"): '
    "Conditional content item present when condition not satisfied"
    for row, cid in ((3, 7011), (4, 7012))
)
"""TID 2010 asks for a Document Title Modifier under this title. PixelMed's rule has that condition, but looks for the
title in a CODE item beside the root, where no document can have it; so it complains of every modifier, in both rows."""

pytestmark = [pytest.mark.peers, pytest.mark.slow]


@pytest.fixture(scope="module", params=list(Layout), ids=lambda layout: layout.value)
def note(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It withdraws one object of every kind that is made."""
    study = graded_study(request.param)
    made = render(study.report, study.source, RUN, Wanted(kinds=frozenset(OutputKind)))
    earlier = tuple(
        Predecessor(
            sop_class_uid=item.dataset.SOPClassUID,
            sop_instance_uid=item.dataset.SOPInstanceUID,
            series_instance_uid=item.dataset.SeriesInstanceUID,
        )
        for item in made
    )
    later = replace(RUN, study_digest="e" * 64, number=2)
    file = tmp_path_factory.mktemp("note") / "note.dcm"
    render_rejection(study.report, study.source, later, earlier).dataset.save_as(file, enforce_file_format=True)
    return file


def said_by(*command: str | Path) -> list[str]:
    limits = " ".join(f"-Djdk.xml.{name}=0" for name in ("xpathTotalOpLimit", "xpathExprOpLimit", "xpathExprGrpLimit"))
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "JAVA_TOOL_OPTIONS": limits},
    )
    return (answer.stdout + answer.stderr).splitlines()


def complaints(said: Sequence[str], known: Sequence[str]) -> list[str]:
    return [
        line for line in said if line.startswith(("Error", "Warning")) and not any(words in line for words in known)
    ]


def test_dciodvfy_finds_neither_error_nor_warning(note: Path, require_program: Callable[[str], Path]) -> None:
    said = said_by(require_program("dciodvfy"), "-new", note)
    assert "KeyObjectSelectionDocument" in said
    assert complaints(said, EXPECTED_WARNINGS) == []


@pytest.mark.timeout(600)
def test_pixelmed_finds_no_error(note: Path, require_program: Callable[[str], Path]) -> None:
    said = said_by(require_program("DicomSRValidator"), "-checkcontentitemorder", "-checktemplateid", note)
    assert "IOD validation complete" in said
    assert complaints(said, PIXELMED_LOOKS_FOR_THE_TITLE_IN_A_CODE) == []


def test_dcmtk_reads_it_as_a_rejection(note: Path, require_program: Callable[[str], Path]) -> None:
    said = "\n".join(said_by(require_program("dsrdump"), "+Pc", note))
    assert 'DCM,"Rejected for Quality Reasons"' in said
    assert not [line for line in said.splitlines() if line[:2] in {"E:", "F:"}]
