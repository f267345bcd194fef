"""Everything that the JSON contract says of a disc stands in the SR too, as numbers and codes, not only as words.

Reads the encoded object with pydicom alone. What the SR does not hold: the rejected series (they are in the text
report), the vertebrae (in the Segmentation) and the timing.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom import Dataset

from node import report_json
from sr_templates import codes
from sr_templates.render import OutputKind, SrClass, Wanted, render
from tests.report_factories import RUN, GradedStudy, Layout, graded_study

PRESENT, ABSENT = "52101004", "272519000"


@pytest.fixture(scope="module", params=[(layout, False) for layout in Layout] + [(Layout.OBLIQUE, True)])
def study(request: pytest.FixtureRequest) -> GradedStudy:
    layout, multiframe = request.param
    return graded_study(layout, multiframe=multiframe)


@pytest.fixture(scope="module", params=list(SrClass))
def document(study: GradedStudy, request: pytest.FixtureRequest) -> Dataset:
    wanted = Wanted(kinds=frozenset({OutputKind.MEASUREMENT_REPORT}), sr_classes=(request.param,))
    (only,) = render(study.report, study.source, RUN, wanted)
    encoded = BytesIO()
    only.dataset.save_as(encoded, enforce_file_format=True)
    return pydicom.dcmread(BytesIO(encoded.getvalue()))


@pytest.fixture(scope="module")
def contract(study: GradedStudy) -> dict[str, Any]:
    return report_json.of_report(study.report, "study")


def children(item: Dataset) -> Iterator[Dataset]:
    yield from item.get("ContentSequence", [])


def everything(item: Dataset) -> Iterator[Dataset]:
    for child in children(item):
        yield child
        yield from everything(child)


def name_of(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""


def named(parent: Dataset, value: str) -> Dataset:
    (only,) = [item for item in children(parent) if name_of(item) == value]
    return only


def number(item: Dataset) -> float:
    return float(item.MeasuredValueSequence[0].NumericValue)


def unit(item: Dataset) -> str:
    return str(item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue)


def answer(item: Dataset) -> str:
    return str(item.ConceptCodeSequence[0].CodeValue)


@pytest.fixture(scope="module")
def groups(document: Dataset) -> dict[str, Dataset]:
    """The Measurement Group of each level."""
    found = [item for item in everything(document) if name_of(item) == "125007"]
    return {named(group, "112039").TextValue.removesuffix(" disc"): group for group in found}


def test_every_disc_has_a_group_and_no_other_has(contract: dict[str, Any], groups: dict[str, Dataset]) -> None:
    assert list(groups) == [disc["level"] for disc in contract["discs"]]


def test_every_grade_is_a_code_with_its_certainty(contract: dict[str, Any], groups: dict[str, Dataset]) -> None:
    for disc in contract["discs"]:
        for finding, name in codes.FINDING_NAME.items():
            (item,) = [
                child
                for child in children(groups[disc["level"]])
                if name_of(child) == name.value and child.ValueType == "CODE"
            ]
            grade = disc["grades"].get(finding.value)
            if grade is None:
                assert answer(item) == "NOT-ASSESSED"
                continue
            graded = {"pfirrmann": "PFIRRMANN", "disc_narrowing": "NARROWING"}.get(finding.value)
            assert answer(item) == (f"{graded}-{grade['value']}" if graded else (ABSENT, PRESENT)[grade["value"]])
            if grade["basis"] == "measured":
                assert answer(named(item, "370129005")) == "CRITERION"
                assert named(item, "121106").TextValue == grade["criterion"]
            certainties = [child for child in children(item) if name_of(child) == "111012"]
            assert len(certainties) == (1 if grade["probabilities"] else 0)
            for certainty in certainties:
                assert number(certainty) == pytest.approx(100 * grade["probabilities"][str(grade["value"])], abs=0.06)
                assert unit(certainty) == "%"
            assert certainties or grade["basis"] == "measured"


def test_the_pfirrmann_grade_is_a_number_too_with_the_probability_of_each_class(
    contract: dict[str, Any], groups: dict[str, Dataset]
) -> None:
    for disc in contract["discs"]:
        grade, group = disc["grades"]["pfirrmann"], groups[disc["level"]]
        (first, *_) = [item for item in children(group) if item.ValueType == "NUM"]
        assert (name_of(first), number(first), unit(first)) == ("PFIRRMANN", grade["value"], "{1:5}")
        (coded,) = [item for item in children(group) if name_of(item) == "PFIRRMANN" and item.ValueType == "CODE"]
        said = {name_of(item): number(item) for item in children(coded) if unit_or_none(item) == "{0:1}"}
        assert said == pytest.approx({f"P-PFIRRMANN-{n}": chance for n, chance in grade["probabilities"].items()})


def unit_or_none(item: Dataset) -> str | None:
    return unit(item) if item.ValueType == "NUM" else None


def test_every_measurement_is_a_number_with_its_unit(contract: dict[str, Any], groups: dict[str, Dataset]) -> None:
    for disc in contract["discs"]:
        for name, value in disc["measurements"].items():
            quantity = codes.quantity(name)
            (item,) = [
                child
                for child in everything(groups[disc["level"]])
                if name_of(child) == quantity.name.value and child.ValueType == "NUM"
            ]
            assert number(item) == pytest.approx(value, abs=0.6 * 10.0 ** -(quantity.decimals + 1))
            expected = {"mm": "mm", "percent": "%", "deg": "deg", "grade": "{0:5}"}
            assert unit(item) == expected.get(name.rsplit("_", 1)[-1], "{ratio}")


def test_every_disc_is_outlined_on_its_image_and_sited(contract: dict[str, Any], groups: dict[str, Dataset]) -> None:
    for disc in contract["discs"]:
        group = groups[disc["level"]]
        region = named(group, "111030")
        points = [(row + 0.5, column + 0.5) for row, column in disc["outline"]]
        drawn = list(zip(region.GraphicData[1::2], region.GraphicData[0::2], strict=True))
        assert drawn[:-1] == [pytest.approx(point, abs=0.01) for point in points]
        assert drawn[-1] == drawn[0]
        (image,) = children(region)
        reference = image.ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == disc["sop_instance_uid"]
        assert int(reference.get("ReferencedFrameNumber", 1)) == disc["frame"]
        site = named(group, "363698007")
        level = next(level for level in codes.DISC if level.value == disc["level"])
        assert answer(site) == codes.DISC[level].value
        certainty = named(site, "LEVEL-CERTAINTY")
        assert number(certainty) == pytest.approx(100 * disc["level_confidence"], abs=0.06)


def test_model_and_quality_are_told(contract: dict[str, Any], document: Dataset, groups: dict[str, Dataset]) -> None:
    model = contract["model"]
    for group in groups.values():
        texts = [item.TextValue for item in children(group) if item.ValueType == "TEXT"]
        assert model["name"] in texts
        assert model["version"] in texts
        assert f"weights sha256 {model['sha256']}" in texts
    said = [item.TextValue for item in everything(document) if item.ValueType == "TEXT"]
    for sentence in contract["quality"]:
        assert any(sentence in words for words in said)
