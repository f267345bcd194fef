"""Which earlier results of a study each archive is asked to withdraw when there are new ones. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from node import routing
from node.records import ARRIVED, DeliveryState
from node.settings import ArchiveSettings
from node.timeline import Life

KIND = "rejection_note"
_HELD = ARRIVED | {DeliveryState.DUE}
"""The archive has it, or gets it before the note."""


def superseded(
    lives: Iterable[Life], study_id: int, archives: Sequence[ArchiveSettings]
) -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """SOP Instance UIDs of what is superseded -> the archives that are to withdraw just these.

    Each archive is told of what went there and no note has withdrawn yet: some refuse a whole note for one object that
    they do not know, or that they have withdrawn already. Archives that take no notes or hold nothing are left out.

    Args:
        lives: every generation of the study.
        study_id: the generation that is being graded; a report of its own that declined it in an earlier round is
            superseded too.
        archives: those of the settings.
    """
    sent = [(life.study.study_id, item) for life in lives if life.study.study_id <= study_id for item in life.sendings]
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for archive in archives:
        if not routing.is_wanted(KIND, archive):
            continue
        held = [(number, item) for number, item in sent if item.archive == archive.name and item.state in _HELD]
        told_by = max((number for number, item in held if item.kind == KIND), default=0)
        uids = tuple(item.sop_instance_uid for number, item in held if number >= told_by and item.kind != KIND)
        if uids:
            found[uids] = (*found.get(uids, ()), archive.name)
    return found
