"""Looks at the images of studies that still receive: which series would be graded, and what it lacks.

In memory: after a restart it is looked again. Headers are read again only when images came since.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from inference import wholeness
from node import logs, study_files
from node.assembly import Seen
from node.ledger import Ledger, LedgerUnavailable
from node.records import OpenStudy, ReceivedInstance
from node.spool import Spool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Look:
    of: frozenset[str]
    """The SOP Instance UIDs that were looked at."""
    seen: Seen | None
    """None: the look failed, and does so again until another image comes."""


class Looks:
    """For one thread. A study at which a look fails is left out of the answer, and no other: it closes by time alone,
    and whoever grades it says what is wrong with it.
    """

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self._ledger = ledger
        self._spool = spool
        self._looks: dict[int, _Look] = {}

    def at_all_of(self, studies: Collection[OpenStudy]) -> Mapping[int, Seen]:
        """A look at everything that came of each of these studies."""
        looks = {study.study_id: self._look(study, self._images(study)) for study in studies}
        return {study_id: seen for study_id, seen in looks.items() if seen is not None}

    def at_quiet_series_of(self, studies: Collection[OpenStudy], quiet_s: float, now: datetime) -> Mapping[int, Seen]:
        """A look at those series of each of these studies of which no image came for ``quiet_s``."""
        seen = {}
        for study in studies:
            images = self._images(study)
            last = {image.series_instance_uid: image.received_at for image in sorted(images, key=_when)}
            quiet = {uid for uid, at in last.items() if now - at >= timedelta(seconds=quiet_s)}
            look = self._look(study, [image for image in images if image.series_instance_uid in quiet])
            if look is not None:
                seen[study.study_id] = look
        return seen

    def forget_all_but(self, studies: Collection[OpenStudy]) -> None:
        """Those that are closed need no memory."""
        ids = {study.study_id for study in studies}
        self._looks = {study_id: look for study_id, look in self._looks.items() if study_id in ids}

    def _images(self, study: OpenStudy) -> list[ReceivedInstance]:
        return [image for image in self._ledger.instances(study.study_id) if image.modality == "MR"]

    def _look(self, study: OpenStudy, images: Collection[ReceivedInstance]) -> Seen | None:
        of = frozenset(image.sop_instance_uid for image in images)
        known = self._looks.get(study.study_id)
        if known is None or known.of != of:
            known = self._looks[study.study_id] = _Look(of, self._see_or_say(study, images))
        return known.seen

    def _see_or_say(self, study: OpenStudy, images: Collection[ReceivedInstance]) -> Seen | None:
        try:
            return self._see(study, images)
        except LedgerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a study does to the code, the others must be closed
            logger.error("the look at its images failed: %s", logs.place(error), extra={"study_id": study.study_id})
            return None

    def _see(self, study: OpenStudy, images: Collection[ReceivedInstance]) -> Seen:
        files = study_files.read(self._spool.absolute(image.path) for image in images)
        whole = wholeness.look(files.instances)
        uid = whole.series_instance_uid or ""
        received = [image.received_at for image in images if image.series_instance_uid == uid]
        return Seen(
            series_instance_uid=uid,
            slices=whole.slices,
            missing_slices=whole.missing_slices,
            last_received_at=max(received, default=study.last_received_at),
        )


def _when(image: ReceivedInstance) -> datetime:
    return image.received_at
