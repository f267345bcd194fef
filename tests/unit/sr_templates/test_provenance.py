"""Provenance: identifiers repeat, the study's identity is copied exactly, times are told in its zone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import UID

from inference.anatomy import DiscLevel
from sr_templates import provenance, source_study
from sr_templates.provenance import OutputKind, Run
from sr_templates.source_study import SourceStudy
from tests.report_factories import MODEL, RUN, STUDY_UID, graded_study

REPORT_CLASS = "1.2.840.10008.5.1.4.1.1.88.11"


def joined_study(**header: object) -> SourceStudy:
    instance = graded_study().source[0]
    for keyword, value in header.items():
        setattr(instance, keyword, value)
    return source_study.read_source([instance], instance.StudyInstanceUID)


def envelope(source: SourceStudy, run: Run = RUN, index: int = 1, kind: OutputKind = OutputKind.TEXT_REPORT) -> Dataset:
    return provenance.envelope(
        kind=kind,
        index=index,
        sop_class_uid=REPORT_CLASS,
        description="d",
        source=source,
        model=MODEL,
        run=run,
    )


def reread(dataset: Dataset) -> Dataset:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return dcmread(BytesIO(stream.getvalue()))


@given(parts=st.lists(st.text(), min_size=1, max_size=4))
def test_a_uid_repeats_and_is_valid(parts: list[str]) -> None:
    first = UID(provenance.uid(*parts))
    assert first.is_valid
    assert first.startswith("2.25.")
    assert len(first) <= 64
    assert first == provenance.uid(*parts)


@given(left=st.lists(st.text("ab", max_size=3), max_size=3), right=st.lists(st.text("ab", max_size=3), max_size=3))
def test_other_parts_give_another_uid(left: list[str], right: list[str]) -> None:
    assert (provenance.uid("x", *left) == provenance.uid("x", *right)) == (left == right)


def test_uids_change_with_the_study_digest_the_weights_the_kind_and_the_index() -> None:
    source = joined_study()
    original = envelope(source)
    assert envelope(source).SOPInstanceUID == original.SOPInstanceUID
    assert envelope(source, replace(RUN, study_digest="e" * 64)).SOPInstanceUID != original.SOPInstanceUID
    assert envelope(source, index=2).SOPInstanceUID != original.SOPInstanceUID
    assert envelope(source, index=2).SeriesInstanceUID == original.SeriesInstanceUID
    other_kind = envelope(source, kind=OutputKind.SECONDARY_CAPTURE)
    assert other_kind.SOPInstanceUID != original.SOPInstanceUID
    assert other_kind.SeriesInstanceUID != original.SeriesInstanceUID


def test_each_kind_has_a_series_number_of_its_own_from_the_base_upwards() -> None:
    run, source = replace(RUN, series_number_base=9500), joined_study()
    numbers = [envelope(source, run, kind=kind).SeriesNumber for kind in OutputKind]
    assert numbers == list(range(9500, 9500 + len(OutputKind)))


def test_new_weights_are_a_new_device() -> None:
    assert provenance.device_uid(MODEL) != provenance.device_uid(replace(MODEL, sha256="00" * 32))


def test_patient_and_study_are_copied_exactly() -> None:
    dataset = reread(envelope(joined_study()))
    assert dataset.PatientName == "Müller^Jörg"
    assert dataset.ReferringPhysicianName == "Weiß^Änne"
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert dataset.PatientAge == "064Y"
    assert dataset.StudyDescription == "MR LWS"
    assert dataset.AccessionNumber == "A-7"
    assert dataset.StudyInstanceUID == STUDY_UID


def test_a_japanese_name_survives_in_its_own_character_set() -> None:
    name = "Yamada^Tarou=山田^太郎"
    source = joined_study(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name, ReferringPhysicianName="A^B")
    assert reread(envelope(source)).PatientName == name


def test_series_attributes_of_the_source_are_not_copied() -> None:
    dataset = envelope(joined_study(ProtocolName="t2_tse", InstitutionName="Source hospital"))
    assert "ProtocolName" not in dataset
    assert dataset.InstitutionName == "St. Elsewhere"


def test_type_2_attributes_that_the_source_lacks_are_written_empty() -> None:
    instance = graded_study().source[0]
    for keyword in ("PatientBirthDate", "AccessionNumber", "ReferringPhysicianName", "StudyID", "PatientSex"):
        delattr(instance, keyword)
    dataset = reread(envelope(source_study.read_source([instance], STUDY_UID)))
    assert dataset["PatientBirthDate"].is_empty
    assert dataset["AccessionNumber"].is_empty
    assert dataset["ReferringPhysicianName"].is_empty


def test_times_are_those_of_the_run() -> None:
    dataset = envelope(joined_study())
    assert (dataset.ContentDate, dataset.ContentTime) == ("20260314", "150926")
    assert (dataset.InstanceCreationDate, dataset.SeriesTime) == ("20260314", "150926")


def test_times_are_told_in_the_zone_that_the_source_states() -> None:
    dataset = envelope(joined_study(TimezoneOffsetFromUTC="+1000"))
    assert (dataset.ContentDate, dataset.ContentTime) == ("20260315", "010926")
    assert dataset.TimezoneOffsetFromUTC == "+1000"


def test_a_zone_that_cannot_be_read_changes_nothing() -> None:
    created_at = datetime(2026, 3, 14, 9, 0, 0, tzinfo=timezone(timedelta(hours=2)))
    dataset = envelope(joined_study(TimezoneOffsetFromUTC="CET"), replace(RUN, created_at=created_at))
    assert dataset.ContentTime == "090000"


def test_a_run_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Run(study_digest="d", created_at=datetime(2026, 1, 1), software_version="0")


def test_the_algorithm_is_named_as_contributing_equipment() -> None:
    (item,) = envelope(joined_study()).ContributingEquipmentSequence
    assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert item.DeviceUID == provenance.device_uid(MODEL)


def test_institution_names_lose_accents_only_where_they_must() -> None:
    run = replace(RUN, institution_name="Universitätsklinikum")
    assert envelope(joined_study(), run).InstitutionName == "Universitätsklinikum"
    plain = envelope(joined_study(SpecificCharacterSet="ISO_IR 144", PatientName="A^B", ReferringPhysicianName=""), run)
    assert plain.InstitutionName == "Universitaetsklinikum"


def test_versions_of_program_and_weights_are_both_told() -> None:
    assert list(envelope(joined_study()).SoftwareVersions) == ["0.1.0", "weights 0.1.0"]
    assert envelope(joined_study(), replace(RUN, software_version="")).SoftwareVersions == "weights 0.1.0"


def tracked(run: Run, **header: object) -> str:
    return provenance.disc_tracking_uid(joined_study(**header), run, DiscLevel.L4_L5)


def test_a_patient_s_disc_keeps_its_tracking_uid_from_study_to_study() -> None:
    keyed = replace(RUN, tracking_key="secret")
    first = tracked(keyed)
    assert tracked(keyed, StudyInstanceUID="2.25.2001", StudyDate="20280101", PatientName="M^J") == first
    assert tracked(keyed, PatientID="TEST-2") != first
    assert tracked(keyed, IssuerOfPatientID="OTHER HOSPITAL") != first
    assert provenance.disc_tracking_uid(joined_study(), keyed, DiscLevel.L5_S1) != first


def test_who_lacks_the_key_cannot_try_out_patient_ids_on_a_tracking_uid() -> None:
    assert tracked(replace(RUN, tracking_key="one")) != tracked(replace(RUN, tracking_key="two"))


def test_without_a_key_or_a_patient_id_a_tracking_uid_is_the_study_s_own() -> None:
    for run, header in ((RUN, {}), (replace(RUN, tracking_key="secret"), {"PatientID": ""})):
        assert tracked(run, **header) == tracked(run, **header)
        assert tracked(run, **header) != tracked(run, StudyInstanceUID="2.25.2001", **header)


def test_a_patient_id_that_had_to_be_changed_tells_no_two_patients_apart() -> None:
    keyed = replace(RUN, tracking_key="secret")
    with disable_value_validation():
        cut = "X" * 90
        assert tracked(keyed, PatientID=cut) != tracked(keyed, PatientID=cut, StudyInstanceUID="2.25.2001")
