"""kill -9 at each step of proof: every result ends as PROVEN, whoever was killed and whatever report was lost with it.

As ``test_every_step``, with an answer in place of the networks. The archive is an Orthanc known under two names:
one proves by storage commitment, with reports over associations of its own, the other by C-FIND.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.proofs import CommitmentState
from node.records import DeliveryState, StudyState
from tests import orthanc_process
from tests.crash.test_every_step import SteppedNode, _starting_again, lumbar_series
from tests.crash.test_node_kill import send
from tests.node_process import configured, free_port
from tests.orthanc_process import Orthanc

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peers,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

TRANSACTIONS = (
    "dispatcher: Proofs.asking",
    "dispatcher: Proofs.requested",
    "dispatcher: Proofs.found",
    "receiver: Proofs.reported",
)
REQUEST = "dispatcher: Association.send_n_action"
STEPS = (
    *(f"{when} {what}" for what in TRANSACTIONS for when in ("before", "amid", "after")),
    f"before {REQUEST}",
    f"after {REQUEST}",
)
AT_THE_START = {f"{when} dispatcher: Proofs.end_interrupted" for when in ("before", "amid", "after")}
"""Taken once, when the dispatcher starts, which may be after the trace begins: no step of a study's proof."""


def settings_of(archive: Orthanc) -> str:
    """The one archive under two names; reports that do not come are asked for soon."""
    tables = [
        f'[[archives]]\nname = "{name}"\nae_title = "{orthanc_process.AE_TITLE}"\nhost = "127.0.0.1"\n'
        f'port = {archive.dicom_port}\nproof = "{proof}"\n'
        for name, proof in (("committing", "commitment"), ("answering", "query"))
    ]
    return (
        '[results]\noutputs = ["measurement_report", "text_report"]\n'
        "[proof]\noverdue_s = 4\nreport_wait_s = 1\n" + "".join(tables)
    )


@pytest.fixture(scope="module")
def archive(require_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc_process.running(require_program("Orthanc"), tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="module")
def node(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteppedNode]:
    folder = tmp_path_factory.mktemp("node")
    plain = configured(folder, quiet_s=0.3, extra=settings_of(archive))
    made = SteppedNode(
        folder=folder,
        port=plain.port,
        monitoring_port=plain.monitoring_port,
        config=plain.config,
        database_url=f"sqlite:///{folder}/data/node.db",
        answer_s=0.0,
    )
    archive.ask_put("/modalities/spinenode", {"AET": "SPINENODE", "Host": "127.0.0.1", "Port": plain.port})
    try:
        made.start()
        yield made
    finally:
        made.stop()


def send_study(node: SteppedNode) -> str:
    number = next(node.studies)
    images = lumbar_series(number)
    send(images, node, node.folder / f"study{number}", "MODALITY")
    return str(images[0].StudyInstanceUID)


def is_proven(node: SteppedNode, study_uid: str) -> bool:
    with node.ledger() as ledger:
        shown = ledger.study_overview(limit=1)
    return bool(shown) and shown[0].study.study_instance_uid == study_uid and shown[0].study.proven_at is not None


def assert_came_to_a_good_end(node: SteppedNode, study_uid: str) -> None:
    """Proven by both, delivered, and no request left open."""
    node.wait(lambda: is_proven(node, study_uid))
    with node.ledger() as ledger:
        (shown, *_) = ledger.study_overview(limit=1)
        assert shown.study.state is StudyState.DELIVERED
        assert dict(shown.deliveries) == {DeliveryState.PROVEN: 4}
        assert ledger.dead_letters.listed(limit=9) == ()
        # a request whose report came after the results were proven by its successor may still run out
        open_ones = (CommitmentState.ASKING, CommitmentState.REQUESTED)
        deadline = time.monotonic() + 30
        while any(state in open_ones for _, state in ledger.proofs.requests("committing")):
            assert time.monotonic() < deadline, ledger.proofs.requests("committing")
            time.sleep(0.2)


def test_the_steps_are_those_that_the_node_takes(node: SteppedNode) -> None:
    node.arm("nowhere", 1, "part")
    assert_came_to_a_good_end(node, send_study(node))
    taken = {step for step in node.trace() if "Proofs." in step or REQUEST in step}
    assert taken - AT_THE_START == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_part_that_is_killed_at_a_step_of_proof_costs_no_proof(node: SteppedNode, step: str) -> None:
    node.arm(step, 1, "part")
    study = send_study(node)
    node.wait(node.struck)
    assert_came_to_a_good_end(node, study)


@pytest.mark.parametrize("step", [step for step in STEPS if step.startswith("after ")])
def test_a_node_that_is_killed_at_a_step_of_proof_costs_no_proof(node: SteppedNode, step: str) -> None:
    node.arm(step, 1, "node")
    with _starting_again(node) as restarted:
        study = send_study(node)
        node.wait(lambda: bool(restarted))
    assert_came_to_a_good_end(node, study)


def test_a_report_that_went_nowhere_is_asked_for_again(node: SteppedNode, archive: Orthanc) -> None:
    """Orthanc gives a report up that it cannot deliver; the node is killed meanwhile, and asks under another UID."""
    where = {"AET": "SPINENODE", "Host": "127.0.0.1", "Port": node.port}
    archive.ask_put("/modalities/spinenode", where | {"Port": free_port()})
    with node.ledger() as ledger:
        asked = len(ledger.proofs.requests("committing"))
    study = send_study(node)
    node.wait(lambda: requests(node) > asked)
    node.kill()
    archive.ask_put("/modalities/spinenode", where)
    node.start()
    assert_came_to_a_good_end(node, study)
    assert requests(node) >= asked + 2


def requests(node: SteppedNode) -> int:
    with node.ledger() as ledger:
        return len(ledger.proofs.requests("committing"))
