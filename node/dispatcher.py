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
from node.retention import Keeper
from node.settings import Settings
from node.spool import Spool
from node.ticks import Tick, Ticks
from node.verification import Prover

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
OLD_EVERY_S = 60.0

Now = Callable[[], datetime]


def run(settings: Settings, *, stop: threading.Event, on_ready: Callable[[], None], now: Now) -> None:
    """Run until ``stop`` is set."""
    quiet_libraries.prepare()
    ledger = open_ledger(settings.database_url)
    spool = Spool(settings.spool_dir, minimum_free_bytes=0)
    post = sending.Post(ledger, spool, settings, now)
    our_ae_title = settings.receiver.ae_title
    enquiries = Enquiries(ledger, lambda asked, uid: query.series_counts(asked, our_ae_title, uid))
    ticks = Ticks(
        [
            Tick(
                name="closing studies",
                every_s=LOOK_EVERY_S,
                run=partial(close_studies, ledger, settings, now, enquiries),
            ),
            Tick(name="ending strays", every_s=OLD_EVERY_S, run=partial(sending.end_strays, post)),
            Tick(name="giving up", every_s=OLD_EVERY_S, run=partial(sending.give_up_old, post)),
            *(
                Tick(name=f"asking {item.ae_title}", every_s=LOOK_EVERY_S, run=partial(enquiries.ask, item, now))
                for item in settings.senders
                if item.query_host
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
                    every_s=LOOK_EVERY_S,
                    run=Prover(archive, settings, ledger, spool, now).look,
                )
                for archive in settings.archives
                if archive.proof != "none"
            ),
            Tick(name="retention", every_s=OLD_EVERY_S, run=Keeper(settings, ledger, spool, now).look),
        ]
    )
    ticks.start()
    on_ready()
    stop.wait()
    ticks.stop()


def close_studies(ledger: Ledger, settings: Settings, now: Now, enquiries: Enquiries) -> None:
    """Close every study that is due, unless an image came meanwhile; note what the others wait for."""
    studies = ledger.open_studies()
    compared = enquiries.known_of(studies)
    rules = assembly.Rules(
        quiet_s=settings.assembly.quiet_s,
        quiet_s_of={item.ae_title: item.quiet_s for item in settings.senders if item.quiet_s is not None},
        maximum_wait_s=settings.assembly.maximum_wait_s,
    )
    due = assembly.due(studies, rules, compared=compared, now=now())
    for wait in assembly.waiting(studies, compared):
        ledger.note_waiting(wait.study_id, wait.reason)
    priorities = {item.ae_title: item.priority for item in settings.senders}
    senders = {study.study_id: study.calling_ae_title for study in studies}
    for closing in due:
        closed = ledger.close_study(
            closing.study_id,
            last_received_at=closing.last_received_at,
            reason=closing.reason,
            priority=priorities.get(senders[closing.study_id], 0),
            now=now(),
        )
        if closed:
            logger.info("%s", closing.reason, extra={"study_id": closing.study_id})
