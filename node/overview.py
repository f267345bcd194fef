"""What the operator is told about the node, and the one thing the operator may ask of a study: another try."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby

from node.ledger import Ledger, LedgerError, UnknownStudy, open_ledger
from node.records import Delivery, DeliveryState, Recorded, StudyOverview, StudyRecord
from node.settings import Settings, SettingsError

UNDELIVERED_SHOWN = 200
EVERY = 1_000_000


class NothingToRetry(Exception):
    """The study is not known, or nothing of it is left to try; the message says which."""


def of_node(settings: Settings, *, limit: int) -> str:
    """The newest studies with their states and reasons, and what waits for an archive or was refused by it.

    Shown to the operator on request only; logs never hold a Study Instance UID.
    """
    with _ledger(settings) as ledger:
        studies = ledger.study_overview(limit=limit)
        undelivered = ledger.undelivered(limit=UNDELIVERED_SHOWN)
        conflicts = ledger.received_counts()[Recorded.CONFLICT]
    if not studies and not conflicts:
        return "no study has been received yet"
    lines = [f"{len(studies)} newest studies:", *(line for study in studies for line in _study(study))]
    if conflicts:
        lines += [
            "",
            f"{conflicts} objects were kept but not graded: they claim a known SOP Instance UID, with other content",
        ]
    waiting = [item for item in undelivered if item.state is not DeliveryState.REPLACED]
    if waiting:
        lines += ["", "not delivered:", *_undelivered(waiting, datetime.now(UTC))]
    replaced = dict.fromkeys((item.archive, item.last_status) for item in undelivered if item not in waiting)
    if replaced:
        lines += ["", "sent in another form:", *(f"        {archive}: {status}" for archive, status in replaced)]
    return "\n".join(lines)


def latest_study(settings: Settings) -> StudyRecord | None:
    """The generation that changed last."""
    with _ledger(settings) as ledger:
        newest = ledger.study_overview(limit=1)
    return newest[0].study if newest else None


def retry(settings: Settings, study: str) -> str:
    """Set a study going again; ``study`` is its number in the overview or its Study Instance UID.

    Raises:
        NothingToRetry: unknown, or already where it should be.
    """
    with _ledger(settings) as ledger:
        try:
            touched = ledger.retry_study(_uid_of(ledger, study), now=datetime.now(UTC))
        except UnknownStudy as error:
            raise _unknown(study) from error
    if not touched:
        raise NothingToRetry(f"study {study}: it is neither failed nor declined, and nothing waits to be delivered")
    return f"study {study}: tried again ({touched} set going); `spinenode status` shows how it goes"


def give_up(settings: Settings, study: str) -> str:
    """Stop trying to deliver what waits of a study; ``study`` as in ``retry``.

    Raises:
        NothingToRetry: unknown, or nothing waits.
    """
    now = datetime.now(UTC)
    with _ledger(settings) as ledger:
        try:
            uid = _uid_of(ledger, study)
        except UnknownStudy as error:
            raise _unknown(study) from error
        waiting = [
            delivery
            for delivery in ledger.undelivered(limit=EVERY)
            if delivery.state is DeliveryState.DUE and ledger.study(delivery.study_id).study_instance_uid == uid
        ]
        for delivery in waiting:
            ledger.delivery_dead(delivery.delivery_id, status="given up by the operator", now=now)
    if not waiting:
        raise NothingToRetry(f"study {study}: nothing of it waits to be delivered")
    return f"study {study}: {len(waiting)} results are not sent any more; `spinenode retry {study}` takes them up again"


def _uid_of(ledger: Ledger, study: str) -> str:
    return ledger.study(int(study)).study_instance_uid if study.isdigit() else study


def _unknown(study: str) -> NothingToRetry:
    return NothingToRetry(f"no study {study}; `spinenode status` lists what is known")


def _study(shown: StudyOverview) -> Iterator[str]:
    study = shown.study
    generation = f" (generation {study.generation})" if study.generation > 1 else ""
    yield (
        f"{study.study_id:>6}  {study.changed_at:%Y-%m-%d %H:%M:%S}Z  {study.state.value:<10} "
        f"{study.instance_count:>5} images  {study.study_instance_uid}{generation}"
    )
    if study.reason:
        yield f"        {study.reason}"
    if shown.closed_because and shown.closed_because != study.reason:
        yield f"        {shown.closed_because}"
    if shown.deliveries:
        counts = ", ".join(f"{count} {state.value}" for state, count in sorted(shown.deliveries.items()))
        yield f"        results: {counts}"
    if shown.conflicts:
        yield f"        {shown.conflicts} objects kept beside it: a known SOP Instance UID with other content"


def _undelivered(deliveries: Sequence[Delivery], now: datetime) -> Iterator[str]:
    """One line for each study, archive, state and answer: an archive that is away says the same of each object."""
    for (study_id, archive, state, status), same in groupby(
        deliveries, key=lambda item: (item.study_id, item.archive, item.state, item.last_status)
    ):
        group = list(same)
        attempts = max(item.attempts for item in group)
        wait_s = max(0, round((min(item.not_before for item in group) - now).total_seconds()))
        when = f"next try in {wait_s} s" if state is DeliveryState.DUE else "waits for `spinenode retry`"
        said = status or "not tried yet"
        yield f"{study_id:>6}  {archive}: {len(group)} {state.value} after {attempts} attempts, {when}: {said}"


@contextmanager
def _ledger(settings: Settings) -> Iterator[Ledger]:
    if not settings.node.database_url and not (settings.node.data_dir / "node.db").exists():
        raise SettingsError(
            f"no node has run with data_dir {settings.node.data_dir.absolute()}: "
            "give its settings with --config, and call from the folder that it was started in"
        )
    try:
        ledger = open_ledger(settings.database_url)
    except LedgerError as error:
        raise SettingsError(f"the ledger cannot be read: {error}") from error
    try:
        yield ledger
    finally:
        ledger.close()
