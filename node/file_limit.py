"""How many files the receiver may hold open, and how many associations that is enough for."""

from __future__ import annotations

import logging
import resource

from node.settings import ReceiverSettings

FILES_OF_ASSOCIATION = 4
"""Its connection, the two ends of the pipe that wakes its reader, and the draft of a big object."""
RESERVE = 128
"""For the ledger, the ports, the spool, requests by STOW-RS, and peers that are told that there is no room."""

_log = logging.getLogger(__name__)


def most_files() -> int:
    """Raises this process's limit of open files as far as it may itself, and returns it (setrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # some systems refuse "no limit" here
            return soft
    return hard


def fitting(settings: ReceiverSettings, files: int) -> ReceiverSettings:
    """The settings with as many associations as so many files are enough for; says so where that is fewer."""
    wanted = settings.maximum_associations
    needed = RESERVE + FILES_OF_ASSOCIATION * wanted
    if files == resource.RLIM_INFINITY or files >= needed:
        return settings
    enough_for = max(1, (files - RESERVE) // FILES_OF_ASSOCIATION)
    _log.warning(
        "only %d files may be open here: %d associations at a time instead of receiver.maximum_associations = %d, for "
        "which %d are needed. Raise the limit (ulimit -n, LimitNOFILE= of systemd) or set fewer associations",
        files,
        enough_for,
        wanted,
        needed,
    )
    return settings.model_copy(update={"maximum_associations": enough_for})
