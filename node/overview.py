"""What the operator may ask of a study: another try, or an end of trying."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from node import words
from node.ledger import Ledger, LedgerError, UnknownStudy
from node.ledger_database import Database, open_database
from node.ledger_timeline import study_number
from node.records import DeliveryState, StudyRecord
from node.settings import Settings, SettingsError

EVERY = 1_000_000


class NothingToRetry(Exception):
    """The study is not known, or nothing of it is left to try; the message says which."""


def latest_study(settings: Settings) -> StudyRecord | None:
    """The generation that changed last."""
    with ledger_of(settings) as ledger:
        newest = ledger.study_overview(limit=1)
    return newest[0].study if newest else None


def retry(settings: Settings, study: str) -> str:
    """Set a study going again; ``study`` is its number in the overview or its Study Instance UID.

    Raises:
        NothingToRetry: unknown, already where it should be, or its images are deleted.
    """
    now = datetime.now(UTC)
    with ledger_of(settings) as ledger:
        try:
            uid = _uid_of(ledger, study)
            purged, since = ledger.retention.purged_images(uid)
            if purged and since is not None:
                raise NothingToRetry(f"study {study}: {words.images_purged(purged, since)}")
            touched = ledger.retry_study(uid, now=now)
            proving = [archive.name for archive in settings.archives if archive.proof != "none"]
            touched += ledger.proofs.ask_at_once(uid, archives=proving, now=now)
            ledger.archives.ask_at_once(now=now)
        except UnknownStudy as error:
            raise _unknown(study) from error
    if not touched:
        raise NothingToRetry(
            f"study {study}: it is neither failed nor declined, and nothing waits to be delivered or proven"
        )
    return f"study {study}: tried again ({touched} set going); `spinenode status` shows how it goes"


def give_up(settings: Settings, study: str) -> str:
    """Stop trying to deliver what waits of a study; ``study`` as in ``retry``.

    Raises:
        NothingToRetry: unknown, or nothing waits.
    """
    now = datetime.now(UTC)
    with ledger_of(settings) as ledger:
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
    number = study_number(study)
    return study if number is None else ledger.study(number).study_instance_uid


def _unknown(study: str) -> NothingToRetry:
    return NothingToRetry(f"no study {study}; `spinenode status` lists what is known")


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database of a node that has run, for a command beside it.

    Raises:
        SettingsError: there is none, or it cannot be read.
    """
    if not settings.node.database_url and not (settings.node.data_dir / "node.db").exists():
        raise SettingsError(
            f"no node has run with data_dir {settings.node.data_dir.absolute()}: "
            "give its settings with --config, and call from the folder that it was started in"
        )
    try:
        database = open_database(settings.database_url)
    except LedgerError as error:
        raise SettingsError(f"the ledger cannot be read: {error}") from error
    try:
        yield database
    finally:
        database.close()


@contextmanager
def ledger_of(settings: Settings) -> Iterator[Ledger]:
    """The ledger of a node that has run; raises as ``opened``."""
    with opened(settings) as database:
        yield Ledger(database)
