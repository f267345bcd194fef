"""The receiver's process: opens the spool and the ledger and runs the Storage SCP until it is stopped."""

from __future__ import annotations

import ctypes
import gc
import logging
import platform
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from node import file_limit, lifesigns
from node.intake import Intake
from node.ledger import open_ledger
from node.refusals import Refusals
from node.settings import Settings
from node.spool import Spool

if TYPE_CHECKING:
    from node.stow import StowServer

_NOT_FOR_THE_RECEIVER = ("numpy", "PIL", "gdcm", "openjpeg", "rle", "jpeg_ls", "pylibjpeg", "libjpeg")
"""Arrays and codecs that pydicom loads where it finds them: 33 MB of a process that hands on bytes."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""mallopt(3)."""

REFUSALS_TOLD_EVERY_S = 600.0

_log = logging.getLogger(__name__)


class StopSignal(Protocol):
    """A ``threading.Event``, or one of multiprocessing."""

    def wait(self, timeout: float | None = None) -> bool: ...


OnReady = Callable[[int | None, int | None], None]


def _nobody(port: int | None, tls_port: int | None) -> None:
    """Wants to know when it is ready."""


def run(settings: Settings, stop: StopSignal, on_ready: OnReady = _nobody) -> None:
    """Receives until ``stop`` is set, then aborts what still runs: nothing of it was acknowledged.

    Meant for a process of its own: it leaves the libraries of that process without codecs and without log lines that
    hold identifiers.

    Args:
        on_ready: called once when associations are accepted, with the TCP ports without and with TLS (None: none).

    Raises:
        CannotListen: the address cannot be had.
        LedgerError: the ledger cannot be opened.
    """
    _leave_out_codecs()
    _give_memory_back()
    from node import commitment_report, storage_scp  # only now, for they load pydicom

    wanted = file_limit.fitting(settings.receiver, file_limit.most_files())

    ledger = open_ledger(settings.database_url)
    try:
        spool = Spool(settings.spool_dir, settings.receiver.minimum_free_mb * 2**20)
        if unfinished := spool.sweep_received():
            _log.warning(
                "deleted %d unfinished files of a receiver that was stopped; none was acknowledged", unfinished
            )
        intake = Intake(spool, ledger, lambda: datetime.now(UTC))
        filing = commitment_report.filing(ledger, settings, lambda: datetime.now(UTC))
        server = storage_scp.listen(wanted, intake, filing)
        gc.collect()
        gc.freeze()  # what is there now stays: collecting the associations that ended is quick without it
        serving = threading.Thread(target=server.serve_forever, name="accept", daemon=True)
        serving.start()
        web = _open_stow(settings, intake, server.refusals)
        lifesigns.tell("refused", server.refusals.all)
        on_ready(server.port(is_tls=False), server.port(is_tls=True))
        while not stop.wait(REFUSALS_TOLD_EVERY_S):
            _tell(server.refusals.take())
        _tell(server.refusals.take())
        server.stop()
        if web is not None:
            web.shutdown()
            web.server_close()
        serving.join()
    finally:
        ledger.close()


def _tell(refusals: Mapping[str, int]) -> None:
    if refusals:
        told = "; ".join(f"{count} times: {why}" for why, count in sorted(refusals.items()))
        _log.warning("turned away since this was last told: %s", told)


def _open_stow(settings: Settings, intake: Intake, refusals: Refusals) -> StowServer | None:
    wanted = settings.receiver
    if not wanted.stow_port or wanted.stow_token_file is None:
        return None
    from node.storage_scp import CannotListen, certificates
    from node.stow import StowServer
    from node.stow_token import read_token

    context = certificates(wanted) if wanted.tls_certificate_file else None
    scratch = settings.spool_dir / "stow"
    scratch.mkdir(mode=0o700, exist_ok=True)
    try:
        server = StowServer(wanted, read_token(wanted.stow_token_file), intake, scratch, context, refusals)
    except ValueError as error:
        raise CannotListen(str(error)) from error
    except OSError as error:
        raise CannotListen(f"cannot listen on receiver.stow_port {wanted.stow_port}: {error.strerror}") from error
    threading.Thread(target=server.serve_forever, name="STOW-RS", daemon=True).start()
    return server


def _give_memory_back() -> None:
    """glibc keeps freed memory for each thread that ever was; buffers of images shall go back to the system."""
    if platform.libc_ver()[0] == "glibc":
        tune = ctypes.CDLL(None).mallopt
        tune(_M_ARENA_MAX, 2)
        tune(_M_MMAP_THRESHOLD, 2**17)
        tune(_M_TRIM_THRESHOLD, 2**20)


def _leave_out_codecs() -> None:
    if "pydicom" not in sys.modules:
        for name in _NOT_FOR_THE_RECEIVER:
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # "import" takes None for "not installed"
