"""Deletion in a running node, and kill -9 at each step of it: no row claims a file that is gone, no file is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import orthanc_process
from tests.crash.test_every_step import SteppedNode
from tests.crash.test_proof_kill import is_proven, send_study
from tests.node_process import configured
from tests.orthanc_process import Orthanc

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peers,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

SETTINGS = """
[results]
outputs = ["measurement_report", "text_report"]
[retention]
images_days = 0.00003
results_days = 0.00006
"""
"""2.6 and 5.2 seconds."""
STEPS = [
    f"{when} dispatcher: Retention.{what}" for what in ("_purge", "removed") for when in ("before", "amid", "after")
]


@pytest.fixture(scope="module")
def archive(require_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc_process.running(require_program("Orthanc"), tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="module")
def node(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteppedNode]:
    folder = tmp_path_factory.mktemp("node")
    to = (
        f'[[archives]]\nname = "pacs"\nae_title = "{orthanc_process.AE_TITLE}"\nhost = "127.0.0.1"\n'
        f'port = {archive.dicom_port}\nproof = "query"\n'
    )
    plain = configured(folder, quiet_s=0.3, extra=SETTINGS + to)
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


def files(node: SteppedNode) -> int:
    return len(list((node.folder / "data" / "spool").rglob("*.dcm")))


def assert_deleted(node: SteppedNode, study_uid: str) -> None:
    """Proven, every file of it gone, and the ledger knows: nothing is claimed, nothing left over."""
    node.wait(lambda: is_proven(node, study_uid))
    node.wait(lambda: files(node) == 0)
    with node.ledger() as ledger:
        node.wait(lambda: not ledger.retention.left_over(limit=9))
        assert ledger.retention.purged_images(study_uid)[0] == 15


def test_what_is_proven_is_deleted_and_retry_says_so(node: SteppedNode) -> None:
    node.arm("nowhere", 1, "part")
    study = send_study(node)
    assert_deleted(node, study)
    number = node.newest().study_id
    told = node.command("retry", str(number))
    assert told.returncode == 1
    assert f"study {number}: 15 images of it were deleted on " in told.stderr
    assert "send the whole study again" in told.stderr
    taken = {step for step in node.trace() if "Retention." in step}
    assert taken == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_dispatcher_that_is_killed_while_it_deletes_leaves_nothing_wrong(node: SteppedNode, step: str) -> None:
    node.arm(step, 1, "part")
    study = send_study(node)
    node.wait(node.struck)
    assert_deleted(node, study)
