"""The captures: which slices, in which order, and what is drawn on them."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import SecondaryCaptureImageStorage

from inference.anatomy import DiscLevel
from inference.grades import Finding
from inference.volume import SagittalVolume
from sr_templates import overlay, source_study
from sr_templates.phrases import phrases
from sr_templates.render import EVERYDAY, OutputKind, Rendered, captures_png
from sr_templates.secondary_capture import PICTURE_MAX_HEIGHT, pages
from sr_templates.secondary_capture import captures as captures_of
from sr_templates.slice_page import HEADER, MARGIN, PICTURE_MAX, block_of, colour_of, discs_on
from sr_templates.view import make_view
from tests.report_factories import (
    MULTIFRAME_SOP_UID,
    RUN,
    SERIES_UID,
    GradedStudy,
    binary,
    graded_study,
    narrowing,
    pfirrmann,
)

EN = phrases("en")


@pytest.fixture(scope="module")
def captures(rendered: tuple[Rendered, ...]) -> tuple[Rendered, ...]:
    return tuple(item for item in rendered if item.kind is OutputKind.SECONDARY_CAPTURE)


def without_evidence(study: GradedStudy) -> GradedStudy:
    discs = tuple(replace(disc, evidence=()) for disc in study.report.discs)
    return replace(study, report=replace(study.report, discs=discs))


def test_the_summary_comes_first_then_slices_in_source_order_then_the_evidence(captures: tuple[Rendered, ...]) -> None:
    # the maps of the two abnormal discs are centred on slice 8 of 15 and reach a quarter on three slices to each side
    slices = [f"Slice {n}" for n in range(5, 12)]
    assert [item.title for item in captures] == ["Summary", *slices, "Evidence L4/L5", "Evidence L5/S1"]
    assert [item.dataset.InstanceNumber for item in captures] == list(range(1, 11))


def test_without_saliency_only_the_mid_slices_are_shown(study: GradedStudy) -> None:
    assert [page.name for page in pages(without_evidence(study).report, EN)] == ["summary", "slice-007", "slice-008"]


def test_a_slice_shows_its_own_discs_and_those_with_saliency_on_it(study: GradedStudy) -> None:
    report = study.report
    assert [disc.level.value for disc in discs_on(report, 6)] == ["T12/L1", "L1/L2", "L2/L3", "L4/L5", "L5/S1"]
    assert [disc.level.value for disc in discs_on(report, 4)] == ["L4/L5", "L5/S1"]
    assert discs_on(report, 0) == ()


def test_they_are_rgb_secondary_captures_of_one_series(captures: tuple[Rendered, ...]) -> None:
    datasets = [item.dataset for item in captures]
    assert {d.SOPClassUID for d in datasets} == {SecondaryCaptureImageStorage}
    assert len({d.SeriesInstanceUID for d in datasets}) == 1
    assert len({d.SOPInstanceUID for d in datasets}) == len(datasets)
    for d in datasets:
        assert (d.PhotometricInterpretation, d.SamplesPerPixel, d.BitsStored) == ("RGB", 3, 8)
        assert len(d.PixelData) == d.Rows * d.Columns * 3 + d.Rows * d.Columns % 2
        assert max(d.Rows, d.Columns) <= 1024
        assert "RESEARCH USE ONLY" in d.SeriesDescription


def test_pixels_are_those_of_the_pages(study: GradedStudy, captures: tuple[Rendered, ...]) -> None:
    for page, capture in zip(pages(study.report, EN, "Made 2026-03-14 15:09 UTC."), captures, strict=True):
        np.testing.assert_array_equal(capture.dataset.pixel_array, page.pixels)


def test_the_png_files_are_the_same_pictures(study: GradedStudy) -> None:
    for page, (name, png) in zip(pages(study.report, EN), captures_png(study.report), strict=True):
        assert name.endswith(page.name)
        assert not any(secret in name for secret in ("Müller", "TEST", "1961", SERIES_UID))
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(png))), page.pixels)


def test_each_capture_names_the_source_slice_that_it_shows(captures: tuple[Rendered, ...]) -> None:
    summary, first = captures[:2]
    assert [item.ReferencedSOPInstanceUID for item in first.dataset.SourceImageSequence] == [f"{SERIES_UID}.5"]
    assert [item.ReferencedSOPInstanceUID for item in summary.dataset.SourceImageSequence] == [
        f"{SERIES_UID}.7",
        f"{SERIES_UID}.8",
    ]


def test_captures_of_a_multi_frame_source_name_the_frame() -> None:
    study = graded_study(multiframe=True)
    source = source_study.read_source(study.source, study.report.study_instance_uid)
    capture = captures_of(study.report, source, RUN, EVERYDAY)[1].dataset
    (item,) = capture.SourceImageSequence
    assert (item.ReferencedSOPInstanceUID, item.ReferencedFrameNumber) == (MULTIFRAME_SOP_UID, 5)


def test_pages_are_upright_whatever_the_source(study_in_any_layout: GradedStudy) -> None:
    report = without_evidence(study_in_any_layout).report
    source = source_study.read_source(study_in_any_layout.source, report.study_instance_uid)
    capture = captures_of(report, source, RUN, EVERYDAY)[0].dataset
    assert list(capture.PatientOrientation) == ["P", "F"]


def colours_on_outline(study: GradedStudy, disc_index: int, slice_index: int) -> set[tuple[int, ...]]:
    """Colours of the page about the lowest point of the disc's outline."""
    report = study.report
    view = make_view(report, PICTURE_MAX, PICTURE_MAX_HEIGHT)
    outline = view.pixels(report.discs[disc_index].outline_lps_mm)
    x, y = outline[outline[:, 1].argmax()].astype(int) + np.array([MARGIN, HEADER])
    page = next(page for page in pages(report, EN) if page.slices == (slice_index,))
    return {tuple(map(int, colour)) for colour in page.pixels[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)}


def test_outlines_are_amber_on_abnormal_discs_and_cyan_on_others(study: GradedStudy) -> None:
    plain = without_evidence(study)
    assert overlay.ABNORMAL in colours_on_outline(plain, disc_index=5, slice_index=7)
    assert overlay.NORMAL in colours_on_outline(plain, disc_index=3, slice_index=7)


def test_saliency_colours_only_the_slices_on_which_it_is(study: GradedStudy) -> None:
    view = make_view(study.report, PICTURE_MAX, PICTURE_MAX_HEIGHT)

    def coloured(slice_index: int) -> int:
        difference = view.picture(slice_index, heat=True) != view.picture(slice_index, heat=False)
        return int(difference.any(axis=-1).sum())

    assert coloured(7) > 500
    assert coloured(0) == 0


def test_a_study_without_abnormal_gradings_shows_no_saliency(study: GradedStudy) -> None:
    calm = tuple(replace(disc, grades={Finding.PFIRRMANN: pfirrmann(1)}) for disc in study.report.discs)
    assert make_view(replace(study.report, discs=calm), 100, 100).heat.max() == 0.0


def test_no_capture_claims_to_identify_the_patient(captures: tuple[Rendered, ...]) -> None:
    assert {item.dataset.BurnedInAnnotation for item in captures} == {"NO"}


@pytest.mark.parametrize("shape", [(64, 48), (900, 200), (200, 900), (1024, 1024)])
def test_any_shape_of_image_gives_pages_of_bounded_size(shape: tuple[int, int]) -> None:
    study = graded_study()
    volume = study.report.volume
    rng = np.random.default_rng(0)
    other = SagittalVolume(
        voxels=rng.random((15, *shape), dtype=np.float32),
        voxel_to_patient=volume.voxel_to_patient,
        sources=volume.sources,
        series_instance_uid=volume.series_instance_uid,
        series_description="",
    )
    for page in pages(replace(study.report, volume=other), EN):
        assert page.pixels.dtype == np.uint8
        assert max(page.pixels.shape) <= 1024


def test_many_quality_sentences_and_nine_levels_still_fit(study: GradedStudy) -> None:
    quality = tuple(f"Reason {n} to doubt these results, told at some length for the reader." for n in range(40))
    discs = tuple(replace(study.report.discs[5], level=level) for level in DiscLevel)
    summary, *slices = pages(replace(study.report, quality=quality, discs=discs), EN)
    assert summary.pixels.shape == (768, 1024, 3)
    assert all(max(page.pixels.shape) <= 1024 for page in slices)


def words_beside(study: GradedStudy, disc_index: int, slice_index: int) -> list[str]:
    view = make_view(study.report, 100, 100)
    return [words for words, _, _ in block_of(study.report.discs[disc_index], view, slice_index, EN).lines]


def test_the_words_beside_a_disc_name_what_is_abnormal_and_what_the_saliency_is_of(study: GradedStudy) -> None:
    assert words_beside(study, disc_index=3, slice_index=7) == ["L3/L4   Pfirrmann 2 (70%)", "no abnormal grading"]
    headline, *others = words_beside(study, disc_index=4, slice_index=7)
    assert headline == "L4/L5   Pfirrmann 4 (70%) !"
    assert " ".join(others) == (
        "Abnormal: moderate disc narrowing, upper marrow change Evidence: Pfirrmann grade, moderate disc narrowing"
    )
    assert words_beside(study, disc_index=4, slice_index=0)[-1].endswith("change")


def test_saliency_of_everything_abnormal_is_said_shortly(study: GradedStudy) -> None:
    disc = study.report.discs[4]
    grades = {Finding.PFIRRMANN: pfirrmann(4), Finding.DISC_NARROWING: narrowing(3, 0.9)}
    only = replace(study, report=replace(study.report, discs=(replace(disc, grades=grades),)))
    assert words_beside(only, disc_index=0, slice_index=7)[-1] == "Evidence: all of these"


def test_a_doubtful_level_is_said_beside_the_disc(study: GradedStudy) -> None:
    doubtful = replace(study.report.discs[3], level_confidence=0.3)
    only = replace(study, report=replace(study.report, discs=(doubtful,)))
    assert words_beside(only, disc_index=0, slice_index=7)[-1] == "Level uncertain: count the levels"
    assert words_beside(only, disc_index=0, slice_index=7)[0].startswith("L3/L4?")


def test_a_disc_without_any_grade_is_drawn(study: GradedStudy) -> None:
    bare = tuple(replace(disc, grades={}, measurements={}, evidence=()) for disc in study.report.discs)
    assert len(list(pages(replace(study.report, discs=bare), EN))) == 3


def test_findings_beyond_the_pfirrmann_grade_colour_a_disc(study: GradedStudy) -> None:
    grades = {Finding.PFIRRMANN: pfirrmann(1), Finding.DISC_BULGING: binary(1, 0.9)}
    assert colour_of(replace(study.report.discs[0], grades=grades)) == overlay.ABNORMAL
