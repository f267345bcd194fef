"""Writes what a command measured into a page of the documentation, between two marks, and leaves the rest alone."""

from __future__ import annotations

from pathlib import Path

PAGE = "grading.md"
"""Where what concerns grading stands."""


def write(page: Path, marks: tuple[str, str], text: str) -> None:
    """Put ``text`` between the marks; at the end of a page that has none, on a new page where there is no page."""
    start, end = marks
    old = page.read_text(encoding="utf-8") if page.exists() else f"# {page.stem.capitalize()}\n"
    if start not in old:
        old = f"{old.rstrip()}\n\n{start}{end}\n"
    before, _, rest = old.partition(start)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")
