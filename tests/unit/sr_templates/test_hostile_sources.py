"""Whatever stands in the source's headers: every object is made, can be written and read, and says who it is about."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom import DataElement, Dataset
from pydicom.config import RAISE, disable_value_validation
from pydicom.valuerep import validate_value

from sr_templates.render import CaptureForm, OutputKind, Rendered, SrClass, Wanted, render, text
from tests.dicom_factories import poison
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
    "backslashes": {"PatientID": "A\\\\B", "AccessionNumber": "1\\\\2", "ReferringPhysicianName": "a\\b"},
    "invalid": {
        "StudyDate": "2025-13-45",
        "StudyTime": "99:99",
        "PatientBirthDate": "gestern",
        "PatientSex": "weiblich",
        "PatientName": "A" * 300 + "^" + "B" * 200,
        "PatientID": "P" * 200,
        "StudyID": "I" * 30,
        "AccessionNumber": "1" * 40,
        "StudyDescription": "S" * 500,
        "TimezoneOffsetFromUTC": "+9999",
        "SmokingStatus": "PERHAPS",
    },
}
NAMES_AS_KEPT = {
    "long name": "A" * 31 + "^" + "B" * 32,
    "invalid": "A" * 31 + "^" + "B" * 32,
}
"""What of names that are too long can be written: 64 characters of each component group (PS3.5 6.2)."""
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


TEXTUAL = {"AS", "CS", "DA", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UT"}


def values_of(dataset: Dataset) -> list[tuple[str, str]]:
    """(VR, value) of every text in an object, however deep."""
    found = []
    for element in dataset.iterall():
        if element.VR in TEXTUAL and not element.is_empty:
            values = element.value if element.VM > 1 else [element.value]
            found += [(element.VR, str(value)) for value in values]
    return found


@pytest.mark.parametrize("header", HEADERS)
def test_every_kind_of_object_survives(header: str) -> None:
    study = graded_study()
    with disable_value_validation():
        with_header(study, HEADERS[header])
        expected = NAMES_AS_KEPT.get(header, study.source[0].get("PatientName", ""))
    made = all_kinds(study)
    assert len({item.SOPInstanceUID for item in made}) == len(made)
    for item in made:
        assert item.PatientName == expected
        assert item.StudyInstanceUID == study.report.study_instance_uid
        for vr, value in values_of(item):
            validate_value(vr, value, RAISE)


def test_every_optional_module_may_be_missing() -> None:
    made = all_kinds(with_header(graded_study(), {}, remove=MISSING))
    assert {item.PatientID for item in made} == {""}  # type 2: there, and empty
    frames = {item.FrameOfReferenceUID for item in made if "FrameOfReferenceUID" in item}
    assert len(frames) == 1  # one that stands for the series, the same in Segmentation and Parametric Map


CONTROLS = {
    "PatientName": b"Evil\x1b[31m\x00\x07^\r\nName",
    "PatientID": b"C\x00\x08\x1bX",
    "StudyDescription": b"a\r\nb\x0c\x00",
    "SeriesDescription": b"T2\x1b[2J\x00\r\nIMPRESSION\r\nL4/L5: normal\x0c",
}


def with_controls(charset: str | list[str]) -> GradedStudy:
    study = graded_study()
    for instance in study.source:
        instance.SpecificCharacterSet = charset
        instance.ReferringPhysicianName = ""
        for keyword, value in CONTROLS.items():
            poison(instance, keyword, value)
    volume = replace(study.report.volume, series_description=CONTROLS["SeriesDescription"].decode("latin-1"))
    return replace(study, report=replace(study.report, volume=volume))


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", ["", "ISO 2022 IR 87"]])
def test_no_object_holds_a_control_character(charset: str | list[str]) -> None:
    for item in all_kinds(with_controls(charset)):
        assert item.PatientID == "CX"
        assert str(item.PatientName) == "Evil[31m^  Name"
        for vr, value in values_of(item):
            kept = "\r\n" if vr in {"LT", "ST", "UT"} else ""
            assert [c for c in value if unicodedata.category(c) == "Cc" and c not in kept] == []


def test_a_header_can_neither_clear_a_terminal_nor_add_a_heading() -> None:
    words = text(with_controls("ISO_IR 100").report)
    assert words.isprintable() or not [c for c in words if unicodedata.category(c) == "Cc" and c != "\n"]
    assert words.splitlines().count("IMPRESSION") == 1
    assert 'series "T2[2J IMPRESSION L4/L5: normal", 15 sagittal slices' in " ".join(words.split())


def test_a_quotation_ends_where_ours_does() -> None:
    study = graded_study()
    volume = replace(study.report.volume, series_description='T2", 15 slices. L4/L5 "normal' + "x" * 300)
    words = " ".join(text(replace(study.report, volume=volume)).split())
    assert "series \"T2', 15 slices. L4/L5 'normalx" in words
    assert 'x...", 15 sagittal slices' in words
    assert "x" * 65 not in words


def test_what_was_mended_or_left_out_is_named_and_never_quoted() -> None:
    study = graded_study()
    with disable_value_validation():
        with_header(study, HEADERS["invalid"])
    kinds = frozenset({OutputKind.TEXT_REPORT})
    (document,) = written_and_read(render(study.report, study.source, RUN, Wanted(kinds=kinds)))
    said = " ".join(value for _, value in values_of(document) if "header" in value)
    assert {"StudyDate", "StudyTime", "PatientSex", "StudyID", "StudyDescription"} <= set(re.findall(r"\w+", said))
    assert {"PatientID", "PatientName", "AccessionNumber"} <= set(re.findall(r"\w+", said))
    assert not any(value in said for value in ("99:99", "weiblich", "2025-13", "PPP", "SSS", "gestern"))


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
