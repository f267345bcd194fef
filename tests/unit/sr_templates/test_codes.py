"""Codes: standard ones stand in pydicom's dictionaries, private ones fit their fields and are told apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.sr._concepts_dict import concepts  # what PS3.16 says, as pydicom ships it
from pydicom.sr.coding import Code

from inference.anatomy import DiscLevel
from inference.grades import CLASSES, Finding
from inference.measurements import SANE
from sr_templates import codes


def standard_codes() -> Iterator[tuple[str, Code]]:
    for name, code in vars(codes).items():
        if isinstance(code, Code) and code.scheme_designator in {"DCM", "SCT", "LN"}:
            yield name, code
    for level, code in codes.DISC.items():
        yield level.value, code


def all_private_codes() -> list[Code]:
    named = [code for code in vars(codes).values() if isinstance(code, Code) and code.scheme_designator == codes.SCHEME]
    values = [codes.grade_value(Finding.PFIRRMANN, value) for value in range(1, 6)]
    chances = [codes.class_probability(Finding.PFIRRMANN, value) for value in range(1, 6)]
    quantities = [quantity.name for quantity in codes.QUANTITIES.values()]
    return [*named, *values, *chances, *quantities, *codes.FINDING_NAME.values(), *codes.HEADING.values()]


@pytest.mark.parametrize(("name", "code"), list(standard_codes()), ids=lambda x: x if isinstance(x, str) else "")
def test_a_standard_code_means_in_the_dictionary_what_it_means_here(name: str, code: Code) -> None:
    entries = [entry for keyword in concepts[code.scheme_designator].values() for entry in keyword.items()]
    meanings = {meaning.lower() for value, (meaning, _) in entries if value == code.value}
    assert code.meaning.lower() in {meaning.removesuffix(" (attribute)") for meaning in meanings}, name


def test_lumbar_discs_have_the_codes_of_cid_7604() -> None:
    assert [codes.DISC[level].value for level in tuple(DiscLevel)[3:]] == [
        "76206002",
        "80064006",
        "67459009",
        "62551000",
        "84020006",
        "715056000",
    ]


def test_private_codes_are_unique_and_fit_a_short_string() -> None:
    private = all_private_codes()
    assert len({code.value for code in private}) == len(private)
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in private)


def test_a_code_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        codes.private("SPONDYLOLISTHESIS", "Spondylolisthesis")


@pytest.mark.parametrize("finding", list(Finding))
def test_every_class_of_every_finding_has_its_own_answer(finding: Finding) -> None:
    answers = [codes.grade_value(finding, value).value for value in CLASSES[finding]]
    assert len(set(answers)) == len(answers)


def test_binary_answers_are_absent_and_present() -> None:
    assert codes.grade_value(Finding.DISC_BULGING, 0).meaning == "Absent"
    assert codes.grade_value(Finding.DISC_BULGING, 1).meaning == "Present"


def test_every_measurement_that_inference_makes_is_known() -> None:
    assert set(SANE) == set(codes.QUANTITIES) | set(codes.OF_WHOLE_SPINE)


def test_at_most_four_numbers_stand_at_the_head_of_a_group() -> None:
    heads = [q for q in codes.QUANTITIES.values() if q.source_of is None and q.property_of is None]
    assert len(heads) + 1 <= 4  # and the Pfirrmann grade


@pytest.mark.parametrize(
    ("name", "unit", "title"),
    [("facet_angle_percent", "%", "Facet angle"), ("foramen_mm", "mm", "Foramen"), ("texture", "{ratio}", "Texture")],
)
def test_an_unknown_measurement_is_named_by_its_key(name: str, unit: str, title: str) -> None:
    quantity = codes.quantity(name)
    assert (quantity.unit.value, quantity.title) == (unit, title)
    assert quantity.source_of is None
    assert quantity.property_of is None
