"""Speed and memory, as a table with the machine: `make bench`, or `python -m tests.bench`.

The study is the phantom's; for the off-line figures its T2 sagittal series is resampled to 15 x 512 x 512 and stands
alone. Times are medians after a warm-up.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from tests import bench_delivery

REPEATS = 5
THREADS = 2
SIDE = 512
T2_SAGITTAL = "T2_TSE_SAG"
QUIET_S = 2.0


def main() -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}  {_machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'what':<64}{'measured':>12}{'bound':>12}")
        for name, value, bound, unit in chain(_offline(), _node(Path(folder)), bench_delivery.rows(Path(folder))):
            verdict = "" if value <= bound else "   OVER"
            print(f"{name:<64}{f'{value:.2f} {unit}':>12}{f'{bound:g} {unit}':>12}{verdict}", flush=True)


def _machine() -> str:
    import torch

    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, torch {torch.__version__}"


def _offline() -> list[tuple[str, float, float, str]]:
    """In a process of its own, so that its memory is its own."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.bench", "grade"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},  # as the command line sets it
    ).stdout
    measured = json.loads(answer.splitlines()[-1])
    return [
        ("grade: load (read, choose, stack), 2 threads", measured["load"], 5, "s"),
        ("grade: localise + grade, 15 x 512 x 512, 2 threads", measured["localise_and_grade"], 1.5, "s"),
        ("grade: localise + grade + one evidence method", measured["with_evidence"], 3.0, "s"),
        ("evidence: three methods, all gradings of 6 discs", measured["three_methods"], 4.0, "s"),
        ("grade: peak memory of the process (RSS)", measured["peak_rss_mb"], 1000, "MB"),
    ]


def _grade_here() -> None:
    """The measured process of ``_offline``."""
    import pydicom
    import torch

    from inference import phantom, pipeline
    from inference.weights import load_models

    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        series = [item for item in phantom.lumbar_study(seed=0) if item.SeriesDescription == T2_SAGITTAL]
        for number, instance in enumerate(series):
            _enlarged(instance).save_as(Path(folder) / f"{number:03d}.dcm", enforce_file_format=True)
        models = load_models("cpu")
        laps: list[dict[str, float]] = []
        for _ in range(REPEATS + 1):
            instances = [pydicom.dcmread(path, defer_size=65536) for path in sorted(Path(folder).iterdir())]
            report = pipeline.grade(instances, models, clock=time.perf_counter)
            laps.append(dict(report.timing_s))  # type: ignore[union-attr]
    three_methods = statistics.median([_explained_s(report, models) for _ in range(REPEATS)])
    median: Callable[[str], float] = lambda name: statistics.median(lap[name] for lap in laps[1:])  # noqa: E731
    both = statistics.median(lap["localise"] + lap["grade"] for lap in laps[1:])
    print(
        json.dumps(
            {
                "load": median("load"),
                "localise_and_grade": both,
                "with_evidence": statistics.median(
                    lap["localise"] + lap["grade"] + lap["evidence"] for lap in laps[1:]
                ),
                "three_methods": three_methods,
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def _explained_s(report: Any, models: Any) -> float:
    """Seconds that SpineNet's three methods take for six discs of the study that was just graded."""
    from inference import discs, evidence, grading
    from inference.report import Method

    cut = discs.cut(report.volume, report.spine)[:6]
    grades = grading.grade(cut, models.grader)
    started = time.perf_counter()
    for method in (
        Method.GRADIENT_SALIENCY,
        Method.GUIDED_BACKPROPAGATION,
        Method.EXCITATION_BACKPROPAGATION,
    ):
        evidence.explain(report.volume, cut, models.grader, grades, method)
    return time.perf_counter() - started


def _enlarged(instance: Any) -> Any:
    """The same image on 512 x 512 pixels of the same field of view."""
    from scipy.ndimage import zoom

    factor = SIDE / instance.Rows
    pixels = zoom(instance.pixel_array.astype("float32"), factor, order=1).clip(0, 4095).astype("uint16")
    instance.PixelSpacing = [float(value) / factor for value in instance.PixelSpacing]
    instance.Rows, instance.Columns = pixels.shape
    instance.PixelData = pixels.tobytes()
    return instance


def _node(folder: Path) -> list[tuple[str, float, float, str]]:
    import psutil

    from inference import phantom
    from node import demo_archive, sender
    from tests import node_process

    paths = []
    for number, instance in enumerate(phantom.lumbar_study(seed=0)):
        paths.append(folder / f"{number:03d}.dcm")
        instance.save_as(paths[-1], enforce_file_format=True)
    with demo_archive.running(folder / "archive") as archive_port:
        archive = node_process.Archive(name="archive", ae_title=demo_archive.AE_TITLE, port=archive_port)
        with node_process.running(folder / "node", [archive], quiet_s=QUIET_S) as node:
            peer = sender.Peer(
                host="127.0.0.1", port=node.port, ae_title="SPINENODE", calling_ae_title="BENCH", connect_timeout_s=5
            )
            started = time.monotonic()
            outcomes = list(sender.send(paths, peer))
            assert all(isinstance(outcome.answer, sender.Stored) for outcome in outcomes)
            last_image = time.monotonic()
            while "every archive holds every result" not in node.command("status").stdout:
                assert time.monotonic() - last_image < 120, node.words()[-2000:]
            results = max(path.stat().st_mtime for path in (folder / "archive").glob("*.dcm"))
            beyond_quiet = results - (time.time() - (time.monotonic() - last_image)) - QUIET_S
            assert node.process is not None
            children = psutil.Process(node.process.pid).children(recursive=True)
            listening = [child for child in children if _listens(child, node.port)]
            receiver_mb = max(child.memory_info().rss for child in listening) / 2**20
            worker_mb = max(child.memory_info().rss for child in children) / 2**20
    return [
        ("node: last image in to last result in the archive, - quiet", beyond_quiet, 10, "s"),
        (f"node: receiving {len(paths)} images over one association", last_image - started, 10, "s"),
        ("node: receiver's memory (RSS)", receiver_mb, 100, "MB"),
        ("node: worker's memory (RSS)", worker_mb, 1000, "MB"),
    ]


def _listens(process: object, port: int) -> bool:
    connections = process.net_connections(kind="tcp")  # type: ignore[attr-defined]
    return any(item.laddr.port == port and item.status == "LISTEN" for item in connections)


if __name__ == "__main__":
    if sys.argv[1:] == ["grade"]:
        _grade_here()
    else:
        main()
