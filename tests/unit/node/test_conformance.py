"""The conformance statement says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from node.intake import IMPLEMENTATION_CLASS_UID
from tests.conformance_lists import DOCUMENT, with_lists

ROOT = Path(__file__).resolve().parents[3]


def test_the_lists_are_those_of_the_code() -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    assert with_lists(written) == written, "python -m tests.conformance_lists"


def test_the_implementation_class_uid_is_ours() -> None:
    assert IMPLEMENTATION_CLASS_UID in DOCUMENT.read_text(encoding="utf-8")


def test_echo_asks_for_every_class_that_results_have() -> None:
    """The SOP classes that sr_templates names by their keyword."""
    from pydicom.uid import UID_dictionary

    from node.echo import RESULT_CLASSES

    by_keyword = {entry[4]: uid for uid, entry in UID_dictionary.items()}
    named = {
        keyword
        for path in (ROOT / "sr_templates").glob("*.py")
        for keyword in re.findall(r"\b(\w+Storage)\b", path.read_text(encoding="utf-8"))
        if keyword in by_keyword
    }
    made = {by_keyword[keyword] for keyword in named if not keyword.startswith(("MRImage", "EnhancedMR", "LegacyConv"))}
    assert made <= set(RESULT_CLASSES), sorted(made - set(RESULT_CLASSES))
