"""GSPS, PDF and key images: for archives that show these and not the others."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset
from pypdf import PdfReader

from inference.grades import Finding
from sr_templates.encapsulated_pdf import header_lines, patient_name
from sr_templates.measurement_report import outline_image_coordinates
from sr_templates.phrases import phrases
from sr_templates.presentation_state import grade_words
from sr_templates.printed_page import as_pdf
from sr_templates.render import OutputKind, Wanted, render
from sr_templates.summary_page import draw_summary
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

EN = phrases("en")


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
    assert "L4/L5 Pfirrmann 4, moderate disc narrowing, upper marrow change" in said
    assert sum("RESEARCH USE ONLY" in words for words in said) == 2  # one on each slice
    assert grade_words(replace(study.report.discs[0], grades={}), EN) == "T12/L1 Pfirrmann n/a"


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


@pytest.fixture(scope="module")
def printed(study: GradedStudy) -> PdfReader:
    document = made(study, OutputKind.ENCAPSULATED_PDF)
    return PdfReader(BytesIO(document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]))


def test_the_pdf_is_one_page_with_the_summary(study: GradedStudy, printed: PdfReader) -> None:
    (page,) = printed.pages
    (picture,) = page.images
    upside_down = np.asarray(picture.image.convert("RGB"))[::-1]
    np.testing.assert_array_equal(upside_down, draw_summary(study.report, EN, "Made 2026-03-14 15:09 UTC."))
    assert [round(float(side) / 72 * 25.4) for side in page.mediabox[2:]] == [260, 209]  # mm: on a sheet of A4


def test_the_pdf_says_whose_it_is(study: GradedStudy, printed: PdfReader) -> None:
    assert printed.pages[0].extract_text().splitlines()[:3] == [
        "Müller, Jörg",
        "Patient ID TEST-1    born 1961-04-12",
        "Study of 2026-03-13    accession number A-7",
    ]
    assert made(study, OutputKind.ENCAPSULATED_PDF).BurnedInAnnotation == "YES"


def test_the_pdf_s_table_is_text(printed: PdfReader) -> None:
    words = " ".join(printed.pages[0].extract_text().split())
    assert f"Central canal stenosis {'no by mm ' * 5}yes ! by mm Disc herniation" in words
    assert "Vertebral slip, mm 0.0 0.4 0.8 1.2 1.6 2.0" in words
    assert "RESEARCH USE ONLY - not for diagnosis" in words


def test_the_pdf_carries_its_fonts(printed: PdfReader) -> None:
    fonts = [font.get_object() for font in printed.pages[0]["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        (descendant,) = font["/DescendantFonts"]
        assert "/FontFile2" in descendant.get_object()["/FontDescriptor"]


def test_the_pdf_repeats(study: GradedStudy) -> None:
    assert (
        made(study, OutputKind.ENCAPSULATED_PDF).EncapsulatedDocument
        == made(study, OutputKind.ENCAPSULATED_PDF).EncapsulatedDocument
    )


def test_a_page_of_nobody_says_so() -> None:
    assert header_lines(Dataset(), EN) == (
        "Patient name not stated",
        "Patient ID not stated    born not stated",
        "Study of not stated    accession number not stated",
    )


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Müller^Jörg^^Dr.", "Müller, Jörg Dr."),
        ("Иванов^Пётр", "Иванов, Пётр"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou"),
        ("山田^太郎", "??, ?? (letters that cannot be printed: see the object's Patient's Name)"),
        ("^^^^", ""),
    ],
)
def test_names_are_told_as_readers_write_them(value: str, told: str) -> None:
    assert patient_name(value, EN) == told


@pytest.mark.parametrize(
    "name",
    [
        "a$b_{x}\\frac^$",
        "(\\) Tj ET endstream^<script>",
        "one\nline^\x1b[31m\u202eevil",
        "W" * 64,
        "שלום^مرحبا",
        "\ud800^\uffff",
        "\x00",
    ],
)
def test_no_name_breaks_the_page(name: str) -> None:
    picture = np.zeros((768, 1024, 3), np.uint8)
    attributes = Dataset()
    attributes.PatientName = name
    content = as_pdf(picture, (), header_lines(attributes, EN), "Title", RUN.created_at)
    (page,) = PdfReader(BytesIO(content)).pages
    lines = page.extract_text().splitlines()
    assert len(lines) == 3
    assert lines[1] == "Patient ID not stated    born not stated"
    if name.isascii():
        assert lines[0] == header_lines(attributes, EN)[0]


def test_the_key_images_are_the_mid_slices_of_abnormal_discs(study: GradedStudy) -> None:
    selection = made(study, OutputKind.KEY_OBJECT_SELECTION)
    images = [item for item in selection.ContentSequence if item.ValueType == "IMAGE"]
    assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images] == [f"{SERIES_UID}.8"]
    assert not any("ConceptNameCodeSequence" in item for item in images)
    (words,) = [
        item.TextValue for item in selection.ContentSequence if item.get("TextValue", "").startswith("RESEARCH")
    ]
    assert words.endswith("L5/S1 Pfirrmann 5, moderate disc narrowing, upper marrow change, central canal stenosis")


def test_where_nothing_is_abnormal_all_mid_slices_are_key_images(study: GradedStudy) -> None:
    calm = tuple(replace(disc, grades={Finding.PFIRRMANN: pfirrmann(1)}) for disc in study.report.discs)
    selection = made(replace(study, report=replace(study.report, discs=calm)), OutputKind.KEY_OBJECT_SELECTION)
    assert sum(item.ValueType == "IMAGE" for item in selection.ContentSequence) == 2


def in_german(study: GradedStudy, kind: OutputKind) -> Dataset:
    (only,) = render(study.report, study.source, RUN, Wanted(kinds=frozenset({kind}), language="de"))
    return only.dataset


def test_overlay_and_pdf_speak_the_language_of_the_setting(study: GradedStudy) -> None:
    state = in_german(study, OutputKind.PRESENTATION_STATE)
    said = [text.UnformattedTextValue for item in state.GraphicAnnotationSequence for text in item.TextObjectSequence]
    assert any("Markveränderung an der oberen Endplatte" in words for words in said)
    assert sum("NUR ZU FORSCHUNGSZWECKEN" in words and "RESEARCH USE ONLY" in words for words in said) == 2
    document = in_german(study, OutputKind.ENCAPSULATED_PDF)
    assert document.DocumentTitle == "Lumbale Bandscheiben: Übersicht"
    printed = PdfReader(BytesIO(document.EncapsulatedDocument[: document.EncapsulatedDocumentLength])).pages[0]
    words = " ".join(printed.extract_text().split())
    assert "Patienten-ID TEST-1 geboren 1961-04-12" in words
    assert "Wirbelgleiten, mm 0,0 0,4 0,8 1,2 1,6 2,0" in words
    assert f"Spinalkanalstenose {'nein in mm ' * 5}ja ! in mm" in words


def test_a_character_set_without_umlauts_has_them_spelt_out() -> None:
    study = graded_study()
    for instance in study.source:
        instance.SpecificCharacterSet, instance.PatientName = ["", "ISO 2022 IR 87"], "Yamada^Tarou"
        instance.StudyDescription = "LWS"
    state = in_german(study, OutputKind.PRESENTATION_STATE)
    said = [text.UnformattedTextValue for item in state.GraphicAnnotationSequence for text in item.TextObjectSequence]
    assert all(words.isascii() for words in said)
    assert any("Markveraenderung an der oberen Endplatte" in words for words in said)
