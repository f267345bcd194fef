"""Every sentence that the core can say to a reader is found again in every other language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference import canal, modic, narrowing, t1_series
from inference.body_part import FOREIGN
from inference.contrast import Weighting
from inference.grades import TITLES
from inference.image_type import COMPONENTS, USABLE_COMPONENTS
from inference.measurements import SANE
from inference.remarks import in_words
from sr_templates.phrases import languages, phrases
from sr_templates.sentences import known, translated

ROOT = Path(__file__).parents[3]
SILENT = {
    "anatomy",
    "evidence",
    "geometry",
    "grades",
    "measurements",
    "report",
    "volume",
    "weights",
    "zones",
    "jpeg_extended",
}
"""Modules that say nothing to a reader of the report: names, criteria, and errors of programming or installation."""
OTHERS = [language for language in languages() if language != "en"]


def template_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
    return None


def strings_of(path: Path) -> Iterator[str]:
    """Literals and f-strings with a 7 at each place; no docstrings, no parts of other strings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and id(node) not in docstrings | parts:
            text = template_of(node)
            if text is not None:
                yield text


def sentences() -> list[str]:
    """Strings of four words and more that are neither patterns nor names."""
    found = []
    for path in sorted((ROOT / "inference").glob("*.py")):
        if path.stem not in SILENT and not path.stem.startswith("phantom"):
            found += [text for text in strings_of(path) if len(text.split()) >= 4 and not re.search(r"[|\\*]", text)]
    return sorted(set(found))


def test_the_sentences_are_found_in_the_source() -> None:
    assert "Only one slice: findings beside the midline cannot be seen." in sentences()
    assert len(sentences()) > 60


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("sentence", sentences())
def test_every_sentence_has_its_translation(language: str, sentence: str) -> None:
    assert known(sentence, language), f"add it to sr_templates/languages/sentences/{language}.toml"


@pytest.mark.parametrize("language", OTHERS)
def test_every_term_within_them_has_its_translation(language: str) -> None:
    terms = [*(weighting.value for weighting in Weighting), *FOREIGN, "sagittal", "coronal", "axial"]
    terms += [*TITLES.values(), *(in_words(name) for name in SANE)]
    terms += [f"{part} image" for part in set(COMPONENTS.values()) - USABLE_COMPONENTS]
    terms += [canal.CRITERION, canal.CRITERION_DIAMETER, narrowing.CRITERION, narrowing.CRITERION_WITHOUT_HEIGHT]
    terms += [modic.CRITERION, t1_series.NONE_THERE, t1_series.USED]
    assert [term for term in terms if term != "STIR" and not known(term, language)] == []


def test_english_stays_as_it_is() -> None:
    assert translated("pixels of 2.5 mm are too coarse to grade discs", "en") == (
        "pixels of 2.5 mm are too coarse to grade discs"
    )


def test_reasons_within_a_reason_are_translated_too() -> None:
    reason = (
        "No sagittal T2-weighted series of the lumbar spine: T1-weighted (TE 11 ms, TR 560 ms); "
        "the header says knee, not lumbar spine; localizer or mixed planes (3 axial, 2 sagittal)."
    )
    assert translated(reason, "de", ",") == (
        "Keine sagittale T2-gewichtete Serie der Lendenwirbelsäule: T1-gewichtet (TE 11 ms, TR 560 ms); "
        "laut Kopfdaten Knie, nicht Lendenwirbelsäule; Planungsaufnahme oder gemischte Ebenen (3 axial, 2 sagittal)."
    )


def test_numbers_get_the_decimal_point_of_the_language_and_uids_do_not() -> None:
    assert translated("pixels of 2.5 mm are too coarse to grade discs", "de", ",").startswith("Pixel von 2,5 mm")
    assert translated("An image has no pixel data (image 1.2.840.10008, frame 1).", "de", ",") == (
        "Ein Bild hat keine Bilddaten (Bild 1.2.840.10008, Frame 1)."
    )


def test_places_may_change_their_order() -> None:
    sentence = (
        "1 slice(s) of the series are missing: slices are 4.0 mm apart, but 8.0 mm lie between the slices 3 and 4 "
        "in order of position."
    )
    assert "zwischen der 3. und 4. Schicht (nach ihrer Lage) sind es 8,0 mm." in translated(sentence, "de", ",")


def test_an_unknown_sentence_is_kept() -> None:
    assert translated("Nobody has foreseen this.", "de") == "Nobody has foreseen this."


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize(
    "hostile", ["{0} {1}", "{}", "a" * 5000 + ": {", "7 slice(s) of the series; {x!r}: 1.2.3.4, 5.6"]
)
def test_braces_in_a_sentence_are_only_characters(language: str, hostile: str) -> None:
    """Series descriptions and file names may hold them."""
    assert phrases(language).sentence(hostile).count("{") == hostile.count("{")
