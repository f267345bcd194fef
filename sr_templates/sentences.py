"""Sentences of the core in the reader's language: ``languages/sentences/<language>.toml``, English without one.

The core writes English and knows no reader. A sentence is found again by its template, and what stands at the places
of the template is translated in turn; a sentence that no template fits stays English rather than be lost.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

FOLDER = "languages/sentences"
_PLACES = {"{}": "((?:(?!; ).)+?)", "{#}": r"(\d+)", "{*}": "(.+)"}
"""{} is one reason or word, {#} a whole number, {*} one or more reasons joined by semicolons."""
_PLACE = re.compile("(" + "|".join(map(re.escape, _PLACES)) + ")")
_JOINTS = ("; ", ": ", ", ")
"""What joins reasons that were found separately, the strongest first."""
_DECIMAL = re.compile(r"(?<![\w.])(\d+)\.(\d+)(?![\w.]*\.?\d)")
"""A number with a fraction; UIDs and versions have more dots."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """One sentence: how it is recognised, and what it becomes."""

    pattern: re.Pattern[str]
    becomes: str


def translated(sentence: str, language: str, decimal_point: str = ".") -> str:
    """The sentence in a language; English where nothing better is known."""
    templates = _templates(language)
    if not templates:
        return sentence
    for template in templates:
        if match := template.pattern.fullmatch(sentence):
            return template.becomes.format(*(translated(part, language, decimal_point) for part in match.groups()))
    for joint in _JOINTS:
        if joint in sentence:
            return joint.join(translated(part, language, decimal_point) for part in sentence.split(joint))
    return _DECIMAL.sub(rf"\1{decimal_point}\2", sentence)


def known(sentence: str, language: str) -> bool:
    """Whether the whole sentence fits one template."""
    return any(template.pattern.fullmatch(sentence) for template in _templates(language))


@lru_cache(maxsize=8)
def _templates(language: str) -> tuple[Template, ...]:
    """The one with the most fixed letters first: it says the most about a sentence that several fit."""
    table = files("sr_templates") / FOLDER / f"{language}.toml"
    if not table.is_file():
        return ()
    sentences: dict[str, str] = tomllib.loads(table.read_text(encoding="utf-8"))["sentences"]
    ordered = sorted(sentences.items(), key=lambda item: -len(_PLACE.sub("", item[0])))
    return tuple(Template(pattern=_pattern(english), becomes=other) for english, other in ordered)


def _pattern(english: str) -> re.Pattern[str]:
    return re.compile("".join(_PLACES.get(part) or re.escape(part) for part in _PLACE.split(english)), re.DOTALL)
