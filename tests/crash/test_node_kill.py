"""kill -9 of any process of the node, at any moment: every acknowledged image is graded, every result arrives once.

The networks are replaced by an answer that takes a while (``tests/stand_in_node.py``), so that many studies pass and
the kills fall into every step; the last test has the real ones.
"""

from __future__ import annotations

import gc
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import psutil
import pydicom
import pytest
from pydicom import Dataset

from node import sender
from node.ledger import Ledger, open_ledger
from node.records import StudyState
from tests import postgresql_server
from tests.node_process import REPOSITORY, Archive, Node, configured
from tests.report_factories import graded_study
from tests.scripted_archive import AE_TITLE, answering
from tests.scripted_archive import Archive as Answering

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # pynetdicom leaves the socket of a connection that failed to the garbage collector
    pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _failed_sockets_end_with_their_test() -> Iterator[None]:
    yield
    gc.collect()


SHORT = '[results]\noutputs = ["measurement_report", "text_report"]\n'
"""Without captures a study is rendered in a moment, and more of them pass in a test."""


@dataclass(kw_only=True)
class StandInNode(Node):
    """A node with an answer instead of networks; with the real ones where ``grading_s`` is None."""

    grading_s: float | None = None
    database_url: str = ""

    def start(self, within_s: float = 300) -> None:
        if self.grading_s is None:
            super().start(within_s)
            return
        already = self.words().count("spinenode is ready")
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.stand_in_node", str(self.config), str(self.grading_s)],
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        until(lambda: self.words().count("spinenode is ready") > already, within_s, self)

    def ledger(self) -> Ledger:
        return open_ledger(self.database_url or f"sqlite:///{self.folder}/data/node.db")


def parts(node: Node) -> dict[str, int]:
    """Name -> process id of the last start of each part."""
    lines = [line.split() for line in node.words().splitlines() if " started as process " in line]
    return {words[words.index("started") - 1]: int(words[-1]) for words in lines}


def states(node: StandInNode) -> dict[StudyState, int]:
    ledger = node.ledger()
    try:
        return {state: count for state, count in ledger.counts_by_state().items() if count}
    finally:
        ledger.close()


def until(condition: Callable[[], bool], within_s: float, node: Node) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time:\n{node.words()[-4000:]}"
        time.sleep(0.05)


@contextmanager
def stand_in(
    folder: Path, archive: Answering, grading_s: float | None, database_url: str = "", extra: str = SHORT
) -> Iterator[StandInNode]:
    to = Archive(name="pacs", ae_title=AE_TITLE, port=archive.port)
    node = configured(folder, [to], quiet_s=3, extra=extra)
    if database_url:
        settings = node.config.read_text(encoding="utf-8")
        node.config.write_text(settings.replace("[node]", f'[node]\ndatabase_url = "{database_url}"'), encoding="utf-8")
    stand_in = StandInNode(folder=node.folder, port=node.port, config=node.config, database_url=database_url)
    stand_in.grading_s = grading_s
    stand_in.start()
    try:
        yield stand_in
    finally:
        stand_in.stop()


def study(number: int, study_id: str = "7") -> list[Dataset]:
    """The drawn study as another patient's: 15 images with UIDs of their own."""
    images = deepcopy(graded_study().source)
    for image in images:
        image.StudyInstanceUID, image.StudyID = f"2.25.{number}000", study_id
        image.SeriesInstanceUID = f"2.25.{number}001"
        image.SOPInstanceUID = f"2.25.{number}1{image.InstanceNumber:02d}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return list(images)


def send(images: Sequence[Dataset], node: Node, folder: Path, calling_ae_title: str = "MODALITY") -> None:
    """Send until every image is acknowledged, as a modality does."""
    folder.mkdir(parents=True, exist_ok=True)
    left = []
    for image in images:
        left.append(folder / f"{image.SOPInstanceUID}.dcm")
        image.save_as(left[-1], enforce_file_format=True)
    modality = sender.Peer(
        host="127.0.0.1", port=node.port, ae_title="SPINENODE", calling_ae_title=calling_ae_title, connect_timeout_s=5
    )
    deadline = time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, node.words()[-4000:]
        outcomes = sender.send(left, modality)
        left = [outcome.path for outcome in outcomes if not isinstance(outcome.answer, sender.Stored)]


def every_result_arrived_once(archive: Answering, studies: int) -> None:
    """Two reports for each study; an object that came twice (killed before the answer was noted) is the same object."""
    versions = defaultdict(set)
    kinds = Counter()
    for item, encoded in zip(archive.stored, archive.encoded, strict=True):
        if item.SOPInstanceUID not in versions:
            kinds[item.StudyInstanceUID, item.SOPClassUID] += 1
        versions[item.SOPInstanceUID].add(hashlib.sha256(encoded).hexdigest())
    assert all(len(contents) == 1 for contents in versions.values())
    assert set(kinds.values()) == {1}
    assert len(kinds) == 2 * studies


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    if postgresql_server.find_initdb() is None:
        absent = pytest.fail if os.environ.get("REQUIRE_PEERS") == "1" else pytest.skip
        absent("PostgreSQL is not installed: apt-get install postgresql")
    with postgresql_server.running_server() as url:
        yield f"{url}/postgres"


@pytest.mark.parametrize("victim", ["worker", "node"])
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def test_a_kill_in_the_middle_of_grading_costs_nothing(
    tmp_path: Path, victim: str, database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgresql_url") if database == "postgresql" else ""
    with answering() as archive, stand_in(tmp_path / "node", archive, grading_s=3, database_url=url) as node:
        send(study(1), node, tmp_path / "study")
        until(lambda: StudyState.GRADING in states(node), 300, node)
        time.sleep(1)
        if victim == "worker":
            os.kill(parts(node)["worker"], signal.SIGKILL)
        else:
            node.kill()
            node.start()
        until(lambda: states(node) == {StudyState.DELIVERED: 1}, 300, node)
        every_result_arrived_once(archive, 1)
        assert len(archive.stored) == 2
        assert node.words().count("taking up 1 studies that a worker left") == 1


def test_a_study_that_kills_its_worker_is_set_aside_and_the_others_are_graded(tmp_path: Path) -> None:
    with answering() as archive, stand_in(tmp_path / "node", archive, grading_s=0.1) as node:
        send(study(1, study_id="POISON"), node, tmp_path / "poison")
        until(lambda: StudyState.GRADING in states(node), 300, node)
        send(study(2), node, tmp_path / "good")
        until(lambda: states(node) == {StudyState.FAILED: 1, StudyState.DELIVERED: 1}, 300, node)
        every_result_arrived_once(archive, 1)
        ledger = node.ledger()
        (failed,) = [row.study for row in ledger.study_overview(limit=9) if row.study.state is StudyState.FAILED]
        ledger.close()
        assert failed.attempts == 2
        assert failed.reason == "its worker stopped 2 times before an end"


def test_a_study_that_uses_up_memory_is_tried_twice_and_the_others_are_graded(tmp_path: Path) -> None:
    with answering() as archive, stand_in(tmp_path / "node", archive, grading_s=0.1) as node:
        send(study(1, study_id="GREEDY"), node, tmp_path / "greedy")
        until(lambda: StudyState.GRADING in states(node), 300, node)
        send(study(2), node, tmp_path / "good")
        until(lambda: states(node) == {StudyState.FAILED: 1, StudyState.DELIVERED: 1}, 300, node)
        every_result_arrived_once(archive, 1)
        ledger = node.ledger()
        (failed,) = [row.study for row in ledger.study_overview(limit=9) if row.study.state is StudyState.FAILED]
        ledger.close()
        assert failed.attempts == 2
        assert failed.reason.startswith("out of memory: MemoryError at tests/stand_in_node.py:")
        assert node.words().count("the worker ended with status 5") == 2


def test_a_study_that_stops_every_thread_of_its_worker_is_ended_and_the_others_are_graded(tmp_path: Path) -> None:
    limits = f"[inference]\nmaximum_attempts = 2\ntime_limit_s = 1\n{SHORT}"
    with answering() as archive, stand_in(tmp_path / "node", archive, grading_s=0.1, extra=limits) as node:
        send(study(1, study_id="SEIZING"), node, tmp_path / "seizing")
        until(lambda: StudyState.GRADING in states(node), 300, node)
        send(study(2), node, tmp_path / "good")
        until(lambda: states(node) == {StudyState.FAILED: 1, StudyState.DELIVERED: 1}, 300, node)
        every_result_arrived_once(archive, 1)


def test_a_node_that_is_stopped_while_it_grades_blames_no_study(tmp_path: Path) -> None:
    with answering() as archive, stand_in(tmp_path / "node", archive, grading_s=60) as node:
        send(study(1), node, tmp_path / "study")
        until(lambda: StudyState.GRADING in states(node), 300, node)
        node.stop()
        assert states(node) == {StudyState.QUEUED: 1}
        node.grading_s = 0.1
        node.start()
        until(lambda: states(node) == {StudyState.DELIVERED: 1}, 300, node)
        ledger = node.ledger()
        (row,) = ledger.study_overview(limit=9)
        ledger.close()
        assert row.study.attempts == 1


def test_a_study_that_hangs_is_ended_and_set_aside(tmp_path: Path) -> None:
    limits = f"[inference]\nmaximum_attempts = 2\ntime_limit_s = 2\n{SHORT}"
    with answering() as archive, stand_in(tmp_path / "node", archive, grading_s=3600, extra=limits) as node:
        send(study(1), node, tmp_path / "study")
        until(lambda: states(node) == {StudyState.FAILED: 1}, 300, node)
        assert node.words().count("a study has taken more than 2 s: the worker ends itself") == 2
        assert node.words().count("the worker ended with status 3") == 2


def test_random_kills_of_every_part_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    chance, studies = random.Random(20260314), 10
    patient = f"[inference]\nmaximum_attempts = 100\n{SHORT}"  # one study may well be hit three times
    with answering() as archive, stand_in(tmp_path / "node", archive, grading_s=0.1, extra=patient) as node:
        for number in range(1, studies + 1):
            send(study(number), node, tmp_path / f"study{number}")
            victim = chance.choice(["receiver", "worker", "worker", "dispatcher", "node"])
            time.sleep(chance.uniform(0.0, 1.5))
            if victim == "node":
                node.kill()
                node.start()
            elif psutil.pid_exists(pid := parts(node)[victim]):
                os.kill(pid, signal.SIGKILL)
        until(lambda: states(node) == {StudyState.DELIVERED: studies}, 300, node)
        every_result_arrived_once(archive, studies)
        ledger = node.ledger()
        images = [len(ledger.instances(row.study.study_id)) for row in ledger.study_overview(limit=99)]
        ledger.close()
        assert images == [15] * studies


def test_an_archive_that_was_down_gets_its_results_after_a_restart_of_the_node(tmp_path: Path) -> None:
    with answering() as archive:
        port = archive.port
    with stand_in(tmp_path / "node", archive, grading_s=0.1) as node:
        send(study(1), node, tmp_path / "study")
        until(lambda: StudyState.GRADED in states(node), 300, node)
        until(lambda: "cannot connect" in node.words(), 300, node)
        node.kill()
        with answering(port=port) as archive:
            node.start()
            until(lambda: states(node) == {StudyState.DELIVERED: 1}, 300, node)
            every_result_arrived_once(archive, 1)


@pytest.mark.parametrize("victim", ["worker", "node"])
def test_a_kill_while_the_real_networks_grade_costs_nothing(tmp_path: Path, lumbar_study: Path, victim: str) -> None:
    images = [pydicom.dcmread(path) for path in sorted(lumbar_study.iterdir())]
    with answering() as archive, stand_in(tmp_path / "node", archive, None, extra="") as node:
        send(images, node, tmp_path / "study")
        until(lambda: StudyState.GRADING in states(node), 300, node)
        if victim == "worker":
            os.kill(parts(node)["worker"], signal.SIGKILL)
        else:
            node.kill()
            node.start()
        until(lambda: states(node) == {StudyState.DELIVERED: 1}, 300, node)
        kinds = Counter(str(item.SOPClassUID.name) for item in archive.stored)
        assert len({item.SOPInstanceUID for item in archive.stored}) == len(archive.stored)
        assert kinds["Comprehensive 3D SR Storage"] == kinds["Basic Text SR Storage"] == 1
        assert kinds["Secondary Capture Image Storage"] > 1
        assert {item.StudyInstanceUID for item in archive.stored} == {images[0].StudyInstanceUID}
