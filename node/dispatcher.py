"""The process that watches the ledger: closes studies that have fallen quiet, sends results that are due, has archives
prove that they hold them, and deletes what is proven long enough.

Each archive has a tick, and so a thread, of its own: one that is down or slow delays no other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial

from node import assembly, query, quiet_libraries, sending
from node.enquiries import Enquiries
from node.ledger import Ledger, open_ledger
from node.lone import wait_for_lock
from node.looks import Looks
from node.retention import Keeper, look_every_s
from node.settings import Settings
from node.spool import Spool
from node.ticks import Tick, Ticks
from node.verification import Prover

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
PROOF_EVERY_S = 1.0
OLD_EVERY_S = 60.0
LOCK_EVERY_S = 1.0
LOCK_FILE = "dispatcher.lock"

Now = Callable[[], datetime]


def run(settings: Settings, *, stop: threading.Event, on_ready: Callable[[], None], now: Now) -> None:
    """Run until ``stop`` is set.

    One dispatcher works on a spool. Another, on another machine, stands by and takes over when the first is gone: two
    would send every result twice.
    """
    quiet_libraries.prepare()
    settings.spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.spool_dir / LOCK_FILE).open("a", encoding="ascii") as lock:

        def stand_by() -> None:
            logger.warning("another dispatcher works on this spool: standing by until it ends")
            on_ready()

        if wait_for_lock(lock, stop, stand_by, LOCK_EVERY_S):
            _dispatch(settings, stop, on_ready, now)


def _dispatch(settings: Settings, stop: threading.Event, on_ready: Callable[[], None], now: Now) -> None:
    ledger = open_ledger(settings.database_url)
    spool = Spool(settings.spool_dir, minimum_free_bytes=0)
    post = sending.Post(ledger, spool, settings, now)
    asked = [item for item in settings.senders if item.query_host]
    enquiries = Enquiries(
        ledger,
        lambda sender, uid: query.image_counts(sender, settings.receiver.ae_title, uid),
        ae_titles=[item.ae_title for item in asked],
        count_confirmed_s=settings.assembly.count_confirmed_s,
    )
    ticks = Ticks(
        [
            Tick(
                name="closing studies",
                every_s=LOOK_EVERY_S,
                run=partial(close_studies, ledger, settings, now, enquiries, Looks(ledger, spool)),
            ),
            Tick(name="ending strays", every_s=OLD_EVERY_S, run=partial(sending.end_strays, post)),
            Tick(name="giving up", every_s=OLD_EVERY_S, run=partial(sending.give_up_old, post)),
            *(
                Tick(name=f"asking {item.ae_title}", every_s=LOOK_EVERY_S, run=partial(enquiries.ask, item, now))
                for item in asked
            ),
            *(
                Tick(
                    name=f"sending to {archive.name}", every_s=LOOK_EVERY_S, run=partial(sending.deliver, archive, post)
                )
                for archive in settings.archives
            ),
            *(
                Tick(
                    name=f"asking {archive.name} for proof",
                    every_s=PROOF_EVERY_S,
                    run=Prover(archive, settings, ledger, spool, now).look,
                )
                for archive in settings.archives
                if archive.proof != "none"
            ),
            Tick(name="retention", every_s=look_every_s(settings), run=Keeper(settings, ledger, spool, now).look),
        ]
    )
    ticks.start()
    on_ready()
    stop.wait()
    ticks.stop()


def close_studies(ledger: Ledger, settings: Settings, now: Now, enquiries: Enquiries, looks: Looks) -> None:
    """Close every study that is due, unless an image came meanwhile; note what the others wait for."""
    studies = ledger.open_studies()
    looks.forget_all_but(studies)
    rules = _rules(settings)
    moment = now()
    compared = enquiries.known_of(studies, moment)
    seen = looks.at_quiet_series_of(studies, rules.early.series_quiet_s, moment) if rules.early else {}
    ripe = {closing.study_id for closing in assembly.due(studies, rules, compared=compared, seen=seen, now=moment)}
    seen = {**seen, **looks.at_all_of([study for study in studies if study.study_id in ripe])}
    due = assembly.due(studies, rules, compared=compared, seen=seen, now=moment)
    for wait in assembly.waiting(studies, compared=compared, seen=seen):
        ledger.note_waiting(wait.study_id, wait.reason)
    priorities = {item.ae_title: item.priority for item in settings.senders}
    senders = {study.study_id: study.calling_ae_title for study in studies}
    for closing in due:
        closed = ledger.close_study(
            closing.study_id,
            last_received_at=closing.last_received_at,
            reason=closing.reason,
            priority=priorities.get(senders[closing.study_id], 0),
            graded_series=closing.graded_series,
            now=now(),
        )
        if closed:
            logger.info("%s", closing.reason, extra={"study_id": closing.study_id})


def _rules(settings: Settings) -> assembly.Rules:
    wanted = settings.assembly
    early = assembly.EarlyStart(series_quiet_s=wanted.series_quiet_s, minimum_slices=settings.inference.minimum_slices)
    return assembly.Rules(
        quiet_s=wanted.quiet_s,
        quiet_s_of={item.ae_title: item.quiet_s for item in settings.senders if item.quiet_s is not None},
        count_confirmed_s=wanted.count_confirmed_s,
        maximum_wait_s=wanted.maximum_wait_s,
        early=early if wanted.start_early else None,
    )
