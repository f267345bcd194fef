"""Languages: each has every text of the English one, with the same places to fill in."""

from __future__ import annotations

from dataclasses import fields
from string import Formatter

import pytest

from inference.grades import Finding
from inference.report import Method
from node.settings import ResultSettings
from sr_templates import codes
from sr_templates.phrases import Phrases, languages, phrases
from sr_templates.summary_page import MEASURED_ROWS


def places(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


@pytest.mark.parametrize("language", languages())
def test_a_language_is_complete(language: str) -> None:
    english, other = phrases("en"), phrases(language)
    for table in fields(Phrases):
        ours, theirs = getattr(english, table.name), getattr(other, table.name)
        assert theirs.keys() == ours.keys(), table.name
        for key in ours:
            assert places(theirs[key]) == places(ours[key]), f"{table.name}.{key}"
            assert theirs[key].strip(), f"{table.name}.{key}"


def test_a_number_that_rounds_to_nothing_has_no_sign() -> None:
    assert [phrases("en").number(value, 1) for value in (-0.04, -0.06, 0.04)] == ["0.0", "-0.1", "0.0"]


@pytest.mark.parametrize("language", languages())
def test_a_language_says_research_use_and_fits_the_codes(language: str) -> None:
    words = phrases(language)
    assert "RESEARCH USE ONLY" in words.study["use"]
    assert "RESEARCH USE ONLY" in words.pages["use"]
    assert all(len(heading) <= 64 for heading in words.headings.values())  # Code Meaning is LO


def test_every_finding_measurement_and_heading_has_words() -> None:
    words = phrases("en")
    assert set(words.findings) == {finding.value for finding in Finding}
    assert set(words.measurements) == {*codes.QUANTITIES, *codes.OF_WHOLE_SPINE}
    assert set(words.headings) == {*codes.HEADING, "impression", "findings"}
    assert set(words.rows) == {*(finding.value for finding in Finding), *MEASURED_ROWS}
    assert set(words.methods) == {method.value for method in Method}


def test_the_settings_offer_the_languages_that_there_are() -> None:
    assert all(ResultSettings.model_validate({"language": language}) for language in languages())
    assert languages() == ("de", "en")


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'fr'"):
        phrases("fr")


def test_lists_are_joined_as_in_a_sentence() -> None:
    words = phrases("en")
    assert words.listed(["a"], "and") == "a"
    assert words.listed(["a", "b", "c"], "or") == "a, b or c"
