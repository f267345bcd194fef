"""A ledger that the first release left behind, with studies in flight, is migrated at start and they go on.

``tests/data/node-a9a346a.sql`` and ``node-jobs-a9a346a.sql`` are dumps of ledger (revision 0001) and job queue as the
version of commit a9a346a wrote them when it was killed: study 1 receives, 2 waits, 3 waits in the queue, 4 was being
graded, 5 was graded and not written down, 6 has one result delivered and one on its way, 7 is delivered, 8 has failed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from node.ledger import Ledger, open_ledger
from node.records import DeliveryState, StudyState
from tests.crash.test_node_kill import StandInNode, study, until
from tests.node_process import Archive, configured
from tests.report_factories import graded_study
from tests.scripted_archive import AE_TITLE, answering

DATA = Path(__file__).resolve().parents[1] / "data"
STATES = {
    1: StudyState.RECEIVING,
    2: StudyState.QUEUED,
    3: StudyState.QUEUED,
    4: StudyState.GRADING,
    5: StudyState.GRADING,
    6: StudyState.GRADED,
    7: StudyState.DELIVERED,
    8: StudyState.FAILED,
}


def restore(name: str, file: Path) -> None:
    """A dump as a database. It is many weeks old: what waits in it must get its week from now on."""
    dump = (DATA / f"{name}-a9a346a.sql").read_text(encoding="utf-8")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(dump)
    connection.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    restore("node", tmp_path / "node.db")
    opened = open_ledger(f"sqlite:///{tmp_path}/node.db")
    yield opened
    opened.close()


def states(ledger: Ledger) -> Mapping[int, StudyState]:
    return {row.study.study_id: row.study.state for row in ledger.study_overview(limit=99)}


def test_every_study_of_the_older_ledger_stands_where_it_stood(ledger: Ledger) -> None:
    assert states(ledger) == STATES
    assert [len(ledger.instances(number)) for number in range(1, 9)] == [15] * 8
    assert ledger.study(4).attempts == 1


def test_what_was_on_its_way_still_is_and_what_had_arrived_has(ledger: Ledger) -> None:
    (due,) = ledger.due_deliveries(datetime.now(UTC), limit=9)
    assert (due.study_id, due.attempts, due.last_status) == (6, 3, "association refused")
    counts = ledger.delivery_counts()["pacs"]
    assert {state: count for state, count in counts.items() if count} == {
        DeliveryState.DUE: 1,
        DeliveryState.DELIVERED: 3,
    }


def test_the_older_ledger_was_of_the_older_revision(tmp_path: Path) -> None:
    restore("node", tmp_path / "node.db")
    engine = create_engine(f"sqlite:///{tmp_path}/node.db")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM ledger_version")).scalar() == "0001"
    engine.dispose()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_studies_in_flight_go_on_under_this_version(tmp_path: Path) -> None:
    with answering() as archive:
        to = Archive(name="pacs", ae_title=AE_TITLE, port=archive.port)
        plain = configured(tmp_path, [to], quiet_s=0.5, extra='[results]\noutputs = ["text_report"]\n')
        data = tmp_path / "data"
        data.mkdir()
        restore("node", data / "node.db")
        restore("node-jobs", data / "node-jobs.db")
        write_files(data)
        node = StandInNode(folder=plain.folder, port=plain.port, config=plain.config, grading_s=0.1)
        node.start()
        try:
            opened = node.ledger()
            until(lambda: _is_over(opened), 300, node)
            assert states(opened) == dict.fromkeys(range(1, 8), StudyState.DELIVERED) | {8: StudyState.FAILED}
            assert opened.study(4).attempts == 2
            assert opened.study(5).attempts == 1  # its checkpoint was found: it was not graded again
            arrived = {str(item.SOPInstanceUID) for item in archive.stored}
            assert {"2.25.590", "2.25.591", "2.25.691"} < arrived
            assert not arrived & {"2.25.690", "2.25.790", "2.25.791"}  # these had arrived under the older version
            assert len(arrived) == len(archive.stored) == 4 + 3
            opened.close()
        finally:
            node.stop()


def _is_over(ledger: Ledger) -> bool:
    waiting = ledger.counts_by_state()
    still = (StudyState.RECEIVING, StudyState.QUEUED, StudyState.GRADING, StudyState.GRADED)
    return not any(waiting[state] for state in still)


def write_files(data_dir: Path) -> None:
    """The files that the older ledger names: images of the drawn study, and documents under the results' UIDs."""
    ledger = open_ledger(f"sqlite:///{data_dir}/node.db")
    for number in range(1, 9):
        for image, kept in zip(study(number), ledger.instances(number), strict=True):
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = kept.sop_instance_uid
            _save(image, data_dir / "spool" / kept.path)
    ledger.close()
    document = graded_study().source[0]
    for number in (5, 6):
        for index in range(2):
            document.SOPInstanceUID = document.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number}9{index}"
            document.SOPClassUID = document.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
            _save(document, data_dir / f"spool/results/{number:02x}/{number:02x}{index:02x}{'0' * 60}.dcm")


def _save(dataset: object, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)  # type: ignore[attr-defined]
