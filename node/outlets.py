"""The ways out to an archive: C-STORE or STOW-RS, as the settings say. Both send files and tell what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom.uid import UID

from node import sender, stow_sender
from node.archive_security import web_server_of
from node.association import Peer, peer_of
from node.encodings import BY_NAME
from node.retry import Failure
from node.sender import Outcome
from node.settings_delivery import ArchiveSettings
from node.web_session import WebServer


class Outlet(Protocol):
    """What sending knows of an archive."""

    def send(self, paths: Sequence[Path]) -> Iterator[Outcome]:
        """Send files in order; each outcome is yielded when it is known."""

    def probe(self) -> Failure | None:
        """Whether the archive works again; None when it does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DimseOutlet:
    """C-STORE over an association, C-ECHO to probe."""

    peer: Peer
    preferred: tuple[UID, ...]

    def send(self, paths: Sequence[Path]) -> Iterator[Outcome]:
        return sender.send(paths, self.peer, self.preferred)

    def probe(self) -> Failure | None:
        return sender.probe(self.peer)


@dataclass(frozen=True, kw_only=True, slots=True)
class WebOutlet:
    """STOW-RS, OPTIONS to probe."""

    server: WebServer
    preferred: tuple[UID, ...]

    def send(self, paths: Sequence[Path]) -> Iterator[Outcome]:
        return stow_sender.send(paths, self.server, self.preferred)

    def probe(self) -> Failure | None:
        return stow_sender.probe(self.server)


def outlet_of(archive: ArchiveSettings, connect_timeout_s: float) -> Outlet:
    """The way out to an archive of the settings."""
    preferred = tuple(BY_NAME[name] for name in archive.transfer_syntaxes)
    if not archive.stow_url:
        return DimseOutlet(peer=peer_of(archive, connect_timeout_s), preferred=preferred)
    server = web_server_of(archive, connect_timeout_s)
    return WebOutlet(server=server, preferred=preferred)
