"""The demonstration: a synthetic study goes through a real node, in real processes, into a small archive."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom

from inference.phantom import lumbar_study
from node import demo_archive, overview, sender, settings
from node.demo_results import grades_table, write_captures, write_text_report
from node.records import StudyState

Say = Callable[[str], None]

MARKER = ".spinenode-demo"
"""Only a folder that holds this file is emptied."""
QUIET_S = 2.0
READY_WITHIN_S = 90.0
DONE_WITHIN_S = 120.0
ENDS = {StudyState.DELIVERED, StudyState.DECLINED, StudyState.FAILED, StudyState.UNCHANGED}


class DemoFailed(Exception):
    """The demonstration did not come to its end; the message says at which step, and where to look."""


def run(out: Path, *, keep_running: bool, say: Say) -> None:
    """Make the study, start archive and node, send, wait, show.

    Raises:
        DemoFailed: with a plain reason.
    """
    started = time.monotonic()
    out = _fresh(out)
    say("[1/5] making a synthetic lumbar study (T2, T1, STIR, axial T2, localizer)")
    images = _write_study(out / "study")
    with demo_archive.running(out / "archive") as archive_port:
        config = _write_settings(out, archive_port)
        with _node(config, out / "node.log", say) as node_port:
            say(f"[3/5] sending {len(images)} images to SPINENODE@127.0.0.1:{node_port} by C-STORE")
            _send(images, node_port)
            say(f"[4/5] waiting: the study closes after {QUIET_S:.0f} s without a new image, then it is graded")
            _wait_for_results(config, say)
            say("[5/5] what came back into the archive:\n")
            _show(out, say)
            _hints(out, config, time.monotonic() - started, say)
            if keep_running:
                say(f"\nNode (port {node_port}) and archive (port {archive_port}) go on until Ctrl-C.")
                _until_interrupted()


def _fresh(out: Path) -> Path:
    """An empty folder; what an earlier demonstration left is removed, anybody else's files are not."""
    try:
        if out.exists() and any(out.iterdir()):
            if not (out / MARKER).exists():
                raise DemoFailed(f"{out} holds other files; give a new or empty folder with --out")
            shutil.rmtree(out)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text("`spinenode demo` made this folder, and empties it when it runs again.\n")
    except OSError as error:
        raise DemoFailed(f"cannot make {out}: {error.strerror}") from error
    return out.absolute()


def _write_study(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for number, instance in enumerate(lumbar_study(seed=1), start=1):
        paths.append(folder / f"{number:03d}.dcm")
        instance.save_as(paths[-1], enforce_file_format=True)
    return paths


def _write_settings(out: Path, archive_port: int) -> Path:
    data_dir = out / "node"
    config = out / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{data_dir.as_posix()}"\n\n'
        f'[receiver]\nhost = "127.0.0.1"\nport = {_free_port()}\nminimum_free_mb = 200\n\n'
        f"[assembly]\nquiet_s = {QUIET_S}\n\n"
        f"[monitoring]\nport = {_free_port()}\n\n"
        f'[[archives]]\nname = "demo-archive"\nae_title = "{demo_archive.AE_TITLE}"\n'
        f'host = "127.0.0.1"\nport = {archive_port}\n',
        encoding="utf-8",
    )
    return config


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _node(config: Path, log: Path, say: Say) -> Iterator[int]:
    """`spinenode serve` as an operator would start it, in a process of its own."""
    port = settings.load(config).receiver.port
    say("[2/5] starting the node (receiver, worker with its networks, dispatcher)")
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "node", "serve", "--config", str(config)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("SPINENODE_")},
        )
    try:
        _wait_until_ready(process, log)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if "spinenode is ready" in log.read_text(encoding="utf-8", errors="replace"):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
    raise DemoFailed(f"the node did not start; its last words (all of them: {log}):\n{tail}")


def _send(images: list[Path], port: int) -> None:
    peer = sender.Peer(
        host="127.0.0.1", port=port, ae_title="SPINENODE", calling_ae_title="DEMOSCANNER", connect_timeout_s=5
    )
    for outcome in sender.send(images, peer):
        if not isinstance(outcome.answer, sender.Stored):
            raise DemoFailed(f"the node did not store {outcome.path.name}: {outcome.answer.what}")


def _wait_for_results(config: Path, say: Say) -> None:
    loaded = settings.load(config)
    deadline = time.monotonic() + DONE_WITHIN_S
    seen: StudyState | None = None
    while time.monotonic() < deadline:
        latest = overview.latest_study(loaded)
        if latest is not None and latest.state is not seen:
            seen = latest.state
            say(f"      {latest.state.value}{': ' + latest.reason if latest.reason else ''}")
        if latest is not None and latest.state in ENDS:
            if latest.state is not StudyState.DELIVERED:
                raise DemoFailed(f"the study ended as {latest.state.value}: {latest.reason}")
            return
        time.sleep(0.2)
    raise DemoFailed(f"no results within {DONE_WITHIN_S:.0f} s; see {config.parent / 'node.log'}")


def _show(out: Path, say: Say) -> None:
    results = [pydicom.dcmread(path) for path in sorted((out / "archive").glob("*.dcm"))]
    if not results:
        raise DemoFailed("the archive is empty although every delivery was answered with success")
    say(grades_table(results))
    write_text_report(results, out / "report.txt")
    write_captures(results, out / "captures")


def _hints(out: Path, config: Path, seconds: float, say: Say) -> None:
    say(
        f"\nDone in {seconds:.0f} s. This was a synthetic spine: its grades mean nothing. Research use only.\n"
        f"  {out}/archive/    the DICOM objects as the archive got them: SR (TID 1500), text SR, captures\n"
        f"  {out}/captures/   the captures as PNG: open the first one\n"
        f"  {out}/report.txt  the text report\n"
        f"  {out}/study/      the images that were sent\n"
        "What to try next:\n"
        f"  .venv/bin/spinenode status --config {config}\n"
        f"  .venv/bin/spinenode grade --json - {out}/study\n"
        "  .venv/bin/spinenode serve --config deploy/node.toml     (set [[archives]] to yours first)"
    )


def _until_interrupted() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
