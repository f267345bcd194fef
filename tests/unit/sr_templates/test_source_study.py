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


@pytest.mark.filterwarnings("ignore:Invalid value", "ignore:The value length")  # on reading it back
def test_invalid_but_writable_values_pass_through() -> None:
    instance = graded_study().source[0]
    instance.add(DataElement("PatientAge", "AS", "64 years", validation_mode=0))
    instance.add(DataElement("PatientID", "LO", "X" * 90, validation_mode=0))
    dataset = reread(source_study.read_source([instance], STUDY_UID))
    assert dataset.PatientID == "X" * 90


def test_an_unknown_character_set_costs_no_result() -> None:
    instance = graded_study().source[0]
    instance.SpecificCharacterSet = "KLINGON_1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = reread(source_study.read_source([instance], STUDY_UID))
    assert dataset.StudyInstanceUID == STUDY_UID


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


def test_evidence_lists_each_instance_once_under_its_series() -> None:
    source = source_study.read_source(graded_study().source, STUDY_UID)
    first, second = list(source.instances.values())[:2]
    (study,) = source_study.referenced_evidence([first, second, first], STUDY_UID)
    (series,) = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [
        first.sop_instance_uid,
        second.sop_instance_uid,
    ]
