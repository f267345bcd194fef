"""The spool: files that are on the disk, and stay there, before anybody is told so.

A file is written under a temporary name, fsynced, renamed, and its directory fsynced: without the last step a power cut
can take the name away again. No name is ever made from what a peer sent.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

_RECEIVED = "received"
_RESULTS = "results"
_UNFINISHED = "unfinished"
_SHARDS = tuple(f"{number:02x}" for number in range(256))
"""Directories by the first byte of the name: a hundred thousand files stay some hundreds in each."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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
        self._require_room()
        return self._store(_RECEIVED, secrets.token_hex(16), parts)

    def draft_received(self) -> Draft:
        """A file that is written as its content comes, for what is too big to hold in memory.

        Raises:
            NoRoom: below the watermark, or the disk is full.
        """
        self._require_room()
        name = secrets.token_hex(16)
        unfinished = self._root / _RECEIVED / _UNFINISHED / name
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
        return self._store(_RESULTS, hashlib.sha256(content).hexdigest(), (content,))

    def _store(self, area: str, name: str, parts: Iterable[bytes | memoryview]) -> StoredFile:
        path = Path(area, name[:2], f"{name}.dcm")
        unfinished = self._root / area / _UNFINISHED / secrets.token_hex(16)
        try:
            sha256, size_bytes = _write_durably(unfinished, parts)
            unfinished.rename(self._root / path)
            _make_durable((self._root / path).parent)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            if area == _RECEIVED:  # a result under its own sha256 may be that of an earlier attempt
                (self._root / path).unlink(missing_ok=True)
            if error.errno in _FULL:
                raise NoRoom("the disk is full") from error
            raise
        return StoredFile(path=path, sha256=sha256, size_bytes=size_bytes)

    def remove(self, path: Path) -> None:
        """Deletes a file that nobody was promised; one that is not there is no error."""
        self.absolute(path).unlink(missing_ok=True)

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
                self._digest.update(part)
                self._size_bytes += len(part)

    def mapped(self) -> mmap.mmap:
        """What was written, to be read without loading it."""
        return mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)

    def finish(self) -> StoredFile:
        """Gives it its name. When this returns, a power cut does not take it away."""
        with _full_disk_is_no_room():
            os.fsync(self._descriptor)
            self._unfinished.rename(self._root / self._path)
            _make_durable((self._root / self._path).parent)
        os.close(self._descriptor)
        return StoredFile(path=self._path, sha256=self._digest.hexdigest(), size_bytes=self._size_bytes)

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


def _write_durably(file: Path, parts: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """Writes and fsyncs a new file; returns the sha256 and the size of its content."""
    digest = hashlib.sha256()
    size_bytes = 0
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb", buffering=0) as stream:  # noqa: PTH123 - of a descriptor
        for part in parts:
            _write_all(stream.fileno(), memoryview(part))
            digest.update(part)
            size_bytes += len(part)
        os.fsync(stream.fileno())
    return digest.hexdigest(), size_bytes


def _write_all(descriptor: int, part: memoryview) -> None:
    while part:
        part = part[os.write(descriptor, part) :]


def _make_durable(directory: Path) -> None:
    """fsync of a directory: the names made in it before are on the disk when this returns."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
