"""GSPS, PDF and key images: for archives that show these and not the others."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from inference.grades import Finding
from sr_templates.encapsulated_pdf import pdf_of
from sr_templates.measurement_report import outline_image_coordinates
from sr_templates.presentation_state import grade_words
from sr_templates.render import OutputKind, Wanted, render
from tests.report_factories import (
    COLUMNS,
    MULTIFRAME_SOP_UID,
    ROWS,
    RUN,
    SERIES_UID,
    GradedStudy,
    graded_study,
    pfirrmann,
)


def made(study: GradedStudy, kind: OutputKind) -> Dataset:
    (only,) = render(study.report, study.source, RUN, Wanted(kinds=frozenset({kind})))
    return only.dataset


@pytest.fixture(scope="module")
def state(study: GradedStudy) -> Dataset:
    return made(study, OutputKind.PRESENTATION_STATE)


def test_the_presentation_state_draws_each_outline_on_its_own_slice(study: GradedStudy, state: Dataset) -> None:
    by_image = {
        item.ReferencedImageSequence[0].ReferencedSOPInstanceUID: item for item in state.GraphicAnnotationSequence
    }
    assert {uid: len(item.GraphicObjectSequence) for uid, item in by_image.items()} == {
        f"{SERIES_UID}.7": 3,
        f"{SERIES_UID}.8": 3,
    }
    drawn = by_image[f"{SERIES_UID}.8"].GraphicObjectSequence[1]
    expected = outline_image_coordinates(study.report, study.report.discs[4])
    np.testing.assert_allclose(np.array(drawn.GraphicData).reshape(-1, 2), expected, atol=1e-3)
    assert (drawn.GraphicType, drawn.GraphicFilled, drawn.GraphicAnnotationUnits) == ("POLYLINE", "N", "PIXEL")


def test_its_words_name_level_grade_and_what_else_is_abnormal(study: GradedStudy, state: Dataset) -> None:
    said = [text.UnformattedTextValue for item in state.GraphicAnnotationSequence for text in item.TextObjectSequence]
    assert "L4/L5 Pfirrmann 4, disc narrowing, upper marrow change" in said
    assert sum("RESEARCH USE ONLY" in words for words in said) == 2  # one on each slice
    assert grade_words(replace(study.report.discs[0], grades={})) == "T12/L1 Pfirrmann n/a"


def test_it_displays_whole_images(state: Dataset) -> None:
    (area,) = state.DisplayedAreaSelectionSequence
    assert list(area.DisplayedAreaTopLeftHandCorner) == [1, 1]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [COLUMNS, ROWS]


def test_it_names_the_frames_of_a_multi_frame_source() -> None:
    state = made(graded_study(multiframe=True), OutputKind.PRESENTATION_STATE)
    references = [item.ReferencedImageSequence[0] for item in state.GraphicAnnotationSequence]
    assert [(item.ReferencedSOPInstanceUID, int(item.ReferencedFrameNumber)) for item in references] == [
        (MULTIFRAME_SOP_UID, 7),
        (MULTIFRAME_SOP_UID, 8),
    ]


def test_the_pdf_is_one_page_with_the_summary(study: GradedStudy) -> None:
    document = made(study, OutputKind.ENCAPSULATED_PDF)
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert content.count(b"/Type /Page\n") <= 1
    start = content.index(b"\xff\xd8\xff")
    picture = Image.open(BytesIO(content[start : content.index(b"\xff\xd9", start) + 2]))
    assert picture.size == (1024, 768)


def test_the_pdf_repeats_and_names_no_patient(study: GradedStudy) -> None:
    content = pdf_of(study.report, RUN)
    assert content == pdf_of(study.report, RUN)
    assert not any(secret in content for secret in (b"Jorg", "Müller".encode(), b"TEST-1", b"1961"))


def test_the_key_images_are_the_mid_slices_of_abnormal_discs(study: GradedStudy) -> None:
    selection = made(study, OutputKind.KEY_OBJECT_SELECTION)
    images = [item for item in selection.ContentSequence if item.ValueType == "IMAGE"]
    assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images] == [f"{SERIES_UID}.8"]
    assert not any("ConceptNameCodeSequence" in item for item in images)
    (words,) = [
        item.TextValue for item in selection.ContentSequence if item.get("TextValue", "").startswith("RESEARCH")
    ]
    assert words.endswith("L5/S1 Pfirrmann 5, disc narrowing, upper marrow change, central canal stenosis")


def test_where_nothing_is_abnormal_all_mid_slices_are_key_images(study: GradedStudy) -> None:
    calm = tuple(replace(disc, grades={Finding.PFIRRMANN: pfirrmann(1)}) for disc in study.report.discs)
    selection = made(replace(study, report=replace(study.report, discs=calm)), OutputKind.KEY_OBJECT_SELECTION)
    assert sum(item.ValueType == "IMAGE" for item in selection.ContentSequence) == 2
