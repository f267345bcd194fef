"""Which of a study's results is the current one, in words that a reader of any of its objects sees.

Late images give a study another result beside the one that the archive holds; two reports without a word about each
other are two opinions.
"""

from __future__ import annotations

from datetime import datetime

from sr_templates.phrases import Phrases
from sr_templates.provenance import Run, in_source_zone
from sr_templates.source_study import SourceStudy

MOMENT = "%Y-%m-%d %H:%M %Z"
"""As in the objects' own times: in the zone that the source states."""


def told(moment: datetime, source: SourceStudy) -> str:
    """A moment for a reader, e.g. "2025-03-01 12:33 UTC"."""
    return f"{in_source_zone(moment, source.attributes):{MOMENT}}"


def report_line(source: SourceStudy, run: Run, words: Phrases) -> str:
    """For the head of the text report."""
    made = told(run.created_at, source)
    if not run.replaces_earlier:
        return words.study["made_at"].format(made=made)
    if run.replaced_at is None:
        return words.study["replaces_earlier"].format(number=run.number, made=made)
    return words.study["replaces"].format(number=run.number, made=made, earlier=told(run.replaced_at, source))


def declined_line(source: SourceStudy, run: Run, words: Phrases) -> str:
    """For the head of a report that grades nothing: what was made before it stands, of fewer images."""
    made = words.study["made_at"].format(made=told(run.created_at, source))
    return f"{made} {words.study['does_not_replace']}" if run.replaces_earlier else made


def page_line(source: SourceStudy, run: Run, words: Phrases) -> str:
    """For the foot of a picture."""
    made = told(run.created_at, source)
    if not run.replaces_earlier:
        return words.pages["made_at"].format(made=made)
    return words.pages["replaces"].format(number=run.number, made=made)
