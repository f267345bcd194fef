"""A small archive for the demonstration: a Storage SCP on loopback that keeps what it is sent, in a folder.

It stands in for the hospital's archive where none is at hand. It is not an archive: nothing can be queried.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from pynetdicom import AE, AllStoragePresentationContexts, VerificationPresentationContexts, evt
from pynetdicom.transport import ThreadedAssociationServer

AE_TITLE = "DEMOARCHIVE"
_OUT_OF_RESOURCES = 0xA700


@contextmanager
def running(folder: Path) -> Iterator[int]:
    """Listen on a free loopback port until the context ends; yields the port. Files: 001-SR.dcm, 002-OT.dcm, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count(1)

    def keep(event: evt.Event) -> int:
        try:
            modality = event.dataset.get("Modality", "XX")
            name = modality if modality in {"SR", "OT", "MR"} else "XX"
            path = folder / f"{next(numbers):03d}-{name}.dcm"
            part = path.with_suffix(".part")
            part.write_bytes(event.encoded_dataset())
            part.rename(path)
        except OSError:
            return _OUT_OF_RESOURCES  # the sender keeps the object and tries again
        return 0x0000

    archive = AE(ae_title=AE_TITLE)
    archive.maximum_pdu_size = 0
    archive.supported_contexts = [*AllStoragePresentationContexts, *VerificationPresentationContexts]
    server = cast(
        ThreadedAssociationServer,  # what block=False gives
        archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)]),
    )
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
