"""STOW-RS: what an answer says about each object is believed, and nothing that it does not say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from pydicom import Dataset

from node.retry import Failure
from node.sender import Stored
from node.stow_sender import MOST_OBJECTS, send
from tests.scripted_archive import closed_port
from tests.scripted_web_archive import Reply, all_stored, answering, statement
from tests.unit.node.outgoing_objects import text_report
from tests.unit.node.stow_bench import UIDS, failures, sent, server


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [text_report(tmp_path, number) for number in (1, 2, 3)]


class TestStatements:
    def test_all_stored_in_one_request(self, paths: list[Path]) -> None:
        with answering() as archive:
            assert sent(archive, paths) == [Stored(status="HTTP 200")] * 3
        assert archive.requests == [("/dicom-web/studies", list(UIDS))]
        assert archive.objects[0].PatientName == "Doe^Jane"

    @pytest.mark.parametrize("status", [200, 202, 409])
    def test_of_three_each_has_what_was_said_of_it(self, status: int, paths: list[Path]) -> None:
        def answer(_: Sequence[Dataset]) -> Reply:
            return statement({UIDS[0]: None}, {UIDS[1]: 0xC000, UIDS[2]: 0x0110}, status=status)

        with answering(answer) as archive:
            stored, refused, later = sent(archive, paths)
        assert stored == Stored(status=f"HTTP {status}")
        said = f"HTTP {status}, 0xC000 cannot understand"
        assert refused == Failure(what=said, permanent=True, content_refused=True)
        assert later == Failure(what=f"HTTP {status}, 0x0110 processing failure", permanent=False)

    def test_a_warning_is_kept(self, paths: list[Path]) -> None:
        with answering(lambda _: statement({UIDS[0]: 0xB000}, status=202)) as archive:
            (answer,) = sent(archive, paths[:1])
        assert answer == Stored(status="HTTP 202, 0xB000 warning: stored, with data elements coerced", warned=True)

    def test_a_class_that_it_does_not_take_can_go_in_another_form(self, paths: list[Path]) -> None:
        with answering(lambda _: statement(failed={UIDS[0]: 0x0122}, status=409)) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        assert (answer.class_refused, answer.form_refused, answer.permanent) == (True, True, True)

    @pytest.mark.parametrize("reason", [0x0111, 0xB00E])
    def test_what_it_has_already_has_arrived(self, reason: int, paths: list[Path]) -> None:
        with answering(lambda _: statement(failed={UIDS[0]: reason}, status=409)) as archive:
            (answer,) = sent(archive, paths[:1])
        assert answer == Stored(status=f"HTTP 409, 0x{reason:04X} the archive has this object already")

    def test_a_full_archive_is_a_failure_of_the_archive(self, paths: list[Path]) -> None:
        with answering(lambda _: statement(failed={UIDS[0]: 0xA700}, status=409)) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        assert answer.of_archive

    def test_an_object_that_the_answer_does_not_speak_of_has_not_arrived(self, paths: list[Path]) -> None:
        with answering(lambda _: statement({UIDS[0]: None})) as archive:
            stored, silent = sent(archive, paths[:2])
        assert isinstance(stored, Stored)
        assert silent == Failure(what="HTTP 200, and no word about the object", permanent=False)

    @pytest.mark.parametrize("reason", [None, 0x0000, 0xB000])
    def test_failed_without_a_reason_that_says_so_is_still_failed(self, reason: int | None, paths: list[Path]) -> None:
        with answering(lambda _: statement(failed={UIDS[0]: reason}, status=202)) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        assert not answer.permanent

    def test_an_empty_200_means_that_all_are_stored_and_an_empty_202_or_409_nothing(self, paths: list[Path]) -> None:
        for status in (200, 202, 409):
            with answering(lambda _, status=status: Reply(status=status)) as archive:  # type: ignore[misc]
                (answer,) = sent(archive, paths[:1])
            assert isinstance(answer, Stored) == (status == 200)

    def test_a_kind_of_json_with_a_charset_is_read_too(self, paths: list[Path]) -> None:
        kind = "application/dicom+json; charset=utf-8"
        with answering(lambda _: statement(failed={UIDS[0]: 0xC000}, status=202, kind=kind)) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        assert answer.what == "HTTP 202, 0xC000 cannot understand"


class TestOtherAnswers:
    @pytest.mark.parametrize("body", [b"<html>please log in</html>", b"{", b"[]", b'{"00081199": {"vr": "SQ"}}x'])
    def test_a_page_in_place_of_a_statement_stores_nothing(self, body: bytes, paths: list[Path]) -> None:
        with answering(lambda _: Reply(body=body, kind="text/html")) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        assert answer.what == "HTTP 200, but not in DICOM JSON: is stow_url right?"
        assert (answer.of_archive, answer.permanent) == (True, False)

    def test_a_redirect_is_not_followed_to_a_page_that_answers_200(self, paths: list[Path]) -> None:
        with answering(lambda _: Reply(status=302, headers={"Location": "/login"})) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        assert answer.what == "HTTP 302 Found: is stow_url right?"
        assert answer.of_archive
        assert len(archive.requests) == 1

    @pytest.mark.parametrize("status", [401, 403, 404, 405, 429, 502, 503, 504, 507])
    def test_what_concerns_the_archive_leaves_it_in_peace(self, status: int, paths: list[Path]) -> None:
        with answering(lambda _: Reply(status=status)) as archive:
            answers = failures(sent(archive, paths))
        assert len(archive.requests) == 1
        assert all(answer.of_archive and answer.out_of_reach and not answer.permanent for answer in answers)
        assert all(answer.what.startswith(f"HTTP {status}") for answer in answers)

    @pytest.mark.parametrize(("said", "seconds"), [("120", 120), ("", 0), ("soon", 0), ("-5", 0)])
    def test_when_it_wants_to_be_asked_again_is_told(self, said: str, seconds: float, paths: list[Path]) -> None:
        with answering(lambda _: Reply(status=503, headers={"Retry-After": said})) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        assert answer.retry_after_s == seconds

    def test_a_date_to_be_asked_again_is_understood(self, paths: list[Path]) -> None:
        at = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
        with answering(lambda _: Reply(status=503, headers={"Retry-After": at})) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        assert 200 < answer.retry_after_s <= 300

    @pytest.mark.parametrize("status", [400, 406, 413, 415, 422, 500])
    def test_one_object_that_spoils_a_request_does_not_spoil_the_others(self, status: int, paths: list[Path]) -> None:
        def answer(objects: Sequence[Dataset]) -> Reply:
            spoilt = any(item.SOPInstanceUID == UIDS[1] for item in objects)
            return Reply(status=status) if spoilt else all_stored(objects)

        with answering(answer) as archive:
            first, spoilt, third = sent(archive, paths)
        assert (first, third) == (Stored(status="HTTP 200"), Stored(status="HTTP 200"))
        assert isinstance(spoilt, Failure)
        assert spoilt.permanent == (status != 500)
        assert not spoilt.of_archive
        assert archive.uids == [list(UIDS), [UIDS[0]], [UIDS[1]], [UIDS[2]]]

    def test_too_large_says_so(self, paths: list[Path]) -> None:
        with answering(lambda _: Reply(status=413)) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        assert answer.what == "HTTP 413 Request Entity Too Large: the object is too large for the archive"
        assert answer.form_refused

    def test_nobody_there_is_said_with_address_and_reason(self, paths: list[Path]) -> None:
        port = closed_port()
        outcomes = list(send(paths, server(f"http://127.0.0.1:{port}/x")))
        said = f"cannot connect to http://127.0.0.1:{port}/x: Connection refused"
        expected = Failure(what=said, permanent=False, of_archive=True, tried=False, out_of_reach=True)
        assert [outcome.answer for outcome in outcomes] == [expected] * 3

    def test_a_host_that_is_unknown_is_said(self, paths: list[Path]) -> None:
        (outcome, *_) = send(paths, server("http://nowhere.invalid/x"))
        assert isinstance(outcome.answer, Failure)
        assert outcome.answer.what.startswith("cannot connect to http://nowhere.invalid/x: ")

    def test_after_the_archive_failed_the_next_request_is_not_made(self, tmp_path: Path) -> None:
        many = [text_report(tmp_path, number) for number in range(1, MOST_OBJECTS + 3)]
        with answering(lambda _: Reply(status=503)) as archive:
            answers = failures(sent(archive, many))
        assert len(archive.requests) == 1
        assert [answer.tried for answer in answers] == [True] * MOST_OBJECTS + [False] * 2
