"""A node whose networks are replaced by an answer that takes a while: for tests of everything around the networks.

Run as a program: ``python -m tests.stand_in_node CONFIG SECONDS``. The replacement is made again in every process, for
each part of the node imports this module as its main one. A study whose Study ID is POISON kills its worker.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pydicom

from inference.report import Report
from node import part, service, settings

GRADING_S = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0

_work = part._work


def _with_stand_in(name: str, chosen: settings.Settings, stop: threading.Event, supervisor: Connection) -> None:
    if name == "worker":
        from node import worker

        worker.load_models = lambda device: None
        worker.pipeline = SimpleNamespace(grade=grade)
    _work(name, chosen, stop, supervisor)


part._work = _with_stand_in


def grade(instances: Sequence[pydicom.Dataset], **_: object) -> Report:
    """The drawn study's report, as if these were its images."""
    from dataclasses import replace

    from tests.report_factories import graded_study

    if instances[0].get("StudyID") == "POISON":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(GRADING_S)
    report = graded_study().report
    in_order = sorted(instances, key=lambda item: int(item.InstanceNumber))
    sources = tuple(
        replace(source, sop_instance_uid=str(item.SOPInstanceUID))
        for source, item in zip(report.volume.sources, in_order, strict=True)
    )
    volume = replace(report.volume, sources=sources, series_instance_uid=str(in_order[0].SeriesInstanceUID))
    return replace(report, volume=volume, study_instance_uid=str(in_order[0].StudyInstanceUID))


if __name__ == "__main__":
    sys.exit(service.serve(settings.load(Path(sys.argv[1]))))
