"""A reader of any object sees which result of the study it is, when it was made and what it replaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset

from inference.grades import TITLES
from inference.report import Declined
from sr_templates import provenance, source_study, standing
from sr_templates.phrases import phrases
from sr_templates.render import OutputKind, Wanted, render, render_declined
from sr_templates.secondary_capture import pages
from sr_templates.source_study import SourceStudy
from tests.report_factories import MODEL, RUN, STUDY_UID, GradedStudy, graded_study, with_header

EN = phrases("en")

EARLIER = datetime(2026, 3, 14, 12, 33, tzinfo=UTC)
SECOND = replace(RUN, number=2, replaced_at=EARLIER)
"""RUN was made on 2026-03-14 at 15:09 UTC."""
DOCUMENTS = frozenset({OutputKind.MEASUREMENT_REPORT, OutputKind.TEXT_REPORT})


def source_of(study: GradedStudy) -> SourceStudy:
    return source_study.read_source(study.source, STUDY_UID)


def texts(item: Dataset) -> Iterator[str]:
    if "TextValue" in item:
        yield " ".join(str(item.TextValue).split())
    for child in item.get("ContentSequence", []):
        yield from texts(child)


def beneath_the_title(document: Dataset) -> str:
    """The paragraph after the one about research use."""
    said = list(texts(document))
    return said[next(place for place, words in enumerate(said) if "RESEARCH USE ONLY" in words) + 1]


def test_a_first_result_says_when_it_was_made_and_nothing_of_others(study: GradedStudy) -> None:
    source = source_of(study)
    assert standing.report_line(source, RUN, phrases("en")) == "Made 2026-03-14 15:09 UTC."
    assert standing.page_line(source, RUN, EN) == "Made 2026-03-14 15:09 UTC."


def test_a_later_result_names_the_one_that_it_replaces(study: GradedStudy) -> None:
    source = source_of(study)
    assert standing.report_line(source, SECOND, phrases("en")) == (
        "This report (result 2, made 2026-03-14 15:09 UTC) replaces the one of 2026-03-14 12:33 UTC."
    )
    assert standing.report_line(source, SECOND, phrases("de")) == (
        "Dieser Bericht (Ergebnis 2, erstellt 2026-03-14 15:09 UTC) ersetzt den vom 2026-03-14 12:33 UTC."
    )
    undated = replace(SECOND, replaced_at=None)
    assert "replaces the earlier one of this study" in standing.report_line(source, undated, phrases("en"))
    assert standing.page_line(source, SECOND, EN) == (
        "Result 2, made 2026-03-14 15:09 UTC: replaces earlier results of this study."
    )


def test_times_are_told_in_the_zone_of_the_source() -> None:
    source = source_of(with_header(graded_study(), {"TimezoneOffsetFromUTC": "+0100"}))
    assert standing.report_line(source, SECOND, phrases("en")) == (
        "This report (result 2, made 2026-03-14 16:09 UTC+01:00) replaces the one of 2026-03-14 13:33 UTC+01:00."
    )


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_text_report_says_it_beneath_its_title(study: GradedStudy, language: str) -> None:
    wanted = Wanted(kinds=frozenset({OutputKind.TEXT_REPORT}), language=language)
    (only,) = render(study.report, study.source, SECOND, wanted)
    line = standing.report_line(source_of(study), SECOND, phrases(language))
    assert beneath_the_title(only.dataset) == line


def test_the_measurement_report_says_it_only_where_something_is_replaced(study: GradedStudy) -> None:
    said = {}
    for run in (RUN, SECOND):
        item, *_ = render(study.report, study.source, run, Wanted(kinds=DOCUMENTS))
        said[run.number] = [words for words in texts(item.dataset) if "replaces earlier results" in words]
    assert said == {1: [], 2: [standing.page_line(source_of(study), SECOND, EN)]}


def test_a_declined_study_s_report_does_not_claim_to_replace_a_result(study: GradedStudy) -> None:
    declined = Declined(study_instance_uid=STUDY_UID, reason="Only axial series", rejected=(), model=MODEL)
    earlier = provenance.Predecessor(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11", sop_instance_uid="2.25.5", series_instance_uid="2.25.6"
    )
    (only,) = render_declined(declined, study.source, replace(SECOND, predecessors=(earlier,)))
    assert "PredecessorDocumentsSequence" not in only.dataset
    assert only.dataset.SeriesDescription == "RESEARCH USE ONLY Lumbar disc grading: NOT GRADED"
    assert beneath_the_title(only.dataset) == (
        "Made 2026-03-14 15:09 UTC. There is an earlier result of this study, made of fewer images; "
        "this report does not replace it."
    )
    (first,) = render_declined(declined, study.source, RUN)
    assert beneath_the_title(first.dataset) == "Made 2026-03-14 15:09 UTC."


def test_series_descriptions_begin_with_research_use_and_end_with_the_number() -> None:
    assert provenance.series_description("Lumbar disc grading SR", RUN) == "RESEARCH USE ONLY Lumbar disc grading SR"
    assert provenance.series_description("Lumbar disc grading SR", SECOND) == (
        "RESEARCH USE ONLY Lumbar disc grading SR, result 2"
    )
    tenth = replace(RUN, number=10)
    for title in TITLES.values():  # none is cut
        assert title in provenance.series_description(f"Evidence: {title}", tenth)
        assert len(provenance.series_description(f"Evidence: {title}", tenth)) <= 64
    assert provenance.series_description("x" * 99, tenth).endswith("x, result 10")
    assert len(provenance.series_description("x" * 99, tenth)) == 64


def test_every_page_carries_the_line_at_its_foot(study: GradedStudy) -> None:
    note = standing.page_line(source_of(study), SECOND, EN)
    for bare, noted in zip(pages(study.report, EN), pages(study.report, EN, note), strict=True):
        assert bare.pixels.shape == noted.pixels.shape
        rows = np.flatnonzero((bare.pixels != noted.pixels).any(axis=(1, 2)))
        assert 8 <= np.ptp(rows) <= 40, "one or two lines of words, and nothing else has moved"
        assert rows.min() > bare.pixels.shape[0] / 2


def test_the_pdf_carries_it_too(study: GradedStudy) -> None:
    wanted = Wanted(kinds=frozenset({OutputKind.ENCAPSULATED_PDF}))
    first, second = (
        render(study.report, study.source, run, wanted)[0].dataset.EncapsulatedDocument for run in (RUN, SECOND)
    )
    assert first != second


def test_the_same_run_gives_the_same_bytes(study: GradedStudy) -> None:
    def encoded() -> list[bytes]:
        found = []
        for item in render(study.report, study.source, SECOND, Wanted(kinds=DOCUMENTS)):
            stream = BytesIO()
            item.dataset.save_as(stream, enforce_file_format=True)
            found.append(stream.getvalue())
        return found

    assert encoded() == encoded()
