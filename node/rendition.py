"""How this node's results are made: the settings, the study and what came before it, in the words of ``render``."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pydicom

from node.records import ResultObject, StudyRecord
from node.settings import ResultSettings, Settings
from node.spool import Spool
from node.study_files import UNREADABLE
from sr_templates import render

KEY_FILE = "tracking.key"
KEY_BYTES = 32
_MOMENT = {"ContentDate": 8, "ContentTime": 6}
"""Keyword -> characters that name day and second."""


def wanted(results: ResultSettings) -> render.Wanted:
    """All SOP classes of the measurement report are made, for which one an archive takes is known when it is sent."""
    forms: tuple[render.CaptureForm, ...] = (render.CaptureForm.SINGLE_FRAME,)
    if results.capture_form == "multi_frame":
        forms = (render.CaptureForm.MULTI_FRAME, render.CaptureForm.SINGLE_FRAME)
    return render.Wanted(
        kinds=frozenset(render.OutputKind(name) for name in results.outputs),
        sr_classes=tuple(render.SrClass),
        capture_forms=forms,
        capture_geometry=results.capture_geometry,
        language=results.language,
    )


def run_of(
    study: StudyRecord,
    results: ResultSettings,
    earlier: Sequence[tuple[int, ResultObject]],
    spool: Spool,
    *,
    tracking_key: str,
) -> render.Run:
    """The same for every attempt at one round of one generation, so that a repeat makes the same objects.

    ``earlier`` are all results of the study so far, each with the number of its generation's study.
    """
    number, replaced_at = _standing(earlier, study, spool)
    identity = f"{study.digest} {study.generation} {study.round}"
    return render.Run(
        study_digest=hashlib.sha256(identity.encode()).hexdigest(),
        created_at=study.closed_at or study.last_received_at,
        software_version=version("spinenode"),
        institution_name=results.institution_name,
        station_name=results.station_name,
        series_number_base=results.series_number_base,
        predecessors=predecessors(earlier, study, spool),
        number=number,
        replaced_at=replaced_at,
        tracking_key=tracking_key,
    )


def predecessors(
    earlier: Sequence[tuple[int, ResultObject]], study: StudyRecord, spool: Spool
) -> tuple[render.Predecessor, ...]:
    """The SR documents of the newest earlier generation that has any; one whose file is gone is passed over."""
    documents = [(number, item) for number, item in earlier if number < study.study_id and _is_document(item)]
    newest = max((number for number, _ in documents), default=None)
    return references((item for number, item in documents if number == newest), spool)


def references(results: Iterable[ResultObject], spool: Spool) -> tuple[render.Predecessor, ...]:
    """Earlier results as a new one names them; one whose file is gone is passed over, for its series is unknown."""
    return tuple(
        render.Predecessor(
            sop_class_uid=item.sop_class_uid, sop_instance_uid=item.sop_instance_uid, series_instance_uid=series
        )
        for item in results
        if (series := _series_of(spool.absolute(item.path)))
    )


def _standing(
    earlier: Sequence[tuple[int, ResultObject]], study: StudyRecord, spool: Spool
) -> tuple[int, datetime | None]:
    """Which of the study's gradings this one is, from 1; when the newest of those before it was made."""
    graded = [
        (number, item)
        for number, item in earlier
        if number < study.study_id and item.kind != render.OutputKind.DECLINED_REPORT
    ]
    newest = max((number for number, _ in graded), default=None)
    times = (_made_at(spool.absolute(item.path)) for number, item in graded if number == newest)
    return len({number for number, _ in graded}) + 1, next(filter(None, times), None)


def tracking_key(settings: Settings) -> str:
    """The secret behind the Tracking UIDs: from the settings, or made up once and kept beside the ledger."""
    if settings.results.tracking_key:
        return settings.results.tracking_key
    path = settings.node.data_dir / KEY_FILE
    if not path.exists():
        # Several workers may start at once: each writes a file of its own, and the first one's name stays.
        unfinished = path.with_suffix(f".{secrets.token_hex(4)}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as stream:  # noqa: PTH123 - of a descriptor
            stream.write(secrets.token_hex(KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(unfinished)
        unfinished.unlink()
    return path.read_text(encoding="ascii").strip()


def _is_document(result: ResultObject) -> bool:
    return result.kind in (render.OutputKind.MEASUREMENT_REPORT, render.OutputKind.TEXT_REPORT)


def _series_of(path: Path) -> str:
    try:
        header = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
    except UNREADABLE:
        return ""
    return str(header.get("SeriesInstanceUID") or "")


def _made_at(path: Path) -> datetime | None:
    """When a result says that it was made; None where its file is gone or says nothing."""
    try:
        header = pydicom.dcmread(path, specific_tags=[*_MOMENT, "TimezoneOffsetFromUTC"], stop_before_pixels=True)
        date, time = (str(header.get(keyword, ""))[:length] for keyword, length in _MOMENT.items())
        zone = str(header.get("TimezoneOffsetFromUTC") or "+0000")  # without one, ours are in UTC
        return datetime.strptime(f"{date}{time}{zone}", "%Y%m%d%H%M%S%z")
    except UNREADABLE:
        return None
