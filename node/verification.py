"""Sees to it that an archive proves that it holds what it took: asks, waits, asks again, and writes down what it says.

A tick for each archive. Everything stands in the ledger: a report may come to this process or to the receiver, and a
request that was interrupted is made again, under another Transaction UID.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path

import pydicom

from node import commitment, commitment_report, proofs, qido, query
from node.association import SendError, peer_of
from node.ledger import Ledger
from node.outlets import WebOutlet, outlet_of
from node.proofs import Unproven
from node.settings import ArchiveSettings, Settings
from node.spool import Spool
from node.study_files import UNREADABLE

logger = logging.getLogger(__name__)

BATCH = 200
"""Objects in one request."""
UNREACHABLE_AGAIN_S = 60.0
NOT_OFFERED_AGAIN_S = 3600.0

Group = Sequence[Unproven]


class Prover:
    """Asks one archive. ``look`` is its tick."""

    def __init__(
        self, archive: ArchiveSettings, settings: Settings, ledger: Ledger, spool: Spool, now: Callable[[], datetime]
    ) -> None:
        self._archive = archive
        self._settings = settings
        self._proofs = ledger.proofs
        self._spool = spool
        self._now = now
        self._patience = commitment_report.patience_of(settings)
        self._filing = commitment_report.filing(ledger, settings, now)
        self._is_first_look = True
        self._complaint = ""

    def look(self) -> None:
        """Asks about everything that is to be asked about now."""
        name = self._archive.name
        if self._is_first_look:
            self._proofs.end_interrupted(name, now=self._now())
            self._is_first_look = False
        if self._proofs.end_overdue(name, patience=self._patience, now=self._now()):
            logger.warning("no report about a storage commitment came in time: asked again", extra={"archive": name})
        unproven = self._proofs.due(name, self._now(), limit=BATCH)
        try:
            for group in _groups(unproven):
                self._ask(group)
        except commitment.NotOffered:
            offers = {"auto": "neither storage commitment nor queries", "query": "no queries"}
            why = f"not proven yet: it offers {offers.get(self._archive.proof, 'no storage commitment')}"
            self._postpone(why, for_s=NOT_OFFERED_AGAIN_S)
        except (SendError, query.QueryError) as error:
            self._postpone(f"not proven yet: {error}")
        else:
            if unproven:
                self._complain("")

    def _ask(self, group: Group) -> None:
        connect_timeout_s = self._settings.delivery.connect_timeout_s
        outlet = outlet_of(self._archive, connect_timeout_s)
        if isinstance(outlet, WebOutlet) and not self._archive.host:
            self._query(group, "QIDO-RS", partial(qido.held, outlet.server))
            return
        wanted = self._archive.proof
        with commitment.association_with(
            peer_of(self._archive, connect_timeout_s),
            commitment=wanted in ("auto", "commitment"),
            queries=wanted in ("auto", "query"),
            on_report=self._on_report,
        ) as archive:
            asked = max(item.proof_attempts for item in group)
            way = proofs.way(wanted, commits=archive.commits, answers_queries=archive.answers_queries, asked=asked)
            if way == "commitment":
                self._request(group, archive)
            else:
                self._query(group, "C-FIND", partial(query.held, archive.association))

    def _on_report(self, encoded: bytes, transfer_syntax_uid: str, event_type: int) -> int:
        return commitment_report.answer(
            encoded, transfer_syntax_uid, event_type, sent_by=self._archive.name, filing=self._filing
        )

    def _request(self, group: Group, archive: commitment.Archive) -> None:
        uid, now = proofs.new_transaction_uid(), self._now()
        overdue_at = now + timedelta(seconds=self._settings.proof.overdue_s)
        numbers = [item.delivery_id for item in group]
        self._proofs.asking(uid, archive=self._archive.name, delivery_ids=numbers, overdue_at=overdue_at, now=now)
        refused = archive.request(
            uid,
            [
                commitment.Reference(sop_class_uid=item.sop_class_uid, sop_instance_uid=item.sop_instance_uid)
                for item in group
            ],
        )
        if refused:
            self._complain(refused)
            why = f"not proven yet: {refused}"
            self._proofs.refused(uid, why=why, patience=self._patience, now=self._now())
            return
        self._proofs.requested(uid)
        archive.wait_until(lambda: not self._proofs.unanswered([uid]), self._settings.proof.report_wait_s)

    def _query(self, group: Group, how: str, held: Callable[[str, str, Sequence[str]], frozenset[str]]) -> None:
        by_series: dict[tuple[str, str], list[Unproven]] = {}
        for item in group:
            series = _series_of(self._spool.absolute(item.path))
            by_series.setdefault((item.study_instance_uid, series), []).append(item)
        for (study, series), items in by_series.items():
            if not series:
                self._postpone("not proven yet: its file here cannot be read", only=items)
                continue
            found = held(study, series, [item.sop_instance_uid for item in items])
            proven = [item.delivery_id for item in items if item.sop_instance_uid in found]
            missing = [item.delivery_id for item in items if item.sop_instance_uid not in found]
            if proven:
                self._proofs.found(proven, how=how, now=self._now())
            if missing:
                most = self._patience.most_sent_again
                self._proofs.not_found(missing, how=how, most_sent_again=most, now=self._now())

    def _postpone(self, why: str, only: Group | None = None, *, for_s: float = UNREACHABLE_AGAIN_S) -> None:
        self._complain(why)
        now = self._now()
        self._proofs.postpone(
            self._archive.name,
            why=why,
            until=now + timedelta(seconds=for_s),
            now=now,
            only=None if only is None else [item.delivery_id for item in only],
        )

    def _complain(self, what: str) -> None:
        """Says what is wrong when it begins, and not at each look."""
        if what and what != self._complaint:
            logger.warning("%s", what, extra={"archive": self._archive.name})
        self._complaint = what


def _groups(unproven: Group) -> Iterator[Group]:
    """All that is asked about for the first time together; what was asked about in vain by its study, so that nothing
    in one study keeps another from being proven.
    """
    first = [item for item in unproven if not item.proof_attempts]
    if first:
        yield first
    again = (item for item in unproven if item.proof_attempts)
    for _, of_study in groupby(again, key=lambda item: item.study_id):
        yield list(of_study)


def _series_of(path: Path) -> str:
    """Empty where the file cannot be read."""
    try:
        header = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
    except UNREADABLE:
        return ""
    return str(header.get("SeriesInstanceUID") or "")
