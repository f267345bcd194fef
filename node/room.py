"""How much disk is left where the node writes."""

from __future__ import annotations

import shutil

from node.settings import Settings


def free_bytes(settings: Settings) -> int | None:
    """Of the disk of ledger or spool that has less; None where one of them cannot be looked at."""
    spool = settings.spool_dir if settings.spool_dir.exists() else settings.node.data_dir
    try:
        return min(shutil.disk_usage(folder).free for folder in (settings.node.data_dir, spool))
    except OSError:
        return None
