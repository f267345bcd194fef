"""Receiving, side by side with other receivers: ``python -m tests.bench_receiving [--images N] [--rounds N]``.

DCMTK's storescu sends MR images of 526 kB over 1, 4 and 8 associations to this node's receiver, to Orthanc and to
DCMTK's storescp, in turn; the table shows medians of the rounds. Nagle's algorithm is off at both ends, by a shim that
is compiled here: without it DCMTK (and Orthanc, which uses it) stalls 45 ms with each image, and everybody looks good.
The images wait in memory (/dev/shm), so that the receivers have the disk for themselves.

``--at-once N`` sends the images as N studies, at once, to the node alone, and shows its highest memory.
``--associations N`` makes N associations, each with a C-ECHO and one of 500 small images, and shows the receiver's
memory as it goes, with the slope of a straight line through its second half and the 95 % interval of that.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests import orthanc_process
from tests.node_process import free_port
from tests.pdus import RELEASE, command, p_data, read_pdu, request, status_in
from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

SIDE = 512
SAMPLES = 200
DIFFERENT = 500
"""Images of the soak: with new ones for ever SQLite's caches would grow up to their limit meanwhile."""
_MEMORY = Path("/dev/shm")
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
static void at_once(int s) { int on = 1; setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); }
int accept(int s, struct sockaddr *a, socklen_t *n) {
  int (*real)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");
  int got = real(s, a, n);
  if (got >= 0) at_once(got);
  return got;
}
int connect(int s, const struct sockaddr *a, socklen_t n) {
  int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
  if (a->sa_family == AF_INET) at_once(s);
  return real(s, a, n);
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=540)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--associations", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        if wanted.associations:
            _soak(Path(folder), wanted.associations)
        elif wanted.at_once:
            _at_once(Path(folder), wanted.images, wanted.at_once)
        else:
            _side_by_side(Path(folder), wanted.images, wanted.rounds)


class Target:
    """A receiver that is measured."""

    def __init__(self, name: str, ae_title: str, port: int, memory_mb: Callable[[], float]) -> None:
        self.name, self.ae_title, self.port, self.memory_mb = name, ae_title, port, memory_mb


def _side_by_side(folder: Path, images: int, rounds: int) -> None:
    shim = _compiled_shim(folder)
    os.environ["LD_PRELOAD"] = str(shim)
    print(f"{'receiver':<12}{'associations':>14}{'images/s':>10}{'of Orthanc':>12}{'RSS MB':>8}   ({images} images)")
    speeds: dict[tuple[str, int], list[float]] = {}
    memory: dict[tuple[str, int], float] = {}
    with ExitStack() as stack, tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else folder) as waiting:
        targets = [stack.enter_context(make(folder / name)) for name, make in _TARGETS.items() if _is_there(name)]
        serial = 0
        for _ in range(rounds):
            for senders in (1, 4, 8):
                for target in targets:
                    serial += 1
                    folders = _write_images(Path(waiting, "images"), images, senders, serial)
                    os.sync()
                    speeds.setdefault((target.name, senders), []).append(images / _send(folders, target))
                    memory[target.name, senders] = target.memory_mb()
                    shutil.rmtree(Path(waiting, "images"))
    for (name, senders), measured in sorted(speeds.items(), key=lambda item: (item[0][1], item[0][0])):
        speed = statistics.median(measured)
        orthanc = speeds.get(("orthanc", senders))
        ratio = f"{speed / statistics.median(orthanc):.2f}" if orthanc else "-"
        print(f"{name:<12}{senders:>14}{speed:>10.0f}{ratio:>12}{memory[name, senders]:>8.0f}")


def _soak(folder: Path, associations: int) -> None:
    numbers, sizes_mb = [], []
    with Receiver(folder) as receiver:
        print(f"{'associations':>14}{'RSS MB':>10}{'threads':>9}{'files':>7}")
        for number in range(associations + 1):
            if number % max(associations // SAMPLES, 1) == 0:
                numbers.append(number)
                sizes_mb.append(receiver.rss_mb)
            if number % max(associations // 10, 1) == 0:
                print(f"{number:>14}{sizes_mb[-1]:>10.2f}{receiver.threads:>9}{receiver.open_files:>7}", flush=True)
            associate(receiver.port, number % DIFFERENT)
        ledger = receiver.ledger()
        kept = sum(study.instance_count for study in ledger.open_studies())
        ledger.close()
    warm = len(numbers) // 2
    slope, half = slope_with_interval(np.array(numbers[warm:]) / 1000, np.array(sizes_mb[warm:]))
    print(f"{kept} images kept; {sizes_mb[-1] - sizes_mb[0]:+.1f} MB in all; from association {numbers[warm]} on")
    print(f"{slope:+.4f} MB per 1000 associations, 95 % interval {slope - half:+.4f} to {slope + half:+.4f}")


def associate(port: int, number: int) -> None:
    """One association with a C-ECHO and image 1.2.3.1.<number>, in as few bytes as it takes."""
    image = encoded(mr_image(number))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request((MRImageStorage, ExplicitVRLittleEndian), (Verification, ImplicitVRLittleEndian)))
        assert read_pdu(connection)[0] == 2, "A-ASSOCIATE-AC"
        connection.sendall(p_data(3, 3, command(0x30, Verification)))
        assert read_pdu(connection)[0] == 4
        connection.sendall(p_data(1, 3, command(1, MRImageStorage, f"1.2.3.1.{number}")) + p_data(1, 2, image))
        kind, answer = read_pdu(connection)
        assert kind == 4
        assert status_in(answer) == 0
        connection.sendall(RELEASE)
        assert read_pdu(connection)[0] == 6, "A-RELEASE-RP"


def slope_with_interval(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """The slope of the least-squares line, and the half width of its 95 % interval.

    Memory moves in steps, so neighbouring values are alike: the interval is of Newey and West (1987), which allows for
    that, with a lag of the root of their number.
    """
    away = x - x.mean()
    slope = float(away @ y / (away @ away))
    scores = away * (y - y.mean() - slope * away)
    lags = max(1, int(np.sqrt(len(x))))
    spread = scores @ scores + 2 * sum(
        (1 - lag / (lags + 1)) * (scores[lag:] @ scores[:-lag]) for lag in range(1, lags + 1)
    )
    return slope, float(1.96 * np.sqrt(max(spread, 0.0)) / (away @ away))


def _at_once(folder: Path, images: int, senders: int) -> None:
    os.environ["LD_PRELOAD"] = str(_compiled_shim(folder))
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else folder) as waiting:
        studies = [
            _write_images(Path(waiting, str(sender)), images // senders, 1, serial=sender + 1)[0]
            for sender in range(senders)
        ]
        os.sync()
        _send_at_once(folder, studies, images // senders * senders)


def _send_at_once(folder: Path, studies: list[Path], images: int) -> None:
    senders = len(studies)
    storescu = _program("storescu")
    with Receiver(folder) as receiver:
        before_mb = peak_mb = receiver.rss_mb
        words = [storescu, "-aec", "SPINENODE", "+sd", "127.0.0.1", str(receiver.port)]
        started = time.monotonic()
        processes = [subprocess.Popen([*words, study]) for study in studies]
        while any(process.poll() is None for process in processes):
            peak_mb = max(peak_mb, receiver.rss_mb)
            time.sleep(0.02)
        took_s = time.monotonic() - started
        refused = sum(process.returncode != 0 for process in processes)
        ledger = receiver.ledger()
        kept = sum(study.instance_count for study in ledger.open_studies())
        ledger.close()
    print(f"{images} images over {senders} associations: {took_s:.1f} s, {images / took_s:.0f} images/s, {kept} kept,")
    print(f"{refused} associations failed; RSS {before_mb:.0f} MB before, {peak_mb:.0f} MB at most")


def _compiled_shim(folder: Path) -> Path:
    source, shim = folder / "nodelay.c", folder / "nodelay.so"
    source.write_text(_SHIM, encoding="ascii")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return shim


def _write_images(folder: Path, count: int, senders: int, serial: int) -> list[Path]:
    """New images, one folder for each sender."""
    random = np.random.default_rng(serial)
    pixels = random.integers(0, 4096, SIDE * SIDE + count, dtype="<u2")
    folders = []
    for sender in range(senders):
        folders.append(folder / str(sender))
        folders[-1].mkdir(parents=True)
    for number in range(count):
        image = mr_image(number, study=f"1.2.3.{serial}", series=f"1.2.3.{serial}.1")
        image.SOPInstanceUID = f"1.2.3.{serial}.1.{number}"
        image.Rows = image.Columns = SIDE
        image.PixelData = pixels[number : number + SIDE * SIDE].tobytes()
        image.save_as(folders[number % senders] / f"{number}.dcm", enforce_file_format=True)
    return folders


def _send(folders: list[Path], target: Target) -> float:
    """Seconds until the last sender is done."""
    storescu = _program("storescu")
    words = [storescu, "-aec", target.ae_title, "+sd", "127.0.0.1", str(target.port)]
    started = time.monotonic()
    senders = [subprocess.Popen([*words, folder]) for folder in folders]
    assert all(sender.wait(timeout=600) == 0 for sender in senders), f"{target.name} refused images"
    return time.monotonic() - started


@contextmanager
def _node(folder: Path) -> Iterator[Target]:
    folder.mkdir()
    with Receiver(folder) as receiver:
        yield Target("spinenode", "SPINENODE", receiver.port, lambda: receiver.rss_mb)


@contextmanager
def _orthanc(folder: Path) -> Iterator[Target]:
    with orthanc_process.running(Path(_program("Orthanc")), folder) as orthanc:
        yield Target("orthanc", "ORTHANC", orthanc.dicom_port, lambda: _memory_of_listener(orthanc.dicom_port))


@contextmanager
def _storescp(folder: Path) -> Iterator[Target]:
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen([_program("storescp"), "--fork", "-od", folder, "+uf", str(port)])
    time.sleep(1)
    try:
        yield Target("storescp", "ANY", port, lambda: _memory_of_listener(port))
    finally:
        process.terminate()
        process.wait()


_TARGETS = {"Orthanc": _orthanc, "spinenode": _node, "storescp": _storescp}


def _is_there(name: str) -> bool:
    return name == "spinenode" or shutil.which(name) is not None


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found


def _memory_of_listener(port: int) -> float:
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == "LISTEN" and connection.laddr.port == port and connection.pid:
            with suppress(psutil.NoSuchProcess):  # a child of one that forks, which has ended
                return float(psutil.Process(connection.pid).memory_info().rss / 2**20)
    return float("nan")


if __name__ == "__main__":
    main()
