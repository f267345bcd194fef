"""A node whose networks are replaced by an answer that takes a while: for tests of everything around the networks.

Run as a program: ``python -m tests.stand_in_node CONFIG SECONDS``. The replacement is made again in every process, for
each part of the node imports this module as its main one. Studies with certain Study IDs harm their worker.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pydicom

import inference
from inference.report import Report
from node import part, service, settings

BACKSTOP_S = 5.0
"""After the limit for a study: nobody waits half a minute for each worker that is stopped whole."""
_grading_s = 0.0

_work = part._work


def _stand_in_models(device: str) -> SimpleNamespace:
    from tests.report_factories import MODEL

    return SimpleNamespace(identity=MODEL)


def stand_in(grading_s: float) -> None:
    """Have this process's worker answer instead of grade; to be called before it is imported.

    It then starts in a fraction of the time: neither PyTorch nor what the networks need is loaded.
    """
    global _grading_s
    _grading_s = grading_s
    absent = {
        "torch": {"set_num_threads": lambda count: None},
        "inference.pipeline": {"grade": grade},
        "inference.weights": {"load_models": _stand_in_models},
    }
    for name, content in absent.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        sys.modules[name] = module
        if name.startswith("inference."):
            setattr(inference, name.removeprefix("inference."), module)


def _with_stand_in(name: str, chosen: settings.Settings, stop: threading.Event, supervisor: Connection) -> None:
    if name.startswith("worker"):
        stand_in(float(sys.argv[2]))
        from node import worker

        worker.BACKSTOP_S = BACKSTOP_S
    _work(name, chosen, stop, supervisor)


def _use_up_memory() -> None:
    """Under a limit of 300 MB more than there is: a MemoryError, as in a container that is too small."""
    in_use = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 300 * 2**20, resource.RLIM_INFINITY))
    kept = [bytearray(2**20) for _ in range(2**20)]
    raise AssertionError(f"{len(kept)} MB fit under the limit")


HARM: Mapping[str, Callable[[], object]] = {
    "POISON": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "GREEDY": _use_up_memory,
    # a C function that keeps Python's interpreter lock: no other thread of the process runs any more
    "SEIZING": lambda: ctypes.PyDLL(None).sleep(3600),
}
"""Study ID -> what such a study does to its worker."""


def grade(instances: Sequence[pydicom.Dataset], **_: object) -> Report:
    """The drawn study's report, as if these were its images."""
    from dataclasses import replace

    from tests.report_factories import graded_study

    HARM.get(instances[0].get("StudyID"), lambda: None)()
    time.sleep(_grading_s)
    report = graded_study().report
    in_order = sorted(instances, key=lambda item: int(item.InstanceNumber))
    sources = tuple(
        replace(source, sop_instance_uid=str(item.SOPInstanceUID))
        for source, item in zip(report.volume.sources, in_order, strict=True)
    )
    volume = replace(report.volume, sources=sources, series_instance_uid=str(in_order[0].SeriesInstanceUID))
    return replace(report, volume=volume, study_instance_uid=str(in_order[0].StudyInstanceUID))


if __name__ in ("__main__", "__mp_main__"):
    part._work = _with_stand_in

if __name__ == "__main__":
    sys.exit(service.serve(settings.load(Path(sys.argv[1]))))
