"""The process that watches the ledger: closes studies that have fallen quiet, and sends results that are due.

Each archive has a tick, and so a thread, of its own: one that is down or slow delays no other.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from pydicom.uid import UID

from node import assembly, query, retry, routing, sender
from node.enquiries import Enquiries
from node.ledger import Ledger, open_ledger
from node.records import Delivery
from node.settings import ArchiveSettings, Settings
from node.spool import Spool
from node.ticks import Tick, Ticks

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
STRAYS_EVERY_S = 60.0
BATCH = 100
"""Objects in one association: some 5 studies, so that a stop never waits long for its end."""

Now = Callable[[], datetime]


class Post(NamedTuple):
    """What sending needs."""

    ledger: Ledger
    spool: Spool
    settings: Settings
    now: Now


def run(settings: Settings, *, stop: threading.Event, on_ready: Callable[[], None], now: Now) -> None:
    """Run until ``stop`` is set."""
    ledger = open_ledger(settings.database_url)
    post = Post(ledger, Spool(settings.spool_dir, minimum_free_bytes=0), settings, now)
    our_ae_title = settings.receiver.ae_title
    enquiries = Enquiries(ledger, lambda asked, uid: query.series_counts(asked, our_ae_title, uid))
    ticks = Ticks(
        [
            Tick(
                name="closing studies",
                every_s=LOOK_EVERY_S,
                run=partial(close_studies, ledger, settings, now, enquiries),
            ),
            Tick(name="ending strays", every_s=STRAYS_EVERY_S, run=partial(end_strays, ledger, settings, now)),
            *(
                Tick(name=f"asking {item.ae_title}", every_s=LOOK_EVERY_S, run=partial(enquiries.ask, item, now))
                for item in settings.senders
                if item.query_host
            ),
            *(
                Tick(name=f"sending to {archive.name}", every_s=LOOK_EVERY_S, run=partial(deliver, archive, post))
                for archive in settings.archives
            ),
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
    for closing in due:
        closed = ledger.close_study(
            closing.study_id, last_received_at=closing.last_received_at, reason=closing.reason, now=now()
        )
        if closed:
            logger.info("%s", closing.reason, extra={"study_id": closing.study_id})


def end_strays(ledger: Ledger, settings: Settings, now: Now) -> None:
    """End deliveries to archives that are no longer in the settings: nothing would ever send them."""
    known = {archive.name for archive in settings.archives}
    for name in set(ledger.delivery_counts()) - known:
        for delivery in ledger.due_deliveries(now(), limit=BATCH, archives=[name]):
            ledger.delivery_dead(delivery.delivery_id, status="no archive of this name in the settings", now=now())
            logger.error(
                "a result has nowhere to go: no archive of this name in the settings",
                extra={"study_id": delivery.study_id, "archive": name},
            )


def deliver(archive: ArchiveSettings, post: Post) -> None:
    """Send what is due to one archive, and write down each answer as it comes."""
    due = post.ledger.due_deliveries(post.now(), limit=BATCH, archives=[archive.name])
    if not due:
        return
    by_path = {post.spool.absolute(delivery.path): delivery for delivery in due}
    peer = sender.peer_of(archive, post.settings.delivery.connect_timeout_s)
    chance = random.random()  # one for all: what failed together is tried again together, over one association
    delivered = 0
    for outcome in sender.send(tuple(by_path), peer):
        delivery = by_path[outcome.path]
        if isinstance(outcome.answer, sender.Stored):
            post.ledger.delivery_delivered(delivery.delivery_id, status=outcome.answer.status, now=post.now())
            delivered += 1
        elif not (outcome.answer.class_refused and _sent_otherwise(delivery, outcome.answer, archive, post)):
            _write_down_failure(delivery, outcome.answer, post, chance)
    if delivered:
        logger.info("delivered %d objects", delivered, extra={"archive": archive.name})


def _sent_otherwise(delivery: Delivery, failure: retry.Failure, archive: ArchiveSettings, post: Post) -> bool:
    """Have another form of a result sent where the archive takes none of its SOP class; False where there is none."""
    uid = post.ledger.study(delivery.study_id).study_instance_uid
    made = [result for study_id, result in post.ledger.results(uid) if study_id == delivery.study_id]
    refused = next(result for result in made if result.sop_instance_uid == delivery.sop_instance_uid)
    instead = routing.instead_of(refused, made, archive)
    if not instead:
        return False
    chosen = next(result for result in made if result.sop_instance_uid == instead[0])
    status = f"{failure.what}; {chosen.kind} goes there as {UID(chosen.sop_class_uid).name} instead"
    post.ledger.delivery_replaced(delivery.delivery_id, instead=instead, status=status, now=post.now())
    logger.warning("%s", status, extra={"study_id": delivery.study_id, "archive": delivery.archive})
    return True


def _write_down_failure(delivery: Delivery, failure: retry.Failure, post: Post, chance: float) -> None:
    now = post.now()
    delays = post.settings.delivery
    pace = retry.Pace(first_s=delays.first_delay_s, longest_s=delays.maximum_delay_s)
    decision = retry.decide(failure, delivery.attempts, now, pace=pace, chance=chance)
    context = {"study_id": delivery.study_id, "archive": delivery.archive}
    if isinstance(decision, retry.Never):
        post.ledger.delivery_dead(delivery.delivery_id, status=failure.what, now=now)
        logger.error("given up until `spinenode retry`: %s", failure.what, extra=context)
        return
    post.ledger.delivery_postponed(delivery.delivery_id, status=failure.what, not_before=decision.not_before, now=now)
    wait_s = (decision.not_before - now).total_seconds()
    logger.warning("not delivered, tried again in %.0f s: %s", wait_s, failure.what, extra=context)
