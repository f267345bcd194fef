"""An archive for tests that answers what it is told to: statuses, refusals, a narrow taste in transfer syntaxes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

AE_TITLE = "ARCHIVE"
Answer = Callable[[evt.Event], int]


@dataclass(kw_only=True)
class Archive:
    """What the archive has seen so far."""

    port: int
    stored: list[Dataset] = field(default_factory=list)
    """Every object that it answered with success or a warning."""
    encoded: list[bytes] = field(default_factory=list)
    """The data sets of ``stored`` as they came."""
    transfer_syntaxes: list[str] = field(default_factory=list)
    associations: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def success(_: evt.Event) -> int:
    return 0x0000


@contextmanager
def answering(
    answer: Answer = success,
    *,
    port: int = 0,
    transfer_syntaxes: Sequence[str] = AllTransferSyntaxes,
    sop_classes: Sequence[str] | None = None,
    demands_called_title: bool = False,
    verification: bool = True,
) -> Iterator[Archive]:
    """A listening archive on loopback; ``answer`` gives the status of each C-STORE."""
    ae = AE(ae_title=AE_TITLE)
    ae.require_called_aet = demands_called_title
    classes = [context.abstract_syntax for context in AllStoragePresentationContexts]
    for sop_class in classes if sop_classes is None else sop_classes:
        ae.add_supported_context(str(sop_class), list(transfer_syntaxes))
    if verification:
        ae.add_supported_context(Verification)
    archive = Archive(port=port)

    def on_store(event: evt.Event) -> int:
        status = answer(event)
        if status == 0x0000 or status & 0xF000 == 0xB000:
            with archive.lock:
                archive.stored.append(event.dataset)
                archive.encoded.append(event.request.DataSet.getvalue())
                archive.transfer_syntaxes.append(event.context.transfer_syntax)
        return status

    def on_association(_: evt.Event) -> None:
        with archive.lock:
            archive.associations += 1

    handlers = [(evt.EVT_C_STORE, on_store), (evt.EVT_ACCEPTED, on_association), (evt.EVT_C_ECHO, success)]
    server = ae.make_server(("127.0.0.1", port), evt_handlers=handlers)
    ae._servers.append(server)  # where its shutdown expects it, as ``start_server`` does
    # looks for the end more often than the half second of ``start_server``, for which every test would wait
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    serving.start()
    archive.port = int(server.server_address[1])
    try:
        yield archive
    finally:
        server.shutdown()
        serving.join()


def closed_port() -> int:
    """A loopback port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
