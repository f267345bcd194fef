"""Brings results to the archives: what is due goes out, each answer is written down, and an archive that fails is left
in peace until it answers a probe.

Each archive has a tick, and so a thread, of its own: one that is down or slow delays no other.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pydicom.uid import UID

from node import breaker, retry, routing
from node.breaker import BreakerState, Health, Move
from node.ledger import Ledger, LedgerError
from node.logs import place
from node.outlets import Outlet, outlet_of
from node.records import Delivery
from node.retry import Failure, Pace, Tries
from node.sender import Stored
from node.settings import ArchiveSettings, Settings
from node.spool import Spool

logger = logging.getLogger(__name__)

BATCH = 100
"""Objects in one association: some 5 studies, so that a stop never waits long for its end."""

Now = Callable[[], datetime]


class Post(NamedTuple):
    """What sending needs."""

    ledger: Ledger
    spool: Spool
    settings: Settings
    now: Now

    @property
    def pace(self) -> Pace:
        """Of the delays, by the settings."""
        delivery = self.settings.delivery
        return Pace(
            first_s=delivery.first_delay_s,
            longest_s=delivery.maximum_delay_s,
            give_up_after_s=delivery.give_up_after_s,
        )

    @property
    def rules(self) -> breaker.Rules:
        """Of the breakers, by the settings."""
        return breaker.Rules(failures=self.settings.delivery.breaker_failures, pace=self.pace)


def deliver(archive: ArchiveSettings, post: Post) -> None:
    """Send what is due to one archive, or probe it, as its breaker has it."""
    health = post.ledger.archives.health(archive.name, now=post.now())
    move = breaker.next_move(health, post.now())
    if move is Move.WAIT:
        return  # the deliveries are not even read
    outlet = outlet_of(archive, post.settings.delivery.connect_timeout_s)
    if move is Move.PROBE:
        probed = _probe(archive, outlet, health, post)
        if probed is None:
            return
        health = probed
    due = post.ledger.due_deliveries(
        post.now(),
        limit=BATCH,
        archives=[archive.name],
        head_start_s=post.settings.delivery.priority_head_start_s,
    )
    if due:
        _Round(archive, post, health).send(due, outlet)


def _probe(archive: ArchiveSettings, outlet: Outlet, health: Health, post: Post) -> Health | None:
    """Half open where the archive answers, else None."""
    failure = outlet.probe()
    now = post.now()
    if failure is not None:
        failing = breaker.failed(health, failure, now, rules=post.rules, chance=random.random())
        post.ledger.archives.write_health(archive.name, failing, now=now)
        return None
    answering = breaker.probed(health, "it answers a probe", now)
    post.ledger.archives.write_health(archive.name, answering, now=now)
    logger.info("the archive answers again", extra={"archive": archive.name})
    return answering


class _Round:
    """One batch of deliveries to one archive."""

    def __init__(self, archive: ArchiveSettings, post: Post, health: Health) -> None:
        self._archive = archive
        self._post = post
        self._health = health
        self._failure: Failure | None = None
        self._chance = random.random()  # one for all: what failed together is tried again together

    def send(self, due: Sequence[Delivery], outlet: Outlet) -> None:
        """Send them, writing down each answer as it comes."""
        left = {self._post.spool.absolute(delivery.path): delivery for delivery in due}
        delivered = 0
        untried: list[int] = []
        try:
            for outcome in outlet.send(tuple(left)):
                delivery = left[outcome.path]
                self._write_down(delivery, outcome.answer)
                del left[outcome.path]
                delivered += isinstance(outcome.answer, Stored)
                if isinstance(outcome.answer, Failure) and not outcome.answer.tried:
                    untried.append(delivery.delivery_id)
        except LedgerError:
            raise
        except Exception as error:  # an object that no library was ready for must not hold up the others
            if not left:
                raise
            self._stumbled(next(iter(left.values())), error)
        if delivered:
            logger.info("delivered %d objects", delivered, extra={"archive": self._archive.name})
        self._write_health(untried)

    def _write_down(self, delivery: Delivery, answer: Stored | Failure) -> None:
        if isinstance(answer, Stored):
            self._answered(answer.status)
            self._stored(delivery, answer)
            return
        if answer.of_archive:
            self._failed(answer)
        elif not answer.local:
            self._answered(answer.what, answer)
        if answer.tried:
            self._refused(delivery, answer)

    def _stumbled(self, delivery: Delivery, error: Exception) -> None:
        """The first object without an answer is taken for the one that it happened at."""
        what = f"a fault of this node, {place(error)}"
        logger.exception("sending failed: %s", what, extra={"archive": self._archive.name})
        self._write_down_failure(delivery, Failure(what=what, permanent=False))

    def _answered(self, answer: str, failure: Failure | None = None) -> None:
        self._health = breaker.answered(self._health, answer, self._post.now(), failure=failure)

    def _failed(self, failure: Failure) -> None:
        """The archive has failed, which counts once for all that was to go."""
        if self._failure is not None:
            return
        self._failure = failure
        before = self._health.state
        self._health = breaker.failed(
            self._health, failure, self._post.now(), rules=self._post.rules, chance=self._chance
        )
        if before is BreakerState.CLOSED and self._health.state is BreakerState.OPEN:
            context = {"archive": self._archive.name}
            logger.warning("the archive is left alone until it answers: %s", failure.what, extra=context)

    def _stored(self, delivery: Delivery, answer: Stored) -> None:
        ledger, now = self._post.ledger, self._post.now()
        most = self._post.settings.delivery.warning_retries
        if answer.warned and most:
            before = ledger.delivery_events(delivery.delivery_id)
            warned = sum(event.status.startswith(answer.status) for event in before)
            if warned < most:
                wait_s = retry.delay_s(warned, self._post.pace, self._chance)
                status = f"{answer.status} (sent again in the hope of a plain success)"
                not_before = now + timedelta(seconds=wait_s)
                ledger.delivery_postponed(delivery.delivery_id, status=status, not_before=not_before, now=now)
                return
        ledger.delivery_delivered(delivery.delivery_id, status=answer.status, now=now)
        if answer.warned:
            context = {"study_id": delivery.study_id, "archive": delivery.archive}
            logger.warning("delivered with a warning: %s", answer.status, extra=context)

    def _refused(self, delivery: Delivery, failure: Failure) -> None:
        if not (failure.form_refused and self._sent_otherwise(delivery, failure)):
            self._write_down_failure(delivery, failure)

    def _sent_otherwise(self, delivery: Delivery, failure: Failure) -> bool:
        """Have another form of a result sent where the archive does not take this one; False where there is none."""
        ledger = self._post.ledger
        uid = ledger.study(delivery.study_id).study_instance_uid
        made = [result for study_id, result in ledger.results(uid) if study_id == delivery.study_id]
        refused = next((item for item in made if item.sop_instance_uid == delivery.sop_instance_uid), None)
        instead = routing.instead_of(refused, made, self._archive) if refused is not None else ()
        if not instead:
            return False
        chosen = next(result for result in made if result.sop_instance_uid == instead[0])
        status = f"{failure.what}; {chosen.kind} goes there as {UID(chosen.sop_class_uid).name} instead"
        ledger.delivery_replaced(delivery.delivery_id, instead=instead, status=status, now=self._post.now())
        logger.warning("%s", status, extra={"study_id": delivery.study_id, "archive": delivery.archive})
        return True

    def _write_down_failure(self, delivery: Delivery, failure: Failure) -> None:
        ledger, now = self._post.ledger, self._post.now()
        tries = Tries(attempts=delivery.attempts, due_since=delivery.due_since or now)
        decision = retry.decide(failure, tries, now, pace=self._post.pace, chance=self._chance)
        context = {"study_id": delivery.study_id, "archive": delivery.archive}
        if isinstance(decision, retry.Never):
            ledger.delivery_dead(delivery.delivery_id, status=decision.reason, now=now)
            logger.error("a dead letter, for `spinenode dead-letters`: %s", decision.reason, extra=context)
            return
        not_before = decision.not_before
        if failure.of_archive and self._health.not_before is not None:
            # it may be this object at which the archive falls over: the others go first when it is back
            not_before = max(not_before, self._health.not_before + timedelta(seconds=self._post.pace.first_s))
        ledger.delivery_postponed(delivery.delivery_id, status=failure.what, not_before=not_before, now=now)
        wait_s = (not_before - now).total_seconds()
        logger.warning("not delivered, tried again in %.0f s: %s", wait_s, failure.what, extra=context)

    def _write_health(self, untried: Collection[int]) -> None:
        archives, now, name = self._post.ledger.archives, self._post.now(), self._archive.name
        if self._failure is not None and self._failure.out_of_reach:
            archives.out_of_reach(name, self._health, tried=untried, now=now)
        else:
            archives.write_health(name, self._health, now=now)


def give_up_old(post: Post) -> None:
    """Make dead letters of what an archive out of reach has not taken for too long: nothing else would look at it."""
    now = post.now()
    limit_s = post.settings.delivery.give_up_after_s
    stands = post.ledger.archives.all()
    for archive in post.settings.archives:
        health = stands.get(archive.name)
        if health is None or health.state is not BreakerState.OPEN:
            continue
        number = post.ledger.dead_letters.give_up(
            archive.name, due_before=now - timedelta(seconds=limit_s), give_up_after_s=limit_s, now=now
        )
        if number:
            logger.error(
                "%d dead letters, for `spinenode dead-letters`: not delivered in time",
                number,
                extra={"archive": archive.name},
            )


def end_strays(post: Post) -> None:
    """End deliveries to archives that are no longer in the settings: nothing would ever send them. Of what these took
    without proof it is written down that nobody asks them any more.
    """
    ledger, now = post.ledger, post.now()
    known = {archive.name for archive in post.settings.archives}
    for name in set(ledger.delivery_counts()) - known:
        for delivery in ledger.due_deliveries(now, limit=BATCH, archives=[name]):
            ledger.delivery_dead(delivery.delivery_id, status="no archive of this name in the settings", now=now)
            logger.error(
                "a result has nowhere to go: no archive of this name in the settings",
                extra={"study_id": delivery.study_id, "archive": name},
            )
        if number := ledger.dead_letters.say_never_proven(name, now=now):
            logger.warning(
                "%d results that it took stay without proof, for `spinenode dead-letters`: it is not in the settings",
                number,
                extra={"archive": name},
            )
