"""`spinenode serve`: starts receiver, workers and dispatcher as processes, watches them, stops them. Reads the clock.

The supervisor does no work itself, so that nothing a study or a peer does can take it down. A part that dies is started
again after a growing delay. Parts are spawned, never forked: a fork of a process that has used torch hangs.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from node import lifesigns, logs
from node.part import CANNOT_START, MONITOR, READY, RECEIVER, WORKER, run_part
from node.settings import Settings

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
FIRST_RESTART_S = 0.5
LONGEST_RESTART_S = 30.0
STEADY_AFTER_S = 60.0
"""A part that has run this long has recovered: its next restart is quick again."""
STOP_WITHIN_S = 8.0
LEFT_OVER_WITHIN_S = 5.0
"""Parts of a supervisor that was killed notice it at once, but need a moment to go."""


class CannotServe(Exception):
    """The node cannot start; the message names what to mend."""


def serve(settings: Settings) -> int:
    """Run the node until SIGTERM or SIGINT; returns the exit status 0.

    Raises:
        CannotServe: another node runs on this data directory, the port is taken, or a part could not start.
    """
    logs.configure("supervisor", settings.node.log_level, settings.node.log_format)
    stop = _stop_on_signals()
    with _only_node_of(settings):
        for port in settings.receiver.ports if RECEIVER in settings.node.parts else ():
            _require_free_port(settings.receiver.host, port, stop)
        lifesigns.clear(settings.node.data_dir)
        supervisor = _Supervisor(settings)
        try:
            supervisor.start()
            while not stop.is_set():
                supervisor.look()
        finally:
            supervisor.stop()
        lifesigns.clear(settings.node.data_dir)
    return 0


@dataclass(kw_only=True)
class _Part:
    name: str
    process: SpawnProcess | None = None
    connection: Connection | None = None
    started: float = 0.0
    start_again: float = 0.0
    delay_s: float = FIRST_RESTART_S
    ready: bool = False
    complaint: str = ""


@dataclass(kw_only=False)
class _Supervisor:
    settings: Settings
    parts: Sequence[_Part] = field(default_factory=tuple)
    announced: bool = False

    def __post_init__(self) -> None:
        self.parts = [_Part(name=name) for name in part_names(self.settings)]

    def start(self) -> None:
        for part in self.parts:
            self._start(part)

    def look(self) -> None:
        """Wait a moment for news of the parts; restart what is dead; say once that all is ready."""
        watched = [item for part in self.parts if part.process for item in (part.process.sentinel, part.connection)]
        wait([item for item in watched if item is not None], timeout=LOOK_EVERY_S)
        for part in self.parts:
            self._hear(part)
            if part.process is not None and part.process.exitcode is not None:
                self._bury(part, part.process)
            if part.process is None and time.monotonic() >= part.start_again:
                self._start(part)
        if not self.announced and all(part.ready for part in self.parts):
            self.announced = True
            sys.stdout.write(f"spinenode is ready: {_what_it_does(self.settings)}\n")
            sys.stdout.flush()

    def stop(self) -> None:
        """Ask every part to end, and make those end that do not."""
        running = [part.process for part in self.parts if part.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_WITHIN_S
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
        for process in running:
            if process.exitcode is None:
                logger.warning(
                    "%s did not end in time and is killed; it takes up its work at the next start", process.name
                )
                process.kill()
                process.join()
        logger.info("stopped")

    def _start(self, part: _Part) -> None:
        spawn = multiprocessing.get_context("spawn")
        part.connection, theirs = spawn.Pipe(duplex=False)
        part.process = spawn.Process(
            target=run_part, args=(part.name, self.settings, theirs, os.getpid()), name=part.name, daemon=False
        )
        part.process.start()
        theirs.close()  # so that ours reads the end of the file when the part dies
        part.started, part.ready, part.complaint = time.monotonic(), False, ""
        logger.info("%s started as process %d", part.name, part.process.pid)

    def _hear(self, part: _Part) -> None:
        while part.connection is not None and part.connection.poll():
            try:
                word, detail = part.connection.recv()
            except (EOFError, OSError):
                part.connection.close()
                part.connection = None
                return
            if word == READY:
                part.ready = True
            elif word == CANNOT_START:
                part.complaint = detail

    def _bury(self, part: _Part, process: SpawnProcess) -> None:
        """Take note of a death. Before the node was ever ready it is the end: the operator must mend something."""
        exit_code = process.exitcode
        how = part.complaint or _way_of_death(exit_code)
        process.close()
        part.process, part.ready = None, False
        if not self.announced:
            raise CannotServe(f"the {part.name} cannot start: {how}")
        if time.monotonic() - part.started >= STEADY_AFTER_S:
            part.delay_s = FIRST_RESTART_S
        part.start_again = time.monotonic() + part.delay_s
        # an end with status 0 is a SIGTERM to the whole process group, of which we shall hear ourselves in a moment
        level = logging.INFO if exit_code == 0 else logging.ERROR
        logger.log(level, "the %s %s; it is started again in %.1f s", part.name, how, part.delay_s)
        part.delay_s = min(LONGEST_RESTART_S, part.delay_s * 2)


def part_names(settings: Settings) -> tuple[str, ...]:
    """The processes of a node: one for each of ``node.parts`` and each further worker, and one that watches them."""
    further = range(2, settings.node.workers + 1) if WORKER in settings.node.parts else ()
    watchman = (MONITOR,) if settings.is_monitored else ()
    return (*settings.node.parts, *(f"{WORKER}-{slot}" for slot in further), *watchman)


def _what_it_does(settings: Settings) -> str:
    receiver = settings.receiver
    if RECEIVER not in settings.node.parts:
        return ", ".join(part_names(settings))
    return f"{receiver.ae_title}@{receiver.host}:{', '.join(map(str, receiver.ports))}"


def _way_of_death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with status {exit_code}"


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    return stop


@contextmanager
def _only_node_of(settings: Settings) -> Iterator[None]:
    """Hold the data directory for this node alone; the lock goes with the process, however it ends."""
    data_dir = settings.node.data_dir
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data_dir / "serve.lock").open("a+", encoding="ascii")
    except OSError as error:
        raise CannotServe(f"cannot use node.data_dir {data_dir}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            remedy = "stop it first, or set another node.data_dir"
            raise CannotServe(f"another node serves {data_dir} (process {owner}): {remedy}") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _require_free_port(host: str, port: int, stop: threading.Event) -> None:
    deadline = time.monotonic() + LEFT_OVER_WITHIN_S
    while True:
        try:
            address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(address[0], address[1]) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address[4])
                probe.listen()
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline or stop.is_set():
                raise CannotServe(_about_port(host, port, error)) from error
            stop.wait(0.1)


def _about_port(host: str, port: int, error: OSError) -> str:
    where = f"cannot listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another program listens there (ss -ltnp shows which); stop it or set receiver.port"
    if error.errno == errno.EACCES:
        return (
            f"{where}: ports below 1024 need a privilege; set receiver.port to 11112, or see deploy/spinenode.service"
        )
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{where}: receiver.host is no address of this machine; 127.0.0.1 or 0.0.0.0 always are"
    return f"{where}: {error.strerror}"
