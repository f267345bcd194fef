"""The spool: files that are on the disk, and stay there, before anybody is told so.

A file is written under a temporary name, gets its name when it is whole, and is fsynced together with its directory:
without the directory a power cut can take the name away again. No name is ever made from what a peer sent.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

_RECEIVED = "received"
_RESULTS = "results"
_UNFINISHED = "unfinished"
_SHARDS = tuple(f"{number:02x}" for number in range(256))
"""Directories by the first byte of the name: a hundred thousand files stay some hundreds in each."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_second = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fsync")
_second_is_free = threading.Lock()


class NoRoom(Exception):
    """The disk is full, or below its watermark."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file that is durable."""

    path: Path
    """Relative to the spool."""
    sha256: str
    """Of the content, hexadecimal."""
    size_bytes: int


class Spool:
    """The files below one directory on a local disk. Any number of processes and threads may use it at once.

    Args:
        minimum_free_bytes: below this much free disk ``store_received`` refuses. Results are always stored while there
            is room at all: they are small, and without them what was received would be of no use.
    """

    def __init__(self, root: Path, minimum_free_bytes: int) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = root.resolve()
        self._minimum_free_bytes = minimum_free_bytes
        for area in (_RECEIVED, _RESULTS):
            for name in ("", _UNFINISHED, *_SHARDS):
                (self._root / area / name).mkdir(mode=0o700, exist_ok=True)
            _make_durable(self._root / area)
        _make_durable(self._root)

    def store_received(self, parts: Iterable[bytes | memoryview]) -> StoredFile:
        """Stores what a peer sent under a random name. When this returns, a power cut does not take it away.

        Raises:
            NoRoom: below the watermark, or the disk became full; nothing is left behind.
        """
        draft = self.draft_received()
        try:
            draft.write(*parts)
            return draft.finish()
        except (NoRoom, OSError):
            draft.discard()
            raise

    def draft_received(self) -> Draft:
        """A file that is written as its content comes, for what is too big to hold in memory.

        Raises:
            NoRoom: below the watermark, or the disk is full.
        """
        self._require_room()
        name = secrets.token_hex(16)
        unfinished = self._root / _RECEIVED / _UNFINISHED / name
        with _full_disk_is_no_room():
            return Draft(unfinished, self._root, Path(_RECEIVED, name[:2], f"{name}.dcm"))

    def has_room(self) -> bool:
        """Whether the disk is above its watermark."""
        return self.free_bytes() >= self._minimum_free_bytes

    def _require_room(self) -> None:
        if not self.has_room():
            raise NoRoom("the disk is below its watermark (receiver.minimum_free_mb)")

    def store_result(self, content: bytes) -> StoredFile:
        """Stores an object that we made under its own sha256: the same object again is the same file.

        Raises:
            NoRoom: the disk became full; nothing is left behind.
        """
        name = hashlib.sha256(content).hexdigest()
        path = Path(_RESULTS, name[:2], f"{name}.dcm")
        unfinished = self._root / _RESULTS / _UNFINISHED / secrets.token_hex(16)
        try:
            with _full_disk_is_no_room():
                _write_durably(unfinished, content)
                unfinished.rename(self._root / path)  # not before fsync: the same object may stand there already
                _make_durable((self._root / path).parent)
        except (NoRoom, OSError):
            unfinished.unlink(missing_ok=True)
            raise
        return StoredFile(path=path, sha256=name, size_bytes=len(content))

    def remove(self, path: Path) -> None:
        """Deletes a file that nobody was promised; one that is not there is no error."""
        self.absolute(path).unlink(missing_ok=True)

    def remove_all(self, paths: Iterable[Path]) -> None:
        """Deletes files for good: when this returns, a power cut does not bring them back. Raises ``OSError``."""
        files = [self.absolute(path) for path in paths]
        for file in files:
            file.unlink(missing_ok=True)
        for directory in {file.parent for file in files}:
            _make_durable(directory)

    def holds(self, path: PurePath, size_bytes: int) -> bool:
        """Whether a file is there and has its size. Raises ``OSError`` where the disk does not tell."""
        try:
            return self.absolute(path).stat().st_size == size_bytes
        except FileNotFoundError:
            return False

    def put_in_place(self, spare: PurePath, lost: PurePath) -> None:
        """A durable file takes the name of one that was lost, durably. Raises ``OSError``."""
        self.absolute(spare).rename(self.absolute(lost))
        _make_durable(self.absolute(lost).parent)

    def absolute(self, path: PurePath) -> Path:
        """Where a path that the spool gave out lies.

        Raises:
            ValueError: it does not lead to a place inside the spool.
        """
        if path.is_absolute() or ".." in path.parts or not (self._root / path).resolve().is_relative_to(self._root):
            raise ValueError("not a path inside the spool")
        return self._root / path

    def sweep_received(self) -> int:
        """Deletes what a receiver left unfinished when it was killed; returns how many files. No receiver may run."""
        return self._sweep(_RECEIVED)

    def sweep_results(self) -> int:
        """Deletes what a worker left unfinished when it was killed; returns how many files. No worker may run."""
        return self._sweep(_RESULTS)

    def _sweep(self, area: str) -> int:
        left_over = list((self._root / area / _UNFINISHED).iterdir())
        for file in left_over:
            file.unlink(missing_ok=True)
        return len(left_over)

    def free_bytes(self) -> int:
        """Room on the disk for a process without privileges."""
        return shutil.disk_usage(self._root).free


class Draft:
    """A file of the spool that has no final name yet. Every method may raise ``NoRoom`` or ``OSError``."""

    def __init__(self, unfinished: Path, root: Path, path: Path) -> None:
        self._unfinished = unfinished
        self._root = root
        self._path = path
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, *parts: bytes | memoryview) -> None:
        with _full_disk_is_no_room():
            for part in parts:
                _write_all(self._descriptor, memoryview(part))
                _begin_writing_back(self._descriptor, self._size_bytes, len(part))
                self._digest.update(part)
                self._size_bytes += len(part)

    def mapped(self) -> mmap.mmap:
        """What was written, to be read without loading it."""
        return mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)

    def finish(self) -> StoredFile:
        """Gives it its name. When this returns, a power cut does not take it away.

        The name comes before the fsync, so that one commit of the file system's journal carries content and name; a
        power cut between the two can leave a file that is not whole, which no row of the ledger will ever name.
        """
        with _full_disk_is_no_room():
            self._give_name()
            _make_both_durable(self._descriptor, (self._root / self._path).parent)
        os.close(self._descriptor)
        return StoredFile(path=self._path, sha256=self._digest.hexdigest(), size_bytes=self._size_bytes)

    def _give_name(self) -> None:
        self._unfinished.rename(self._root / self._path)

    def discard(self) -> None:
        """Deletes it; for one that was not finished, or could not be."""
        os.close(self._descriptor)
        self._unfinished.unlink(missing_ok=True)
        (self._root / self._path).unlink(missing_ok=True)


@contextmanager
def _full_disk_is_no_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoom("the disk is full") from error
        raise


def _write_durably(file: Path, content: bytes) -> None:
    """Writes and fsyncs a new file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _write_all(descriptor, memoryview(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, part: memoryview) -> None:
    while part:
        part = part[os.write(descriptor, part) :]


def _begin_writing_back(descriptor: int, begin: int, count: int) -> None:
    """Sends what was just written on its way to the disk, so that fsync has less to wait for. Promises nothing."""
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, begin, count, os.POSIX_FADV_DONTNEED)


def _make_both_durable(descriptor: int, directory: Path) -> None:
    """fsync of a file and of its directory, at the same time where the second thread is free.

    A lone sender then waits for the disk once. Where there are many, more threads would only be in each other's way.
    """
    if not _second_is_free.acquire(blocking=False):
        os.fsync(descriptor)
        _make_durable(directory)
        return
    try:
        directory_done = _second.submit(_make_durable, directory)
        try:
            os.fsync(descriptor)
        finally:
            trouble = directory_done.exception()  # waits for it
        if trouble is not None:
            raise trouble
    finally:
        _second_is_free.release()


def _make_durable(directory: Path) -> None:
    """fsync of a directory: the names made in it before are on the disk when this returns."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
