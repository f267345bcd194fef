"""What `spinenode status` prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from node import status, status_json, status_text
from node.settings import Settings
from node.status import UnknownStudy

__all__ = ["UnknownStudy", "answer"]


def answer(settings: Settings, study: str | None, *, limit: int, as_json: bool) -> str:
    """How the node stands, or what happened to one study (its number or its Study Instance UID).

    Raises:
        UnknownStudy: the ledger holds no such study.
        SettingsError: no node has run with these settings.
    """
    if study is None:
        node = status.of_node(settings, limit=limit)
        return _dump(status_json.of_node(node)) if as_json else status_text.of_node(node)
    lives = status.of_study(settings, study)
    return _dump(status_json.of_study(lives)) if as_json else status_text.of_study(lives, datetime.now(UTC))


def _dump(content: status_json.Json) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False)
