"""Where each result goes, in which of its forms, and why. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from node.records import ResultObject
from node.settings import ArchiveSettings

SR_CLASSES: Mapping[str, str] = {
    "comprehensive_3d": "1.2.840.10008.5.1.4.1.1.88.34",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
}
"""``archives.sr_class`` -> SOP class of the measurement report, the richest first."""
CAPTURE_CLASSES = ("1.2.840.10008.5.1.4.1.1.7.4", "1.2.840.10008.5.1.4.1.1.7")
"""Multi-frame where the settings have them made, else single-frame."""
FALL_BACK_ON: Mapping[str, tuple[str, ...]] = {
    "measurement_report": ("text_report", "secondary_capture"),
    "text_report": ("secondary_capture",),
}
"""What says the same as a kind of which an archive takes no form, the most telling first."""


def destinations(
    results: Iterable[ResultObject],
    archives: Sequence[ArchiveSettings],
    addressed: Mapping[str, Collection[str]] | None = None,
) -> Mapping[str, tuple[str, ...]]:
    """Archive name -> SOP Instance UIDs of the results it gets, in the order they were made.

    An archive that names ``outputs`` gets those kinds only; one that names none gets everything. Of several forms of
    a kind it gets the one it prefers. ``addressed`` are the results that are for the named archives
    only, by SOP Instance UID. Archives that get nothing are left out.
    """
    made, only_for = tuple(results), addressed or {}
    wanted = {
        archive.name: tuple(
            result.sop_instance_uid
            for result in made
            if is_wanted(result.kind, archive)
            and result in _best_form(result.kind, made, archive)
            and archive.name in only_for.get(result.sop_instance_uid, (archive.name,))
        )
        for archive in archives
    }
    return {name: uids for name, uids in wanted.items() if uids}


def instead_of(refused: ResultObject, results: Iterable[ResultObject], archive: ArchiveSettings) -> tuple[str, ...]:
    """SOP Instance UIDs of what goes to an archive in place of a result whose SOP class it does not take.

    The next form of the same kind, then a kind that says the same; empty where there is none.
    """
    made = tuple(results)
    forms = _forms(refused.kind, archive)
    later = forms[forms.index(refused.sop_class_uid) + 1 :] if refused.sop_class_uid in forms else ()
    for sop_class_uid in later:
        same = [item for item in made if item.kind == refused.kind and item.sop_class_uid == sop_class_uid]
        if same:
            return tuple(item.sop_instance_uid for item in same)
    for kind in FALL_BACK_ON.get(refused.kind, ()):
        other = _best_form(kind, made, archive)
        if other:
            return tuple(item.sop_instance_uid for item in other)
    return ()


def is_wanted(kind: str, archive: ArchiveSettings) -> bool:
    """Whether an archive gets a kind of result, if it is made.

    Why a study was not graded is told wherever the text report would go.
    """
    named = "text_report" if kind == "declined_report" else kind
    return not archive.outputs or named in archive.outputs


def _forms(kind: str, archive: ArchiveSettings) -> tuple[str, ...]:
    """SOP classes of a kind in the order in which they are tried; empty where there is one only."""
    if kind == "measurement_report":
        first = SR_CLASSES[archive.sr_class]
        return (first, *(uid for uid in SR_CLASSES.values() if uid != first))
    return CAPTURE_CLASSES if kind == "secondary_capture" else ()


def _best_form(kind: str, made: Sequence[ResultObject], archive: ArchiveSettings) -> tuple[ResultObject, ...]:
    of_kind = tuple(item for item in made if item.kind == kind)
    for sop_class_uid in _forms(kind, archive):
        preferred = tuple(item for item in of_kind if item.sop_class_uid == sop_class_uid)
        if preferred:
            return preferred
    return of_kind
