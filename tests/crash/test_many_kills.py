"""Many kills at random moments: of every part and of the whole node, while studies come without end.

``WORKFLOW_KILLS`` says how many (20 by default). The networks are replaced by an answer that takes a moment, for it is
not they that are tested (`test_every_step.py` kills around the real ones); the images are the phantom's, the archive is
an Orthanc.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from node.records import StudyState
from tests import orthanc_process
from tests.crash.test_every_step import SteppedNode, lumbar_series
from tests.crash.test_node_kill import parts, send
from tests.node_process import Archive, configured

KILLS = int(os.environ.get("WORKFLOW_KILLS", "20"))
ANSWER_S = 0.3
STEPS_BETWEEN = 40
"""Between two kills, at most; a study takes about 40, and 75 to come in."""
QUIET_S = 25
"""Longer than a node that was killed needs to come back on a busy machine: the rest of a study must find it open."""
WAITING = 30
"""Studies under way at most."""
VICTIMS = ("receiver", "worker", "worker", "dispatcher", "dispatcher", "node")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peers,
    pytest.mark.timeout(300 + 60 * KILLS),
    pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_many_kills_lose_nothing_and_double_nothing(tmp_path: Path, require_program: Callable[[str], Path]) -> None:
    chance = random.Random(KILLS)
    started = time.monotonic()
    with orthanc_process.running(require_program("Orthanc"), tmp_path / "archive") as archive:
        node = _node(tmp_path, archive.dicom_port)
        over = threading.Event()
        sent: list[str] = []
        feeder = threading.Thread(target=_send_studies, args=(node, tmp_path, sent, over))
        kills: Counter[str] = Counter()
        hit: Counter[str] = Counter()
        try:
            node.start()
            feeder.start()
            node.wait((node.folder / "trace").exists)
            while kills.total() < KILLS:
                _steps_go_by(node, chance.randint(0, STEPS_BETWEEN))
                time.sleep(chance.uniform(0.0, 0.05))
                victim = chance.choice(VICTIMS)
                if _kill(node, victim):
                    kills[victim] += 1
                    hit[node.trace()[-1]] += 1
            over.set()
            feeder.join()
            node.wait(lambda: _delivered(node) == len(sent), within_s=1200)
        finally:
            over.set()
            node.stop()
        _archive_holds_each_object_once(node, archive, sent)
    print(
        f"\n{kills.total()} kills ({dict(kills)}) at {len(hit)} different steps, {len(sent)} studies, "
        f"{15 * len(sent)} images, {2 * len(sent)} objects, {time.monotonic() - started:.0f} s: none lost, none twice"
    )


def _node(folder: Path, archive_port: int) -> SteppedNode:
    extra = (
        '[results]\noutputs = ["measurement_report", "text_report"]\n'
        # a study may well be hit many times here, and none of that is its fault
        "[inference]\nmaximum_attempts = 1000\n"
    )
    to = Archive(name="orthanc", ae_title=orthanc_process.AE_TITLE, port=archive_port)
    plain = configured(folder / "node", [to], quiet_s=QUIET_S, extra=extra)
    return SteppedNode(
        folder=plain.folder,
        port=plain.port,
        config=plain.config,
        database_url=f"sqlite:///{folder}/node/data/node.db",
        answer_s=ANSWER_S,
    )


def _send_studies(node: SteppedNode, folder: Path, sent: list[str], over: threading.Event) -> None:
    """One study after another, each until it is acknowledged; a study at least, at most some that wait."""
    number = 0
    while not over.is_set():
        if len(sent) - _delivered(node) < WAITING:
            number += 1
            images = lumbar_series(number)
            sent.append(str(images[0].StudyInstanceUID))
            send(images, node, folder / f"study{number}")
        over.wait(1)


def _steps_go_by(node: SteppedNode, count: int) -> None:
    """Wait until the node has gone so many steps, at most half a minute: time alone says little on a busy machine."""
    deadline = time.monotonic() + 30
    until = len(node.trace()) + count
    while len(node.trace()) < until and time.monotonic() < deadline:
        time.sleep(0.01)


def _kill(node: SteppedNode, victim: str) -> bool:
    """SIGKILL to a part that lives, or to the supervisor, which is started again; False where it is dead already."""
    if victim == "node":
        node.kill()
        node.start()
        return True
    pid = parts(node).get(victim)
    if pid is None or not psutil.pid_exists(pid):
        return False
    os.kill(pid, signal.SIGKILL)
    return True


def _delivered(node: SteppedNode) -> int:
    with node.ledger() as ledger:
        return ledger.counts_by_state()[StudyState.DELIVERED]


def _archive_holds_each_object_once(node: SteppedNode, archive: orthanc_process.Orthanc, sent: list[str]) -> None:
    with node.ledger() as ledger:
        counts = {state: count for state, count in ledger.counts_by_state().items() if count}
        images = [len(ledger.instances(row.study.study_id)) for row in ledger.study_overview(limit=10_000)]
        made = {result.sop_instance_uid for uid in sent for _, result in ledger.results(uid)}
    assert counts == {StudyState.DELIVERED: len(sent)}
    assert images == [15] * len(sent)
    held = archive.ask("/tools/find", {"Level": "Instance", "Query": {}, "Expand": True})
    uids = [item["MainDicomTags"]["SOPInstanceUID"] for item in held]
    assert len(uids) == len(set(uids)) == 2 * len(sent)
    assert set(uids) <= made
