"""kill -9 at each step of the workflow: before and after each effect and each checkpoint, and amid each transaction.

The networks are the real ones and the archive is an Orthanc. One node goes through all steps, a study for each: armed
for one step it is killed there (see ``tests/stepped_node.py``), is started again, and must come to the same end as if
nothing had been: the study DELIVERED, each object of it in the archive once, nothing left in the hands of a worker.
``STEPS`` is complete: a step of the node that it does not name fails the first test.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom import Dataset

from inference import phantom
from node.ledger import Ledger, open_ledger
from node.records import ARRIVED, StudyRecord, StudyState
from tests import orthanc_process, postgresql_server
from tests.crash.test_node_kill import send
from tests.node_process import REPOSITORY, Archive, Node, configured
from tests.postgresql_server import Cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peers,
    pytest.mark.timeout(900),
    # pynetdicom leaves the socket of a connection that failed to the garbage collector
    pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

WITHIN_S = 300.0
WITH_PAUSES = "PAUSES"
T2_SAGITTAL = "T2_TSE_SAG"

TRANSACTIONS = (
    "receiver: Reception.record_instance",
    "dispatcher: Reception.close_study",
    "worker: Ledger.take_study",
    "worker: Ledger._finish",
    "worker: Timelines.note_steps",
    "dispatcher: Ledger.delivery_delivered",
)
EFFECTS = (
    "receiver: Draft.finish",
    "worker: SystemDatabase.init_workflow",
    "worker: read",
    "worker: grade",
    "worker: render",
    "worker: Spool.store_result",
    "worker: SystemDatabase.record_operation_result",
    "worker: SystemDatabase.update_workflow_outcome",
    "dispatcher: Association.send_c_store",
)
CLAIM = "after worker: SystemDatabase.start_queued_workflows"
STEPS = (
    *(f"{when} {what}" for what in TRANSACTIONS for when in ("before", "amid", "after")),
    *(f"{when} {what}" for what in EFFECTS for when in ("before", "after")),
    CLAIM,
)
SECOND = (
    # the checkpoint of the second step, the last object to the archive, and the answer about it
    ("before worker: SystemDatabase.record_operation_result", 2),
    ("after worker: SystemDatabase.record_operation_result", 2),
    ("before dispatcher: Association.send_c_store", 2),
    ("after dispatcher: Association.send_c_store", 2),
    ("amid dispatcher: Ledger.delivery_delivered", 2),
    ("after dispatcher: Ledger.delivery_delivered", 2),
)
TIMES = (*((step, 1) for step in STEPS), *SECOND)
SOME = 1 if os.environ.get("EVERY_STEP") == "1" else 4
"""Parts are killed at every step; the whole node and the database at every fourth, at every one with EVERY_STEP=1."""
OF_PROOF = ("Proofs.", "send_n_action", "send_c_find")
"""Steps that come after DELIVERED: ``test_proof_kill``."""
NOT_OF_A_STUDY = (
    "worker: LedgerWorkers.begin",
    "worker: LedgerWorkers.end",
    "dispatcher: LedgerArchives.write_health",
    "dispatcher: Reception.note_waiting",
)
"""Transactions that no study depends on."""


@dataclass(kw_only=True)
class SteppedNode(Node):
    """A node that can be armed; see ``tests/stepped_node.py``."""

    database_url: str
    answer_s: float | None = None
    """With it, an answer that takes so long stands in for the networks."""
    studies: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def start(self, within_s: float = 300) -> None:
        already = self.words().count("spinenode is ready")
        answer = [] if self.answer_s is None else [str(self.answer_s)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.stepped_node", str(self.config), str(self.folder), *answer],
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.wait(lambda: self.words().count("spinenode is ready") > already, within_s)

    def wait(self, condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not in time:\n{self.words()[-4000:]}"
            assert self.struck() or self.process is None or self.process.poll() is None, self.words()[-4000:]
            time.sleep(0.1)

    def arm(self, step: str, time_: int, victim: str, server: int = 0) -> None:
        for name in ("struck", "trace"):
            (self.folder / name).unlink(missing_ok=True)
        order = {"at": step, "time": time_, "victim": victim, "server": server, "number": next(self.studies)}
        draft = self.folder / "order"
        draft.write_text(json.dumps(order), encoding="utf-8")
        draft.rename(self.folder / "armed")

    def struck(self) -> bool:
        return (self.folder / "struck").exists()

    def trace(self) -> list[str]:
        return (self.folder / "trace").read_text(encoding="utf-8").splitlines()

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        opened = open_ledger(self.database_url)
        try:
            yield opened
        finally:
            opened.close()

    def newest(self) -> StudyRecord:
        with self.ledger() as ledger:
            return ledger.study_overview(limit=1)[0].study


@dataclass(frozen=True, kw_only=True)
class Line:
    """A node in its surroundings."""

    node: SteppedNode
    archive: orthanc_process.Orthanc
    database: Cluster | None
    folder: Path

    def send_study(self, calling_ae_title: str = "MODALITY") -> str:
        """Send the phantom's T2 series as another patient's; gives its Study Instance UID."""
        number = next(self.node.studies)
        images = lumbar_series(number)
        send(images, self.node, self.folder / f"study{number}", calling_ae_title)
        return str(images[0].StudyInstanceUID)

    def came_to_a_good_end(self, study_uid: str) -> None:
        """DELIVERED; in the archive each object once, and nothing else; nothing in the hands of a worker."""
        self.node.wait(lambda: self.node.newest().state is StudyState.DELIVERED)
        study = self.node.newest()
        assert study.study_instance_uid == study_uid
        with self.node.ledger() as ledger:
            made = {result.sop_instance_uid for _, result in ledger.results(study_uid)}
            states = ledger.study_overview(limit=1)[0].deliveries
            counts = ledger.counts_by_state()
            images = len(ledger.instances(study.study_id))
        held = self.archive.ask("/tools/find", {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}})
        tags = [self.archive.ask(f"/instances/{instance}/simplified-tags") for instance in held]
        uids = [item["SOPInstanceUID"] for item in tags]
        assert sorted(item["SOPClassUID"] for item in tags) == [
            "1.2.840.10008.5.1.4.1.1.88.11",
            "1.2.840.10008.5.1.4.1.1.88.34",
        ]
        assert len(uids) == len(set(uids)) == sum(states.get(state, 0) for state in ARRIVED) == 2
        assert set(uids) <= made
        assert images == 15
        assert {state: count for state, count in counts.items() if count} == {
            StudyState.DELIVERED: counts[StudyState.DELIVERED]
        }


_series = [item for item in phantom.lumbar_study(seed=0) if item.SeriesDescription == T2_SAGITTAL]


def lumbar_series(number: int) -> list[Dataset]:
    images = deepcopy(_series)
    for index, image in enumerate(images):
        image.StudyInstanceUID, image.SeriesInstanceUID = f"2.25.{number}000", f"2.25.{number}001"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number}1{index:02d}"
        image.PatientID = f"PATIENT{number}"
    return images


@contextmanager
def line(folder: Path, orthanc: Path, cluster: Cluster | None) -> Iterator[Line]:
    with orthanc_process.running(orthanc, folder / "archive") as archive:
        to = Archive(name="orthanc", ae_title=orthanc_process.AE_TITLE, port=archive.dicom_port)
        extra = (
            '[results]\noutputs = ["measurement_report", "text_report"]\n'
            "[inference]\nthreads = 1\nmaximum_attempts = 5\n"
            # whose images come with a pause: a receiver that was killed is away longer than the others' quiet time
            f'[[senders]]\nae_title = "{WITH_PAUSES}"\nquiet_s = 10\n'
        )
        plain = configured(folder / "node", [to], quiet_s=2, extra=extra)
        url = f"sqlite:///{folder}/node/data/node.db" if cluster is None else f"{cluster.url}/postgres"
        if cluster is not None:
            words = plain.config.read_text(encoding="utf-8")
            plain.config.write_text(words.replace("[node]", f'[node]\ndatabase_url = "{url}"'), encoding="utf-8")
        node = SteppedNode(folder=plain.folder, port=plain.port, config=plain.config, database_url=url)
        try:
            node.start()
            yield Line(node=node, archive=archive, database=cluster, folder=folder)
        finally:
            node.stop()
            gc.collect()


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], Path]) -> Iterator[Line]:
    with line(tmp_path_factory.mktemp("sqlite"), require_program("Orthanc"), None) as made:
        yield made


@pytest.fixture(scope="module")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], Path]) -> Iterator[Line]:
    with ExitStack() as stack:
        orthanc = require_program("Orthanc")
        cluster = stack.enter_context(postgresql_server.running_cluster())
        yield stack.enter_context(line(tmp_path_factory.mktemp("postgresql"), orthanc, cluster))


def test_the_list_of_steps_is_what_the_node_does(on_sqlite: Line) -> None:
    on_sqlite.node.arm("nowhere", 1, "part")
    on_sqlite.came_to_a_good_end(on_sqlite.send_study())
    time.sleep(1)  # for the last checkpoint
    done = {step for step in on_sqlite.node.trace() if step.partition(" ")[2] not in NOT_OF_A_STUDY}
    done = {step for step in done if not any(word in step for word in OF_PROOF)}
    assert done == set(STEPS)


@pytest.mark.parametrize(("step", "time_"), TIMES)
def test_a_part_that_is_killed_at_a_step_costs_nothing(on_sqlite: Line, step: str, time_: int) -> None:
    on_sqlite.node.arm(step, time_, "part")
    study = on_sqlite.send_study(_sender(step))
    on_sqlite.node.wait(on_sqlite.node.struck)
    on_sqlite.came_to_a_good_end(study)


@pytest.mark.parametrize("step", [step for step in STEPS if step.startswith("after ")][::SOME])
def test_a_node_that_is_killed_at_a_step_costs_nothing(on_sqlite: Line, step: str) -> None:
    node = on_sqlite.node
    node.arm(step, 1, "node")
    with ExitStack() as stack:
        restarted = stack.enter_context(_starting_again(node))
        study = on_sqlite.send_study(_sender(step))
        node.wait(lambda: bool(restarted))
    on_sqlite.came_to_a_good_end(study)


@pytest.mark.parametrize(
    "step", [step for step in STEPS if step.startswith("amid ") or "SystemDatabase" in step][::SOME]
)
def test_a_database_that_is_killed_at_a_step_costs_nothing(on_postgresql: Line, step: str) -> None:
    node, database = on_postgresql.node, on_postgresql.database
    assert database is not None
    node.arm(step, 1, "database", database.process_id())
    with _database_comes_back(node, database):
        study = on_postgresql.send_study(_sender(step))
        node.wait(node.struck)
    on_postgresql.came_to_a_good_end(study)


def _sender(step: str) -> str:
    return WITH_PAUSES if "receiver" in step else "MODALITY"


@contextmanager
def _starting_again(node: SteppedNode) -> Iterator[list[bool]]:
    """Start the node again when it has been killed, as systemd does, while the body sends."""
    restarted: list[bool] = []

    def watch() -> None:
        node.wait(node.struck)
        assert node.process is not None
        node.process.wait()
        node.start()
        restarted.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield restarted
    finally:
        watcher.join()


@contextmanager
def _database_comes_back(node: SteppedNode, database: Cluster) -> Iterator[None]:
    def watch() -> None:
        node.wait(node.struck)
        time.sleep(2)
        database.start()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
