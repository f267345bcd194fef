"""Rings for the operator: turns what was seen into notices, and sees to it that each channel takes them.

Notices are durable in the ledger before they are sent, and are sent until their channel has taken them. The one thing
that cannot be written there is that the ledger itself is away: that is told directly, and written down afterwards.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from node import notices
from node.health import About, Check
from node.ledger_database import Database, LedgerError
from node.ledger_notices import Notices
from node.mail import mailbox_of
from node.notices import Listener, Notice, NoticeToRaise
from node.records import DeliveryState
from node.settings import Settings
from node.settings_monitoring import NoticeSettings
from node.watch import Reading
from node.webhook import NotTold, webhook_of
from node.words import count

SEND_EVERY_S = 1.0
AT_ONCE = 20
IN_HAND = timedelta(minutes=5)
"""A notice that was taken to be sent and neither sent nor put off by then is sent again."""
DIRECT_AGAIN_S = 60.0
DATABASE = "database"

logger = logging.getLogger(__name__)

Now = Callable[[], datetime]


class Channel(Protocol):
    """A way to reach the operator."""

    def tell(self, content: Mapping[str, object]) -> str:
        """Raises ``NotTold``."""


def channels_of(settings: NoticeSettings) -> Mapping[str, Channel]:
    """The ways that are set, by name."""
    found: dict[str, Channel] = {}
    if settings.webhook_url:
        found["webhook"] = webhook_of(settings)
    if settings.email_host:
        found["email"] = mailbox_of(settings)
    return found


class Bell:
    """``hear`` is called with what was seen; ``start`` begins to send."""

    def __init__(self, settings: Settings, now: Now, channels: Mapping[str, Channel]) -> None:
        self._settings = settings
        self._now = now
        self._channels = channels
        self._red_since: dict[str, float] = {}
        self._database: Database | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._unwritten: dict[str, tuple[NoticeToRaise, bool]] = {}
        """Channel -> what was to be said of the ledger while it was away, and whether the channel has taken it."""
        self._last_of_database: dict[str, Notice | None] = {}
        self._machine = _machine(settings)
        self._subject_of_database = notices.subject_of(
            Check(name=DATABASE, about=About.NODE, is_red=None, reason=""), self._machine
        )
        self._direct_again_at: dict[str, float] = {}

    def start(self) -> None:
        threading.Thread(target=self._send_for_ever, name="notices", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def hear(self, checks: Sequence[Check], reading: Reading | None, database: Database) -> None:
        """Write down what is to be told. Called by the thread that reads the ledger.

        Raises:
            LedgerError
        """
        self._database = database
        ledger = Notices(database)
        with self._lock:
            self._write_down_what_was_said(ledger)
            red_for_s = self._red_for_s(checks)
        now = self._now()
        for name in self._channels:
            last = ledger.last_of(name)
            self._last_of_database[name] = last.get(self._subject_of_database)
            raised = tuple(_wanted(checks, red_for_s, reading, last, self._listener(name), now))
            if raised and ledger.raise_once(raised, now=now):
                for notice in raised:
                    logger.info("to tell by %s: %s", name, notice.text)

    def hear_without_ledger(self, checks: Sequence[Check]) -> None:
        """Tell at once, without the ledger, that the ledger is away; called again and again while it is."""
        check = next(check for check in checks if check.name == DATABASE)
        for name, notice in self._to_tell_directly(checks, check).items():
            is_said = self._tell(self._channels[name], notice, self._now()) is None
            with self._lock:
                self._unwritten[name] = (notice, is_said)

    def _to_tell_directly(self, checks: Sequence[Check], check: Check) -> Mapping[str, NoticeToRaise]:
        found: dict[str, NoticeToRaise] = {}
        with self._lock:
            red_for_s = self._red_for_s(checks).get(DATABASE, 0.0)
            for name in self._channels:
                _, is_said = self._unwritten.get(name, (None, False))
                if is_said or time.monotonic() < self._direct_again_at.get(name, 0.0):
                    continue
                raised = notices.of_check(check, red_for_s, self._last_of_database.get(name), self._listener(name))
                if raised is not None:
                    others = [item.name for item in checks if item.is_red and item.name != DATABASE]
                    also = f". Red too: {', '.join(others)}" if others else ""
                    found[name] = replace(raised, text=raised.text + also)
                    self._direct_again_at[name] = time.monotonic() + DIRECT_AGAIN_S
        return found

    def send_due(self) -> None:
        """Send what is due, in order; a channel that fails keeps its other notices waiting too.

        Raises:
            LedgerError
        """
        if self._database is None:
            return
        ledger, now = Notices(self._database), self._now()
        failed: set[str] = set()
        for notice in ledger.take(tuple(self._channels), now=now, until=now + IN_HAND, limit=AT_ONCE):
            if notice.channel in failed:
                ledger.held(notice.notice_id, not_before=notices.next_try(0, now))
                continue
            why = self._tell(self._channels[notice.channel], notice, notice.made_at)
            if why is None:
                ledger.sent(notice.notice_id, status="taken", now=self._now())
            else:
                failed.add(notice.channel)
                self._put_off(ledger, notice, why)
        # a day later than ours are given up, so that each of those was tried a last time
        long_ago = now - notices.GIVE_UP_AFTER - timedelta(days=1)
        ledger.give_up_older(long_ago, status="no node has this channel in its settings")

    def _put_off(self, ledger: Notices, notice: Notice, why: str) -> None:
        now = self._now()
        if now - notice.made_at > notices.GIVE_UP_AFTER:
            logger.error("notice %d is given up after a week: %s", notice.notice_id, why)
            ledger.given_up(notice.notice_id, status=why)
            return
        again = notices.next_try(notice.attempts, now)
        level = logging.WARNING if notice.attempts == 0 else logging.DEBUG  # once for each notice, not each time
        logger.log(level, "%s does not take notice %d, tried again: %s", notice.channel, notice.notice_id, why)
        ledger.postponed(notice.notice_id, status=why, not_before=again)

    def _tell(self, channel: Channel, notice: Notice | NoticeToRaise, at: datetime) -> str | None:
        """None when the channel took it, else why not."""
        content = {
            "schema": 1,
            "event": str(notice.event),
            "subject": notices.said_subject(notice.subject),
            "text": notice.text,
            "at": at.isoformat(timespec="seconds"),
            "node": f"{self._settings.receiver.ae_title}@{socket.gethostname()}",
            "occasion": notice.occasion,
        }
        try:
            channel.tell(content)
        except NotTold as error:
            return str(error)
        return None

    def _write_down_what_was_said(self, ledger: Notices) -> None:
        for name, (notice, is_said) in list(self._unwritten.items()):
            ledger.note(notice, is_said=is_said, now=self._now())
            del self._unwritten[name]

    def _red_for_s(self, checks: Iterable[Check]) -> Mapping[str, float]:
        """How long each red check has been red, as far as it was looked at."""
        now = time.monotonic()
        self._red_since = {check.name: self._red_since.get(check.name, now) for check in checks if check.is_red}
        return {name: now - since for name, since in self._red_since.items()}

    def _listener(self, channel: str) -> Listener:
        wanted = self._settings.notices
        return Listener(
            channel=channel,
            machine=self._machine,
            events=wanted.events,
            gather_s=wanted.gather_s,
            alarm_after_s=wanted.alarm_after_s,
        )

    def _send_for_ever(self) -> None:
        failing = False
        while not self._stop.wait(SEND_EVERY_S):
            try:
                self.send_due()
                failing = False
            except LedgerError as error:
                if not failing:
                    logger.error("notices cannot be sent while the ledger is away: %s", error)
                failing = True
            except Exception:  # whatever one notice does to a library, the others must be sent
                if not failing:
                    logger.exception("notices cannot be sent")
                failing = True


def _wanted(  # noqa: PLR0913, PLR0917 - all that was seen
    checks: Sequence[Check],
    red_for_s: Mapping[str, float],
    reading: Reading | None,
    last: Mapping[str, Notice],
    listener: Listener,
    now: datetime,
) -> Iterator[NoticeToRaise]:
    for check in checks:
        previous = last.get(notices.subject_of(check, listener.machine))
        raised = notices.of_check(check, red_for_s.get(check.name, 0.0), previous, listener)
        if raised is not None:
            yield _with_what_waits(raised, check, reading)
    if reading is None:
        return
    for archive, dead in reading.dead_letters.items():
        subject = f"dead letters of {archive}"
        raised = notices.of_dead_letters(archive, dead, last.get(subject), listener, now)
        if raised is not None:
            yield raised
    if reading.failed_studies is not None:
        previous = last.get(notices.FAILED_STUDIES)
        raised = notices.of_failed_studies(reading.failed_studies, previous, listener, now)
        if raised is not None:
            yield raised


def _machine(settings: Settings) -> str:
    """Tells the nodes that share a ledger apart, on one machine too."""
    where = f"{socket.gethostname()} {settings.node.data_dir.absolute()}"
    return hashlib.sha256(where.encode("utf-8")).hexdigest()[:12]


def _with_what_waits(raised: NoticeToRaise, check: Check, reading: Reading | None) -> NoticeToRaise:
    """Of an archive that is down: how many results wait for it."""
    if reading is None or check.about is not About.ARCHIVE or not check.is_red:
        return raised
    waiting = reading.counts.deliveries.get(check.name.removeprefix("archive "), {}).get(DeliveryState.DUE, 0)
    text = f"{raised.text}. {count(waiting, 'result')} wait for it; nothing is lost, and it is asked again and again."
    return replace(raised, text=text)
