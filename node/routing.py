"""Where each result goes, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from node.records import ResultObject
from node.settings import ArchiveSettings


def destinations(results: Iterable[ResultObject], archives: Sequence[ArchiveSettings]) -> Mapping[str, tuple[str, ...]]:
    """Archive name -> SOP Instance UIDs of the results it gets, in the order they were made.

    An archive that names ``outputs`` gets those kinds only; one that names none gets everything. Archives that get
    nothing are left out.
    """
    made = tuple(results)
    wanted = {
        archive.name: tuple(
            result.sop_instance_uid for result in made if not archive.outputs or result.kind in archive.outputs
        )
        for archive in archives
    }
    return {name: uids for name, uids in wanted.items() if uids}
