"""Whatever stands in the source's headers: every object is made, can be written and read, and says who it is about."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom import DataElement, Dataset
from pydicom.config import disable_value_validation

from sr_templates.render import CaptureForm, OutputKind, Rendered, SrClass, Wanted, render
from tests.report_factories import RUN, GradedStudy, graded_study, with_header

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about the values that are put in here

EVERY_KIND = Wanted(
    kinds=frozenset(OutputKind) - {OutputKind.SECONDARY_CAPTURE}, sr_classes=tuple(SrClass), language="de"
)
"""Captures take their header from the same envelope; drawing them for each case would only be slow."""

LONG_UID = "1.2.840." + "9" * 56
HEADERS: dict[str, dict[str, Any]] = {
    "markup": {"PatientName": "<b>Doe</b>^<script>alert(1)</script>", "StudyDescription": "&lt;T2&gt; \"'"},
    "long name": {"PatientName": "A" * 64 + "^" + "B" * 60},
    "empty": {"PatientName": "", "PatientID": "", "PatientBirthDate": "", "StudyDate": "", "StudyTime": ""},
    "64 character uids": {"FrameOfReferenceUID": LONG_UID},
    "bad dates": {"PatientBirthDate": "00000000", "StudyDate": "2026-03-13", "StudyTime": "9:30"},
    "bad age": {"PatientAge": "64 years", "PregnancyStatus": 9},
    "backslashes": {"PatientID": "A\\\\B", "AccessionNumber": "1\\\\2"},
}
MISSING = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "SpecificCharacterSet",
    "StudyDescription",
    "PatientAge",
    "Modality",
    "SeriesDescription",
    "Manufacturer",
    "PixelSpacing",
    "ImagePositionPatient",
)


def written_and_read(rendered: tuple[Rendered, ...]) -> list[Dataset]:
    datasets = []
    for item in rendered:
        encoded = BytesIO()
        item.dataset.save_as(encoded, enforce_file_format=True)
        datasets.append(pydicom.dcmread(BytesIO(encoded.getvalue())))
    return datasets


def all_kinds(study: GradedStudy) -> list[Dataset]:
    with disable_value_validation():
        return written_and_read(render(study.report, study.source, RUN, EVERY_KIND))


@pytest.mark.parametrize("header", HEADERS)
def test_every_kind_of_object_survives(header: str) -> None:
    study = graded_study()
    with disable_value_validation():
        with_header(study, HEADERS[header])
        expected = study.source[0].get("PatientName", "")
    made = all_kinds(study)
    assert len({item.SOPInstanceUID for item in made}) == len(made)
    for item in made:
        assert item.PatientName == expected
        assert item.StudyInstanceUID == study.report.study_instance_uid


def test_every_optional_module_may_be_missing() -> None:
    made = all_kinds(with_header(graded_study(), {}, remove=MISSING))
    assert {item.PatientID for item in made} == {""}  # type 2: there, and empty
    frames = {item.FrameOfReferenceUID for item in made if "FrameOfReferenceUID" in item}
    assert len(frames) == 1  # one that stands for the series, the same in Segmentation and Parametric Map


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\n", "\x0b"])
def test_control_characters_in_a_name_break_nothing(character: str) -> None:
    study = graded_study()
    for instance in study.source:
        instance.SpecificCharacterSet = "ISO_IR 100"
        instance.add(DataElement("PatientName", "PN", f"Do{character}e^Jane", validation_mode=0))
    for item in all_kinds(study):
        assert "Jane" in str(item.get("PatientName", "Jane"))


def test_captures_survive_too() -> None:
    with disable_value_validation():
        study = with_header(graded_study(), HEADERS["bad dates"])
        wanted = Wanted(kinds=frozenset({OutputKind.SECONDARY_CAPTURE}), capture_forms=tuple(CaptureForm))
        made = written_and_read(render(study.report, study.source, RUN, wanted))
    assert {str(item.PatientName) for item in made} == {"Müller^Jörg"}
