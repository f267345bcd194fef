"""The sending archive is asked when a study pauses, again while it says that images are missing, and not in between."""

from __future__ import annotations

from datetime import datetime

from node.assembly import Comparison, Untold
from node.enquiries import Enquiries
from node.ledger import Ledger
from node.query import QueryError
from node.records import ArchiveCounts, OpenStudy, SeriesCount
from node.settings import SenderSettings
from tests.unit.node.received_instances import after, image

SENDER = SenderSettings(ae_title="MODALITY", query_host="127.0.0.1")
AWAITED = Untold(why="the sending archive did not answer in time", awaited=True)


class Archive:
    """Says what it is told to."""

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.asked: list[str] = []

    def __call__(self, sender: SenderSettings, study_instance_uid: str) -> ArchiveCounts:
        self.asked.append(study_instance_uid)
        if self.count is None:
            raise QueryError("it does not answer")
        series = SeriesCount(series_instance_uid="1.2.3.1", modality="MR", instance_count=self.count)
        return ArchiveCounts(series=(series,))


def enquiries_of(ledger: Ledger, archive: Archive) -> Enquiries:
    return Enquiries(ledger, archive, ae_titles=[SENDER.ae_title], count_confirmed_s=15)


def receive(ledger: Ledger, number: int, at: datetime) -> OpenStudy:
    ledger.record_instance(image(number, at=at))
    (study,) = ledger.open_studies()
    return study


def test_a_study_that_pauses_is_compared_with_the_archive(ledger: Ledger) -> None:
    archive = Archive(3)
    enquiries = enquiries_of(ledger, archive)
    study = receive(ledger, 1, after(0))
    enquiries.ask(SENDER, lambda: after(1))
    assert archive.asked == []
    assert enquiries.known_of([study], after(1)) == {study.study_id: AWAITED}
    enquiries.ask(SENDER, lambda: after(2))
    assert archive.asked == ["1.2.3"]
    lacking = frozenset({"1.2.3.1"})
    known = Comparison(missing=2, expected=3, mr_series_not_begun=0, series_lacking=lacking)
    assert enquiries.known_of([study], after(2)) == {study.study_id: known}


def test_an_image_that_comes_later_makes_the_answer_worthless(ledger: Ledger) -> None:
    enquiries = enquiries_of(ledger, Archive(1))
    receive(ledger, 1, after(0))
    enquiries.ask(SENDER, lambda: after(2))
    study = receive(ledger, 2, after(3))
    assert enquiries.known_of([study], after(3)) == {study.study_id: AWAITED}


def test_it_is_asked_again_after_a_while_only(ledger: Ledger) -> None:
    archive = Archive(3)
    enquiries = enquiries_of(ledger, archive)
    receive(ledger, 1, after(0))
    times = iter([after(seconds) for seconds in (2, 2, 3, 11, 12, 12, 13)])
    for _ in range(5):
        enquiries.ask(SENDER, lambda: next(times))
    assert len(archive.asked) == 2


def told_for_s(enquiries: Enquiries, study: OpenStudy) -> float:
    known = enquiries.known_of([study], after(100))[study.study_id]
    assert isinstance(known, Comparison)
    return known.told_for_s


def test_a_count_that_may_end_a_study_is_asked_for_again_when_it_would_be_confirmed(ledger: Ledger) -> None:
    archive = Archive(1)
    enquiries = enquiries_of(ledger, archive)
    study = receive(ledger, 1, after(0))
    asked_at = []
    for second in range(2, 18):
        before = len(archive.asked)
        enquiries.ask(SENDER, lambda at=second: after(at))
        asked_at += [second] * (len(archive.asked) - before)
    assert asked_at == [2, 12, 17]
    assert told_for_s(enquiries, study) == 15


def test_an_archive_that_fills_begins_anew_with_each_count(ledger: Ledger) -> None:
    archive = Archive(1)
    enquiries = enquiries_of(ledger, archive)
    study = receive(ledger, 1, after(0))
    seconds = []
    for second, count in ((2, 1), (12, 1), (22, 3), (32, 1), (42, 1)):
        archive.count = count
        enquiries.ask(SENDER, lambda at=second: after(at))
        seconds.append(told_for_s(enquiries, study))
    assert seconds == [0, 10, 0, 0, 10]


def test_a_new_image_and_a_query_that_failed_begin_anew_too(ledger: Ledger) -> None:
    archive = Archive(2)
    enquiries = enquiries_of(ledger, archive)
    receive(ledger, 1, after(0))
    enquiries.ask(SENDER, lambda: after(2))
    study = receive(ledger, 2, after(5))
    enquiries.ask(SENDER, lambda: after(12))
    assert told_for_s(enquiries, study) == 0
    archive.count = None
    enquiries.ask(SENDER, lambda: after(22))
    archive.count = 2
    enquiries.ask(SENDER, lambda: after(32))
    assert told_for_s(enquiries, study) == 0


def test_an_archive_that_cannot_be_asked_leaves_the_quiet_time_and_why(ledger: Ledger) -> None:
    enquiries = enquiries_of(ledger, Archive(None))
    study = receive(ledger, 1, after(0))
    enquiries.ask(SENDER, lambda: after(2))
    untold = Untold(why="the sending archive could not be asked: it does not answer")
    assert enquiries.known_of([study], after(2)) == {study.study_id: untold}


def test_the_first_answer_is_awaited_for_a_minute_from_the_first_look(ledger: Ledger) -> None:
    enquiries = enquiries_of(ledger, Archive(1))
    study = receive(ledger, 1, after(0))
    hour = 3600
    assert enquiries.known_of([study], after(hour)) == {study.study_id: AWAITED}, "the node was down meanwhile"
    assert enquiries.known_of([study], after(hour + 59)) == {study.study_id: AWAITED}
    late = Untold(why=AWAITED.why, awaited=False)
    assert enquiries.known_of([study], after(hour + 60)) == {study.study_id: late}


def test_a_sender_that_cannot_be_asked_is_not_awaited(ledger: Ledger) -> None:
    study = receive(ledger, 1, after(0))
    assert Enquiries(ledger, Archive(1), ae_titles=["OTHER"], count_confirmed_s=15).known_of([study], after(1)) == {}


def test_studies_of_another_sender_are_not_its_business(ledger: Ledger) -> None:
    archive = Archive(3)
    receive(ledger, 1, after(0))
    Enquiries(ledger, archive, ae_titles=["OTHER"], count_confirmed_s=15).ask(
        SenderSettings(ae_title="OTHER", query_host="h"), lambda: after(5)
    )
    assert archive.asked == []
