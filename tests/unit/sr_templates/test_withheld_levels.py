"""A level that is withheld stands in no result: not as a word, not as a code, not as a picture, not in the JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from PIL import ImageDraw
from pydicom import Dataset

from inference.anatomy import DiscLevel, Vertebra
from inference.remarks import of_levels, with_levels_withheld
from node import report_json
from sr_templates import codes
from sr_templates.render import CaptureForm, OutputKind, Rendered, SrClass, Wanted, captures_png, render, text
from tests.report_factories import RUN, GradedStudy, graded_study

LEVEL_NAME = re.compile(rf"\b({'|'.join(Vertebra)})\b")
LEVEL_CODES = {code.value for code in (*codes.DISC.values(), *codes.VERTEBRA.values())}
EVERYTHING = Wanted(
    kinds=frozenset(OutputKind), sr_classes=tuple(SrClass), capture_forms=frozenset({CaptureForm.SINGLE_FRAME})
)


@pytest.fixture(scope="module")
def unnamed() -> GradedStudy:
    study = graded_study()
    discs = with_levels_withheld(study.report.discs, 1.0)
    report = replace(study.report, discs=discs, quality=of_levels(discs), measurements={})
    return replace(study, report=report)


@pytest.fixture(scope="module")
def rendered(unnamed: GradedStudy) -> tuple[Rendered, ...]:
    return render(unnamed.report, unnamed.source, RUN, EVERYTHING)


def values(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for element in dataset.iterall():
        if element.VR not in {"OB", "OW", "OF", "UI", "SQ"}:
            yield element.keyword, str(element.value)


def test_no_object_says_a_level(unnamed: GradedStudy, rendered: tuple[Rendered, ...]) -> None:
    source = {value for instance in unnamed.source for _, value in values(instance)}
    for item in rendered:
        for keyword, value in values(item.dataset):
            said = value not in source and LEVEL_NAME.search(value)
            assert not said, f"{item.kind}: {keyword} = {value}"
            assert value not in LEVEL_CODES, f"{item.kind}: {keyword} = {value}"
        assert not LEVEL_NAME.search(item.title)


def test_discs_are_numbered_from_below_in_the_measurement_report(rendered: tuple[Rendered, ...]) -> None:
    document = next(item.dataset for item in rendered if item.kind is OutputKind.MEASUREMENT_REPORT)
    names = [e.value for e in document.iterall() if e.keyword == "TextValue" and "from below (level" in str(e.value)]
    assert names == [f"disc {place} from below (level withheld)" for place in range(6, 0, -1)]


def test_a_disc_without_a_name_does_not_line_up_with_a_named_one(rendered: tuple[Rendered, ...]) -> None:
    study = graded_study()
    named = render(study.report, study.source, RUN, EVERYTHING)
    assert not tracking_uids(named) & tracking_uids(rendered)


def tracking_uids(items: tuple[Rendered, ...]) -> set[str]:
    """Tracking Unique Identifiers of the SR (112040, DCM), and of the segments but the canal's."""
    found = set()
    for item in items:
        for part in item.dataset.get("SegmentSequence", []):
            if part.SegmentLabel != "Spinal canal":
                found.add(str(part.TrackingUID))
        found |= {str(e.UID) for e in descendants(item.dataset) if "UID" in e and e.get("ValueType") == "UIDREF"}
    return found - devices(items)


def devices(items: tuple[Rendered, ...]) -> set[str]:
    return {
        str(e.UID)
        for item in items
        for e in descendants(item.dataset)
        if e.get("ValueType") == "UIDREF" and e.ConceptNameCodeSequence[0].CodeValue == "121012"
    }


def descendants(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from descendants(child)


def test_no_picture_says_a_level(unnamed: GradedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    plain = ImageDraw.ImageDraw.text

    def listening(draw: Any, place: Any, words: str, *rest: Any, **more: Any) -> None:
        said.append(words)
        plain(draw, place, words, *rest, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", listening)
    names = [name for name, _ in captures_png(unnamed.report)]
    assert any("disc 1" in words for words in said)
    assert not [words for words in (*said, *names) if LEVEL_NAME.search(words)]


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_text_says_a_level(unnamed: GradedStudy, language: str) -> None:
    words = text(unnamed.report, language)
    assert not [line for line in words.splitlines() if LEVEL_NAME.search(line)]
    assert ("withheld" if language == "en" else "nicht benannt") in words


def test_no_level_is_in_the_json_but_the_place_is(unnamed: GradedStudy) -> None:
    answer = report_json.of_report(unnamed.report, "study")
    assert [disc["level"] for disc in answer["discs"]] == [None] * 6
    assert [disc["place_from_below"] for disc in answer["discs"]] == [6, 5, 4, 3, 2, 1]
    assert all(body["level"] is None for body in answer["vertebrae"])
    del answer["series"]
    assert not LEVEL_NAME.search(json.dumps(answer).replace("Pfirrmann", ""))


def test_where_some_levels_are_told_the_others_are_still_numbered() -> None:
    study = graded_study()
    discs = tuple(replace(d, level_confidence=0.4 if i < 2 else 0.9) for i, d in enumerate(study.report.discs))
    report = replace(study.report, discs=with_levels_withheld(discs, 0.5))
    words = text(report)
    assert "Disc 6 from below (level withheld)" in words
    assert DiscLevel.L5_S1.value in words
