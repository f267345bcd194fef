"""Several workers on one PostgreSQL ledger: they share the queue, and what one leaves another takes up.

The networks are replaced by an answer that takes a while (``tests/stand_in_node.py``).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from node.records import StudyState
from tests import postgresql_server
from tests.crash.test_node_kill import SHORT, StandInNode, every_result_arrived_once, parts, send, states, study, until
from tests.node_process import Archive, configured
from tests.scripted_archive import AE_TITLE, answering
from tests.scripted_archive import Archive as Answering

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peers,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

DEAD_AFTER_S = 12.0
DIED = "taking up 1 studies that a worker left"


@pytest.fixture
def database_url() -> Iterator[str]:
    with postgresql_server.running_server() as url:
        yield f"{url}/postgres"


@contextmanager
def node_on(
    folder: Path, archive: Answering, database_url: str, keys: str, *, grading_s: float, data: str = "data"
) -> Iterator[StandInNode]:
    to = Archive(name="pacs", ae_title=AE_TITLE, port=archive.port)
    plain = configured(folder / data, [to], quiet_s=4, extra=SHORT)
    settings = plain.config.read_text(encoding="utf-8").replace(
        "[node]",
        f'[node]\ndatabase_url = "{database_url}"\nspool_dir = "{folder}/spool"\n'
        f"worker_dead_after_s = {DEAD_AFTER_S}\n{keys}",
    )
    plain.config.write_text(settings, encoding="utf-8")
    node = StandInNode(folder=plain.folder, port=plain.port, config=plain.config, database_url=database_url)
    node.grading_s = grading_s
    node.start()
    try:
        yield node
    finally:
        node.stop()


def test_two_workers_of_a_node_grade_two_studies_at_once(tmp_path: Path, database_url: str) -> None:
    with answering() as archive, node_on(tmp_path, archive, database_url, "workers = 2\n", grading_s=4) as node:
        assert {"worker", "worker-2"} < set(parts(node))
        for number in (1, 2):
            send(study(number), node, tmp_path / f"study{number}")
        until(lambda: states(node) == {StudyState.GRADING: 2}, 300, node)
        until(lambda: states(node) == {StudyState.DELIVERED: 2}, 300, node)
        every_result_arrived_once(archive, 2)
        assert len(archive.stored) == 4


def test_the_study_of_a_node_that_died_is_taken_by_another_within_the_heartbeat_time(
    tmp_path: Path, database_url: str
) -> None:
    with ExitStack() as stack:
        archive = stack.enter_context(answering())
        first = stack.enter_context(node_on(tmp_path, archive, database_url, "", grading_s=600, data="first"))
        send(study(1), first, tmp_path / "study")
        until(lambda: states(first) == {StudyState.GRADING: 1}, 300, first)
        second = stack.enter_context(
            node_on(tmp_path, archive, database_url, 'parts = ["worker"]\n', grading_s=0.1, data="second")
        )
        time.sleep(1.5 * DEAD_AFTER_S)
        assert DIED not in second.words()
        first.kill()
        died = time.monotonic()
        until(lambda: DIED in second.words(), 300, second)
        assert time.monotonic() - died < DEAD_AFTER_S * (1 + 2 / 6) + 1
        until(lambda: StudyState.GRADED in states(second), 300, second)
        first.grading_s = 0.1
        first.start()  # the results are sent by the node that has a dispatcher
        until(lambda: states(first) == {StudyState.DELIVERED: 1}, 300, first)
        every_result_arrived_once(archive, 1)
        assert len(archive.stored) == 2


def test_a_worker_that_was_wrongly_declared_dead_ends_itself_and_does_no_harm(
    tmp_path: Path, database_url: str
) -> None:
    with ExitStack() as stack:
        archive = stack.enter_context(answering())
        first = stack.enter_context(node_on(tmp_path, archive, database_url, "", grading_s=20, data="first"))
        send(study(1), first, tmp_path / "study")
        until(lambda: states(first) == {StudyState.GRADING: 1}, 300, first)
        stopped = parts(first)["worker"]
        os.kill(stopped, signal.SIGSTOP)
        second = stack.enter_context(
            node_on(tmp_path, archive, database_url, 'parts = ["worker"]\n', grading_s=3, data="second")
        )
        until(lambda: DIED in second.words(), 300, second)
        os.kill(stopped, signal.SIGCONT)
        until(lambda: "declared dead after 12 s without a beat: the worker ends itself" in first.words(), 300, first)
        until(lambda: "the worker ended with status 4" in first.words(), 300, first)
        until(lambda: states(first) == {StudyState.DELIVERED: 1}, 300, first)
        every_result_arrived_once(archive, 1)
        assert len(archive.stored) == 2


def test_one_of_two_workers_that_is_killed_leaves_nothing_behind(tmp_path: Path, database_url: str) -> None:
    with answering() as archive, node_on(tmp_path, archive, database_url, "workers = 2\n", grading_s=3) as node:
        for number in range(1, 5):
            send(study(number), node, tmp_path / f"study{number}")
        until(lambda: states(node).get(StudyState.GRADING, 0) == 2, 300, node)
        os.kill(parts(node)["worker-2"], signal.SIGKILL)
        until(lambda: states(node) == {StudyState.DELIVERED: 4}, 300, node)
        every_result_arrived_once(archive, 4)


def test_a_node_on_another_spool_is_refused(tmp_path: Path, database_url: str) -> None:
    with answering() as archive, node_on(tmp_path / "a", archive, database_url, "", grading_s=0.1):
        to = configured(tmp_path / "b")
        words = to.config.read_text(encoding="utf-8").replace("[node]", f'[node]\ndatabase_url = "{database_url}"')
        to.config.write_text(words, encoding="utf-8")
        refused = to.command("serve")
        assert refused.returncode != 0
        assert "the database belongs to another spool than" in refused.stderr
        assert "set node.spool_dir to that one (shared storage), or node.database_url" in refused.stderr


def test_several_workers_on_sqlite_are_refused(tmp_path: Path) -> None:
    node = configured(tmp_path)
    node.config.write_text(node.config.read_text(encoding="utf-8").replace("[node]", "[node]\nworkers = 2"))
    refused = node.command("serve")
    assert refused.returncode != 0
    assert "node.workers = 2 needs PostgreSQL (node.database_url): a ledger in SQLite has one worker" in refused.stderr
