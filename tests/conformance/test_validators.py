"""Programs of other authors judge the results: dicom3tools, PixelMed, dcmqi, DCMTK."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.uid import BasicTextSRStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage

from inference.report import Declined
from sr_templates.render import (
    EVERYDAY,
    CaptureForm,
    OutputKind,
    Predecessor,
    Rendered,
    SrClass,
    Wanted,
    render,
    render_declined,
)
from tests.report_factories import MODEL, RUN, STUDY_UID, GradedStudy, Layout, graded_study, with_header
from tests.unit.sr_templates.test_hostile_sources import HEADERS, with_controls

pytestmark = [pytest.mark.peers, pytest.mark.slow]

EVERYTHING = Wanted(
    kinds=frozenset(OutputKind), sr_classes=tuple(SrClass), capture_forms=tuple(CaptureForm), language="de"
)
REPLACING = replace(
    RUN,
    tracking_key="a secret",
    predecessors=tuple(
        Predecessor(sop_class_uid=uid, sop_instance_uid=f"2.25.77{n}", series_instance_uid="2.25.78")
        for n, uid in enumerate((Comprehensive3DSRStorage, ComprehensiveSRStorage, BasicTextSRStorage))
    ),
)
"""A run on a study that had results before."""

NAMES = {
    "latin-1": ("ISO_IR 100", "Müller^Jörg"),
    "utf-8": ("ISO_IR 192", "Łukasiewicz^Żaneta=王^小東"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "chinese": ("GB18030", "Wang^XiaoDong=王^小东"),
    "ascii": ("", "Muller^Jorg"),
}
"""Character set -> (Specific Character Set, a name that needs it; PS3.5 annexes H-J)."""

GEOMETRY = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
)
"""What makes a Secondary Capture a Standard Extended SOP Class: dciodvfy warns of it."""

CASES = [(layout, False) for layout in Layout] + [(Layout.OBLIQUE, True)]
JAVA_LIMITS = ("xpathTotalOpLimit", "xpathExprOpLimit", "xpathExprGrpLimit")
"""PixelMed's rules are larger than what Java 17 lets a stylesheet be."""

EXPECTED_WARNINGS = ("<99SPINENODE>", "DeviceUID(0018,1002)> - Attribute is not present in standard DICOM IOD")
"""dciodvfy knows no private scheme, and its dictionary is older than Device UID in Contributing Equipment."""


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0].value}{'-multiframe' if case[1] else ''}")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[GradedStudy, Path]:
    """A rendered study in a folder: results as ``NN-kind.dcm``, single-frame sources as ``source-NN.dcm``."""
    layout, multiframe = request.param
    study = graded_study(layout, multiframe=multiframe)
    folder = tmp_path_factory.mktemp("results")
    everyday = render(study.report, study.source, RUN)
    further = Wanted(kinds=frozenset(OutputKind) - EVERYDAY.kinds)
    for index, item in enumerate((*everyday, *render(study.report, study.source, RUN, further))):
        item.dataset.save_as(folder / f"{index:02d}-{item.kind}.dcm", enforce_file_format=True)
    if not multiframe:
        for index, instance in enumerate(study.source):
            instance.save_as(folder / f"source-{index:02d}.dcm", enforce_file_format=True)
    declined = Declined(study_instance_uid=STUDY_UID, reason="Only axial series", rejected=(), model=MODEL)
    (refusal,) = render_declined(declined, study.source, RUN)
    refusal.dataset.save_as(folder / "90-declined.dcm", enforce_file_format=True)
    return study, folder


def said_by(*command: str | Path) -> str:
    """Everything that a program prints; its exit status is not asked, the words are."""
    environment = {**os.environ, "JAVA_TOOL_OPTIONS": " ".join(f"-Djdk.xml.{limit}=0" for limit in JAVA_LIMITS)}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        timeout=280,
        check=False,
    )
    return done.stdout + done.stderr


def test_dciodvfy_finds_no_error_and_no_unexpected_warning(
    case: tuple[GradedStudy, Path], require_program: Callable[[str], Path]
) -> None:
    dciodvfy = require_program("dciodvfy")
    for file in sorted(case[1].glob("[0-9]*.dcm")):
        lines = said_by(dciodvfy, "-new", file).splitlines()
        assert lines, file.name
        assert [line for line in lines if line.startswith("Error")] == [], file.name
        warnings = [line for line in lines if line.startswith("Warning")]
        assert [line for line in warnings if not any(known in line for known in EXPECTED_WARNINGS)] == [], file.name


def test_dcentvfy_finds_the_results_consistent_with_their_source(
    case: tuple[GradedStudy, Path], require_program: Callable[[str], Path]
) -> None:
    files = sorted(case[1].glob("*.dcm"))
    lines = said_by(require_program("dcentvfy"), *files).splitlines()
    noise = "Element=<AccessionNumber> IE <"  # the program takes the number for a series attribute in some objects
    assert [line for line in lines if line.strip() and noise not in line] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("layout", "multiframe", "index", "template"),
    [
        (Layout.STRAIGHT, False, 0, "TID_1500"),
        (Layout.STRAIGHT, False, 1, "TID_2000"),
        (Layout.OBLIQUE, True, 0, "TID_1500"),
    ],
)
def test_pixelmed_finds_no_error_against_the_templates(  # noqa: PLR0917 - the case and its surroundings
    layout: Layout,
    multiframe: bool,
    index: int,
    template: str,
    require_program: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    validator = require_program("DicomSRValidator")
    study = graded_study(layout, multiframe=multiframe)
    file = tmp_path / "report.dcm"
    render(study.report, study.source, RUN)[index].dataset.save_as(file, enforce_file_format=True)
    words = said_by(validator, "-checkcontentitemorder", "-checktemplateid", file)
    assert f"Found Root Template {template}" in words
    assert "IOD validation complete" in words
    assert [line for line in words.splitlines() if line.startswith("Error")] == []


def test_dcmqi_reads_the_measurements(
    case: tuple[GradedStudy, Path], require_program: Callable[[str], Path], tmp_path: Path
) -> None:
    study, folder = case
    output = tmp_path / "measurements.json"
    reader = require_program("tid1500reader")
    said_by(reader, "--inputDICOM", folder / "00-measurement_report.dcm", "--outputMetadata", output)
    groups = json.loads(output.read_text(encoding="utf-8"))["Measurements"]
    assert [group["TrackingIdentifier"] for group in groups] == [f"{d.level.value} disc" for d in study.report.discs]
    assert [group["FindingSite"]["CodeMeaning"] for group in groups] == [
        f"{disc.level.value} disc" for disc in study.report.discs
    ]
    first = [group["measurementItems"][0] for group in groups]
    assert [float(item["value"]) for item in first] == [1, 2, 2, 2, 4, 5]


def test_dcmtk_reads_the_reports(case: tuple[GradedStudy, Path], require_program: Callable[[str], Path]) -> None:
    dsrdump = require_program("dsrdump")
    for name in ("00-measurement_report", "01-text_report", "90-declined"):
        done = subprocess.run([dsrdump, "+Pc", case[1] / f"{name}.dcm"], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0
        assert b"E: " not in done.stderr
        assert "Müller^Jörg".encode() in done.stdout


def dciodvfy_words(dciodvfy: Path, rendered: Sequence[Rendered], folder: Path, known: Sequence[str] = ()) -> list[str]:
    """Errors and unexpected warnings, with the kind of object they are about."""
    found = []
    for index, item in enumerate(rendered):
        file = folder / f"{index:02d}-{item.kind}.dcm"
        item.dataset.save_as(file, enforce_file_format=True)
        lines = said_by(dciodvfy, "-new", file).splitlines()
        assert lines, file.name
        found += [
            f"{item.kind}: {line}"
            for line in lines
            if line.startswith(("Error", "Warning")) and not any(word in line for word in (*EXPECTED_WARNINGS, *known))
        ]
    return found


@pytest.mark.parametrize("multiframe", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_object_holds_every_name(
    name: str, multiframe: bool, require_program: Callable[[str], Path], tmp_path: Path
) -> None:
    charset, patient = NAMES[name]
    study = with_header(
        graded_study(multiframe=multiframe),
        {"SpecificCharacterSet": charset, "PatientName": patient, "ReferringPhysicianName": patient},
        remove=() if charset else ("SpecificCharacterSet",),
    )
    rendered = render(study.report, study.source, REPLACING, EVERYTHING)
    assert {item.kind for item in rendered} == set(OutputKind) - {OutputKind.DECLINED_REPORT, OutputKind.REJECTION_NOTE}
    declined = Declined(study_instance_uid=STUDY_UID, reason="Only axial series", rejected=(), model=MODEL)
    everything = (*rendered, *render_declined(declined, study.source, REPLACING))
    assert dciodvfy_words(require_program("dciodvfy"), everything, tmp_path) == []
    for file in tmp_path.glob("*.dcm"):
        assert str(pydicom.dcmread(file).PatientName) == patient
    for file in (*tmp_path.glob("*_report.dcm"), *tmp_path.glob("*-key_object_selection.dcm")):
        assert_documents_are_read(file, require_program)
    for file in tmp_path.glob("*-measurement_report.dcm"):
        said_by(require_program("tid1500reader"), "--inputDICOM", file, "--outputMetadata", file.with_suffix(".json"))
        assert len(json.loads(file.with_suffix(".json").read_text())["Measurements"]) == len(study.report.discs)


def assert_documents_are_read(file: Path, require_program: Callable[[str], Path]) -> None:
    """By DCMTK as text and as HTML, by dicom3tools as a tree."""
    page = file.with_suffix(".html")
    commands = [require_program("dsrdump"), "+Pc", file], [require_program("dsr2html"), file, page]
    for command in (*commands, [require_program("dcsrdump"), file]):
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, (file.name, command[0])
        said = (done.stdout + done.stderr).splitlines()
        assert [line for line in said if line.startswith((b"E:", b"F:", b"Error"))] == [], (file.name, command[0])
    assert "</html>" in page.read_text(errors="replace").lower(), file.name


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about the values that are put in here
@pytest.mark.parametrize("header", ["control characters", "invalid", "backslashes", "bad dates", "bad age"])
def test_no_header_of_a_source_makes_a_result_invalid(
    header: str, require_program: Callable[[str], Path], tmp_path: Path
) -> None:
    with disable_value_validation():
        if header == "control characters":
            study = with_controls("ISO_IR 100")
        else:
            study = with_header(graded_study(), HEADERS[header])
        wanted = replace(EVERYTHING, capture_forms=(EVERYTHING.capture_forms[0],))
        rendered = render(study.report, study.source, REPLACING, wanted)
    emptied = ("value that would be needed to build DICOMDIR",)
    assert dciodvfy_words(require_program("dciodvfy"), rendered, tmp_path, known=emptied) == []
    for file in tmp_path.glob("*_report.dcm"):
        done = subprocess.run([require_program("dsrdump"), "+Pc", file], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, file.name
        assert b"E: " not in done.stderr, file.name


def test_captures_with_geometry_are_extended_by_nothing_else(
    require_program: Callable[[str], Path], tmp_path: Path
) -> None:
    study = graded_study(Layout.OBLIQUE)
    wanted = Wanted(kinds=frozenset({OutputKind.SECONDARY_CAPTURE}), capture_geometry=True)
    rendered = render(study.report, study.source, RUN, wanted)
    assert dciodvfy_words(require_program("dciodvfy"), rendered, tmp_path, known=GEOMETRY) == []


@pytest.mark.timeout(600)
def test_pixelmed_finds_no_error_in_the_other_documents(require_program: Callable[[str], Path], tmp_path: Path) -> None:
    validator = require_program("DicomSRValidator")
    study = graded_study()
    documents = frozenset({OutputKind.MEASUREMENT_REPORT, OutputKind.TEXT_REPORT, OutputKind.KEY_OBJECT_SELECTION})
    rendered = render(study.report, study.source, REPLACING, replace(EVERYTHING, kinds=documents))
    assert len(rendered) == 5
    for index, item in enumerate(rendered[1:]):  # the first differs from an everyday one by its predecessor only
        file = tmp_path / f"{index}.dcm"
        item.dataset.save_as(file, enforce_file_format=True)
        words = said_by(validator, "-checkcontentitemorder", "-checktemplateid", file)
        assert "IOD validation complete" in words, item.kind
        assert [line for line in words.splitlines() if line.startswith("Error")] == [], item.kind


def test_dcmtk_takes_the_presentation_state(require_program: Callable[[str], Path], tmp_path: Path) -> None:
    """DCMTK checks it against the images it refers to and renders one through it."""
    study = with_header(graded_study(), {"ReferringPhysicianName": "Weiss^Anne", "PatientName": "Muller^Jorg"})
    (only,) = render(study.report, study.source, RUN, Wanted(kinds=frozenset({OutputKind.PRESENTATION_STATE})))
    state, image, picture = tmp_path / "state.dcm", tmp_path / "image.dcm", tmp_path / "picture.pgm"
    only.dataset.save_as(state, enforce_file_format=True)
    study.source[7].save_as(image, enforce_file_format=True)
    assert "E: " not in said_by(require_program("dcmpschk"), state)
    said_by(require_program("dcmp2pgm"), "-p", state, image, picture)
    assert picture.stat().st_size > 256 * 224
