"""The spool: what is durable, what is refused, and that no name comes from outside."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node import spool as spool_module
from node.spool import NoRoom, Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", minimum_free_bytes=0)


def files_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=300), max_size=5))
def test_what_was_stored_is_read_back_with_its_hash_and_size(spool: Spool, parts: list[bytes]) -> None:
    content = b"".join(parts)
    stored = spool.store_received([memoryview(part) for part in parts])
    assert spool.absolute(stored.path).read_bytes() == content
    assert (stored.sha256, stored.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def test_the_same_bytes_received_twice_are_two_files(spool: Spool) -> None:
    assert spool.store_received([b"image"]).path != spool.store_received([b"image"]).path


def test_the_same_result_twice_is_one_file_named_by_its_content(spool: Spool, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"report").hexdigest()
    first, second = spool.store_result(b"report"), spool.store_result(b"report")
    assert first == second
    assert first.path == Path("results", sha256[:2], f"{sha256}.dcm")
    assert len(files_in(tmp_path)) == 1


def test_nobody_else_may_read(spool: Spool, tmp_path: Path) -> None:
    spool.store_received([b"image"])
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").rglob("*") if path.is_dir()}
    assert modes == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files_in(tmp_path)} == {0o600}


def test_when_a_file_has_its_name_it_and_its_directory_are_fsynced(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(f"fsync {target.parent.name} {'directory' if target.is_dir() else 'file'}")
        fsync(descriptor)

    def note_rename(source: Path, target: Any) -> Path:
        steps.append("rename")
        return rename(source, target)

    monkeypatch.setattr(spool_module.os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    spool.store_received([b"image"])
    (shard,) = [path.parent.name for path in files_in(tmp_path)]
    assert steps[0] == "rename", "the file is whole by then; fsync takes content and name to the disk in one go"
    assert set(steps[1:]) == {"fsync received directory", f"fsync {shard} file"}


def test_a_result_is_fsynced_before_it_takes_the_place_of_one_that_is_there(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(spool_module.os, "fsync", lambda descriptor: (steps.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(Path, "rename", lambda source, target: (steps.append("rename"), rename(source, target))[1])
    spool.store_result(b"report")
    assert steps == ["fsync", "rename", "fsync"]


@pytest.mark.parametrize("which", ["file", "directory"])
def test_nothing_is_stored_where_either_fsync_fails(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    fsync = os.fsync

    def broken(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir() is (which == "directory"):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(spool_module.os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        spool.store_received([b"image"])
    assert files_in(tmp_path) == []
    monkeypatch.undo()
    assert spool.absolute(spool.store_received([b"image"]).path).read_bytes() == b"image"


def test_below_the_watermark_nothing_is_received_but_results_are_stored(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", minimum_free_bytes=2**62)
    with pytest.raises(NoRoom, match="minimum_free_mb"):
        spool.store_received([b"image"])
    assert spool.store_result(b"report").size_bytes == 6


def test_a_disk_that_becomes_full_leaves_nothing_behind(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module.os, "write", full)
    with pytest.raises(NoRoom):
        spool.store_received([b"image"])
    assert files_in(tmp_path) == []


def test_another_fault_of_the_disk_is_raised_as_it_is(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(spool_module.os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        spool.store_received([b"image"])


def test_a_write_that_takes_only_a_part_is_continued(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(spool_module.os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    assert spool.absolute(spool.store_received([b"0123456789"]).path).read_bytes() == b"0123456789"


def test_each_sweep_deletes_what_its_own_process_left_unfinished(spool: Spool, tmp_path: Path) -> None:
    kept = spool.store_received([b"image"])
    (tmp_path / "spool/received/unfinished/1").write_bytes(b"half an im")
    (tmp_path / "spool/results/unfinished/1").write_bytes(b"half a rep")
    assert spool.sweep_received() == 1
    assert len(files_in(tmp_path / "spool/results")) == 1
    assert spool.sweep_results() == 1
    assert files_in(tmp_path) == [spool.absolute(kept.path)]


def test_remove_deletes_and_forgives_what_is_gone(spool: Spool) -> None:
    stored = spool.store_received([b"image"])
    spool.remove(stored.path)
    spool.remove(stored.path)
    assert not spool.absolute(stored.path).exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "../node.db", "received/../../node.db", "received/link/x"])
def test_a_path_that_leads_out_of_the_spool_is_refused(spool: Spool, tmp_path: Path, path: str) -> None:
    (tmp_path / "spool/received/link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="inside the spool"):
        spool.absolute(Path(path))


def test_a_spool_behind_a_symbolic_link_works(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    spool = Spool(tmp_path / "link" / "spool", minimum_free_bytes=0)
    assert spool.absolute(spool.store_received([b"image"]).path).read_bytes() == b"image"
