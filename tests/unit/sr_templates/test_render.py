"""The door: everything at once, repeating to the byte, and readable again."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import dcmread

from sr_templates.render import OutputKind, Rendered, render
from tests.report_factories import RUN, GradedStudy, graded_study


def as_bytes(item: Rendered) -> bytes:
    stream = BytesIO()
    item.dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_a_graded_study_gives_one_report_one_text_and_its_captures(rendered: tuple[Rendered, ...]) -> None:
    kinds = [item.kind for item in rendered]
    assert kinds[:2] == [OutputKind.MEASUREMENT_REPORT, OutputKind.TEXT_REPORT]
    assert set(kinds[2:]) == {OutputKind.SECONDARY_CAPTURE}
    assert len(kinds) == 12


def test_the_same_study_gives_the_same_bytes(rendered: tuple[Rendered, ...]) -> None:
    again = graded_study()
    repeated = render(again.report, again.source, RUN)
    assert [as_bytes(item) for item in repeated] == [as_bytes(item) for item in rendered]


def test_another_digest_gives_other_objects_of_one_study(study: GradedStudy, rendered: tuple[Rendered, ...]) -> None:
    others = render(study.report, study.source, replace(RUN, study_digest="e" * 64))
    assert {i.dataset.SOPInstanceUID for i in others}.isdisjoint(i.dataset.SOPInstanceUID for i in rendered)
    assert {i.dataset.SeriesInstanceUID for i in others}.isdisjoint(i.dataset.SeriesInstanceUID for i in rendered)
    assert {i.dataset.StudyInstanceUID for i in others} == {study.report.study_instance_uid}


def test_every_object_can_be_written_and_read_again(rendered: tuple[Rendered, ...]) -> None:
    for item in rendered:
        again = dcmread(BytesIO(as_bytes(item)))
        assert again.PatientName == "Müller^Jörg"
        assert again.SOPInstanceUID == again.file_meta.MediaStorageSOPInstanceUID == item.dataset.SOPInstanceUID
        assert again.SOPClassUID == again.file_meta.MediaStorageSOPClassUID


def test_the_source_is_not_changed() -> None:
    study = graded_study()
    before = [instance.to_json() for instance in study.source]
    render(study.report, study.source, RUN)
    assert [instance.to_json() for instance in study.source] == before


def test_headers_are_enough() -> None:
    study = graded_study()
    for instance in study.source:
        del instance.PixelData
    assert len(render(study.report, study.source, RUN)) == 12


def test_a_source_that_lacks_the_graded_images_is_refused(study: GradedStudy) -> None:
    with pytest.raises(ValueError, match="do not hold the images"):
        render(study.report, study.source[:3], RUN)


def test_a_report_without_discs_is_refused(study: GradedStudy) -> None:
    with pytest.raises(ValueError, match="without discs"):
        render(replace(study.report, discs=()), study.source, RUN)


def test_no_source_at_all_is_refused(study: GradedStudy) -> None:
    with pytest.raises(ValueError, match="do not hold the images"):
        render(study.report, (), RUN)
