"""The joined study: malformed headers cost no result, and references name each image once."""

from __future__ import annotations

import warnings
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import DataElement, Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from sr_templates import provenance, source_study
from sr_templates.provenance import OutputKind
from sr_templates.source_study import SourceStudy
from tests.dicom_factories import poison
from tests.report_factories import MODEL, RUN, STUDY_UID, graded_study

REPORT_CLASS = "1.2.840.10008.5.1.4.1.1.88.11"


def reread(source: SourceStudy) -> Dataset:
    """The copied attributes, written to a file and read again."""
    dataset = provenance.envelope(
        kind=OutputKind.TEXT_REPORT,
        index=1,
        sop_class_uid=REPORT_CLASS,
        description="d",
        source=source,
        model=MODEL,
        run=RUN,
    )
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return dcmread(BytesIO(stream.getvalue()))


def test_a_value_that_cannot_be_written_is_left_out_and_named() -> None:
    instance = graded_study().source[0]
    instance.add(DataElement("StudyDescription", "US", 5))
    source = source_study.read_source([instance], STUDY_UID)
    assert source.dropped == ("StudyDescription",)
    assert "StudyDescription" not in reread(source)


def test_a_malformed_value_costs_no_result_and_stays_out_of_the_logs(caplog: pytest.LogCaptureFixture) -> None:
    instance = graded_study().source[0]
    for keyword, vr, value in (("PatientWeight", "DS", b"heavy"), ("PatientBirthDate", "DA", b"around 1961")):
        instance[Tag(keyword)] = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)
    source = source_study.read_source([instance], STUDY_UID)
    assert not caplog.records
    assert reread(source).PatientID == "TEST-1"


def test_what_no_valid_value_can_hold_is_left_out_or_emptied_and_named() -> None:
    instance = graded_study().source[0]
    for keyword, vr, value in (
        ("PatientAge", "AS", "64 years"),
        ("StudyDate", "DA", "20250231"),
        ("StudyID", "SH", "I" * 30),
        ("PatientID", "LO", "X" * 90),
    ):
        instance.add(DataElement(keyword, vr, value, validation_mode=0))
    source = source_study.read_source([instance], STUDY_UID)
    dataset = reread(source)
    assert "PatientAge" not in dataset  # type 3
    assert (dataset.StudyDate, dataset.StudyID) == ("", "")  # type 2
    assert dataset.PatientID == "X" * 64  # identity, as far as it can be kept
    assert set(source.dropped) == {"PatientAge", "StudyDate", "StudyID"}
    assert source.mended == ("PatientID",)


def test_an_unknown_character_set_costs_no_result() -> None:
    instance = graded_study().source[0]
    instance.SpecificCharacterSet = "KLINGON_1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = reread(source_study.read_source([instance], STUDY_UID))
    assert dataset.StudyInstanceUID == STUDY_UID


@pytest.mark.parametrize(
    ("stated", "written", "charset", "name"),
    [
        (None, "Weiß^Jörg".encode(), "ISO_IR 192", "Weiß^Jörg"),
        (None, "Müller^Jörg".encode("latin-1"), "ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 999", b"M\xc3\xbc\xff^x", "ISO_IR 100", "MÃ¼ÿ^x"),
        (None, b"Muller^Jorg", None, "Muller^Jorg"),
    ],
)
def test_names_of_an_unstated_character_set_keep_their_bytes_and_get_one(
    stated: str | None, written: bytes, charset: str | None, name: str
) -> None:
    instance = graded_study().source[0]
    instance.ReferringPhysicianName = ""
    del instance.SpecificCharacterSet
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if stated is not None:
            instance.SpecificCharacterSet = stated
        poison(instance, "PatientName", written)
        poison(instance, "PatientComments", written)
        item = Dataset()
        poison(item, "PatientID", written)
        instance.OtherPatientIDsSequence = [item]
        source = source_study.read_source([instance], STUDY_UID)
        dataset = reread(source)
    assert dataset.get("SpecificCharacterSet") == charset
    assert dataset.PatientName == name
    assert dataset.PatientName.original_string == written
    assert dataset.PatientComments == dataset.OtherPatientIDsSequence[0].PatientID == name
    assert ("SpecificCharacterSet" in source.mended) is (charset is not None)


def test_an_attribute_with_the_wrong_vr_is_written_with_the_right_one() -> None:
    instance = graded_study().source[0]
    instance.add(DataElement("StudyDescription", "UT", "MR LWS"))
    assert source_study.read_source([instance], STUDY_UID).attributes["StudyDescription"].VR == "LO"


def test_the_graded_image_speaks_for_the_study() -> None:
    study = graded_study()
    stray = Dataset()
    stray.PatientName = "Somebody^Else"
    graded = {study.source[0].SOPInstanceUID}
    source = source_study.read_source([stray, *study.source], STUDY_UID, graded)
    assert source.attributes.PatientName == "Müller^Jörg"


def test_missing_graded_images_are_refused() -> None:
    with pytest.raises(ValueError, match="do not hold the images"):
        source_study.read_source(graded_study().source, STUDY_UID, {"2.25.404"})


@given(text=st.text(max_size=30), charset=st.sampled_from(["ISO_IR 192", "ISO_IR 100", "ISO_IR 6", "ISO_IR 144"]))
def test_own_words_always_fit_the_character_set_of_the_source(text: str, charset: str) -> None:
    attributes = Dataset()
    attributes.SpecificCharacterSet = charset
    codec = {"ISO_IR 192": "utf-8", "ISO_IR 100": "latin-1", "ISO_IR 6": "latin-1", "ISO_IR 144": "iso8859-5"}[charset]
    written = source_study.writable(text.replace("\ud800", ""), attributes)
    assert written.encode(codec).decode(codec) == written


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        (["", "ISO 2022 IR 87"], "Graded: series T2 矢状断, 15 slices.\r\n第二行"),
        (["", "ISO 2022 IR 149"], "series T2 허리"),
        ("GB18030", "series T2 矢状位"),
        ("ISO_IR 192", "series T2 矢状断 für"),
    ],
)
def test_words_of_the_source_s_own_script_are_kept(charset: str | list[str], text: str) -> None:
    attributes = Dataset()
    attributes.SpecificCharacterSet = charset
    assert source_study.writable(text, attributes) == text


def test_only_what_the_character_set_lacks_is_spelt_out() -> None:
    attributes = Dataset()
    attributes.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    assert source_study.writable("Höhe: 矢状断", attributes) == "Hoehe: 矢状断"


def test_a_code_that_ends_with_its_line_is_not_trusted_beyond_it() -> None:
    """Korean is announced once (PS3.5 annex I); after a line break no reader knows of it any more."""
    attributes = Dataset()
    attributes.SpecificCharacterSet = ["", "ISO 2022 IR 149"]
    assert "È" not in source_study.writable("허리\r\n허리", attributes)


def test_control_characters_are_in_no_words_of_ours() -> None:
    attributes = Dataset()
    attributes.SpecificCharacterSet = "ISO_IR 192"
    assert source_study.writable("a\x00\x1b[2J\x9b\tb\r\nc", attributes) == "a[2J b\r\nc"


def test_evidence_lists_each_instance_once_under_its_series() -> None:
    source = source_study.read_source(graded_study().source, STUDY_UID)
    first, second = list(source.instances.values())[:2]
    (study,) = source_study.referenced_evidence([first, second, first], STUDY_UID)
    (series,) = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [
        first.sop_instance_uid,
        second.sop_instance_uid,
    ]
