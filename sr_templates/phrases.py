"""The words of text report, pictures, overlay and PDF in each language: ``languages/<language>.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from highdicom.sr import CodedConcept

from inference.grades import Finding, Grade
from sr_templates.sentences import translated

FOLDER = "languages"


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrases:
    """One language. Every text is a template for ``str.format``; the keys are those of ``languages/en.toml``."""

    language: Mapping[str, str]
    headings: Mapping[str, str]
    study: Mapping[str, str]
    disc: Mapping[str, str]
    findings: Mapping[str, str]
    measurements: Mapping[str, str]
    numbers: Mapping[str, str]
    pages: Mapping[str, str]
    rows: Mapping[str, str]
    methods: Mapping[str, str]

    @property
    def concept(self) -> CodedConcept:
        """The language as TID 1204 names it (CID 5000: RFC 5646)."""
        return CodedConcept(self.language["code"], "RFC5646", self.language["name"])

    @property
    def name(self) -> str:
        """As the settings call the language."""
        return self.language["code"].partition("-")[0]

    def finding(self, finding: Finding) -> str:
        """A finding within a sentence."""
        return self.findings[finding.value]

    def graded(self, finding: Finding, value: int) -> str:
        """A finding with its step, where it has steps with names ("mild disc narrowing")."""
        return self.disc.get(f"{finding.value}_{value}", self.findings[finding.value])

    def marked(self, finding: Finding, grade: Grade) -> str:
        """As ``graded``, with a question mark where the grade is uncertain."""
        return f"{self.graded(finding, grade.value)}{'?' if grade.doubt else ''}"

    def sentence(self, english: str) -> str:
        """A sentence that the core wrote."""
        return translated(english, self.name, self.numbers["decimal_point"])

    def percent(self, share: float) -> str:
        return f"{100 * share:.0f}{self.numbers['percent']}"

    def number(self, value: float, decimals: int) -> str:
        return f"{value:z.{decimals}f}".replace(".", self.numbers["decimal_point"])

    def listed(self, words: Sequence[str], joint: str) -> str:
        """``words`` as a list in a sentence; ``joint`` is "and" or "or"."""
        if len(words) < 2:
            return "".join(words)
        return self.disc[joint].format(first=", ".join(words[:-1]), last=words[-1])


@lru_cache(maxsize=8)
def phrases(language: str) -> Phrases:
    """The words of one of ``languages()``.

    Raises:
        ValueError: there is no such language.
    """
    if language not in languages():
        raise ValueError(f"no words in the language {language!r}; there are {', '.join(languages())}")
    content = tomllib.loads((files("sr_templates") / FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    return Phrases(**content)


@lru_cache(maxsize=1)
def languages() -> tuple[str, ...]:
    """The languages that there are words in."""
    folder = files("sr_templates") / FOLDER
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))
