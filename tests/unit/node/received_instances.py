"""Received instances made of the few things a test cares about."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from node.records import ReceivedInstance

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def image(
    number: int,
    *,
    study: str = "1.2.3",
    series: str = "1.2.3.1",
    content: str = "",
    copy: int = 1,
    modality: str = "MR",
    at: datetime = NOON,
) -> ReceivedInstance:
    """Image 1.2.3.1.<number>; ``content`` tells different bytes apart, ``copy`` the files of one that came twice."""
    sha256 = hashlib.sha256(f"{study} {series} {number} {content}".encode()).hexdigest()
    return ReceivedInstance(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uid=f"1.2.3.1.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality=modality,
        calling_ae_title="MODALITY",
        path=Path("received", sha256[:2], f"{sha256}-{copy}.dcm"),
        sha256=sha256,
        size_bytes=1000,
        received_at=at,
    )
