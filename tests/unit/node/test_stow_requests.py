"""STOW-RS: what goes out, with which credentials and in which form; and answers that do not end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from node import web_session
from node.retry import Failure
from node.sender import Stored
from node.stow_sender import MOST_OBJECTS, probe, send
from tests.dripping_peer import dripping
from tests.scripted_archive import closed_port
from tests.scripted_web_archive import Reply, all_stored, answering, statement
from tests.unit.node.outgoing_objects import TEXT_SR, capture, text_report
from tests.unit.node.stow_bench import UIDS, failures, sent, server


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [text_report(tmp_path, number) for number in (1, 2, 3)]


class TestAnswersWithoutEnd:
    """None of them takes much of this node's memory or time, and what is said of it is true."""

    def test_one_that_is_too_large(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(web_session, "MOST_ANSWER_BYTES", 2**20)
        with answering(lambda _: Reply(body=b" " * (2**20 + 1))) as archive:
            first, *others = failures(sent(archive, paths))
        said = "the archive's answer cannot be read: it has more than 1 MB"
        assert first == Failure(what=said, permanent=False, of_archive=True)
        assert [other.what for other in others] == [said] * 2
        assert len(archive.requests) == 1

    def test_one_that_is_nested_too_deeply(self, paths: list[Path]) -> None:
        with answering(lambda _: Reply(body=b"[" * 100_000 + b"]" * 100_000)) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        said = "the archive's answer cannot be read: it is nested too deeply"
        assert answer == Failure(what=said, permanent=False, of_archive=True)

    @pytest.mark.parametrize("beginning", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
    @pytest.mark.timeout(30)
    def test_one_that_drips(self, beginning: bytes, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(web_session, "REQUEST_TIMEOUT_S", 0.5)
        with dripping(beginning) as port:
            (outcome,) = send(paths[:1], server(f"http://127.0.0.1:{port}/x"))
        said = f"http://127.0.0.1:{port}/x did not answer in time"
        assert outcome.answer == Failure(what=said, permanent=False, of_archive=True)

    @pytest.mark.timeout(30)
    def test_a_handshake_that_drips(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(web_session, "REQUEST_TIMEOUT_S", 0.5)
        with dripping(b"\x16\x03\x03\x40\x00") as port:
            (outcome,) = send(paths[:1], server(f"https://127.0.0.1:{port}/x"))
        said = f"https://127.0.0.1:{port}/x did not answer in time"
        assert outcome.answer == Failure(what=said, permanent=False, of_archive=True)

    def test_one_that_breaks_off(self, paths: list[Path]) -> None:
        with answering(lambda _: Reply(body=b"{", headers={"Transfer-Encoding": "chunked"})) as archive:
            (answer,) = failures(sent(archive, paths[:1]))
        said = "the archive's answer cannot be read: it broke off"
        assert answer == Failure(what=said, permanent=False, of_archive=True)

    def test_what_is_no_http_is_not_said_to_be_out_of_reach(self, paths: list[Path]) -> None:
        with dripping(b"220 mail.example ESMTP\r\n") as port:
            (outcome,) = send(paths[:1], server(f"http://127.0.0.1:{port}/x"))
        assert isinstance(outcome.answer, Failure)
        assert outcome.answer.what == f"http://127.0.0.1:{port}/x gave no answer in HTTP: BadStatusLine"


class TestRequests:
    def test_many_objects_go_in_several_requests(self, tmp_path: Path) -> None:
        many = [text_report(tmp_path, number) for number in range(1, MOST_OBJECTS + 3)]
        with answering() as archive:
            answers = sent(archive, many)
        assert all(isinstance(answer, Stored) for answer in answers)
        assert [len(uids) for uids in archive.uids] == [MOST_OBJECTS, 2]

    def test_a_file_that_is_gone_or_no_dicom_ends_alone(self, tmp_path: Path, paths: list[Path]) -> None:
        text = tmp_path / "notes.txt"
        text.write_text("no image")
        with answering() as archive:
            answers = {o.path: o.answer for o in send([tmp_path / "gone", text, paths[0]], server(archive.url))}
        assert answers[tmp_path / "gone"] == Failure(what="the file is gone", permanent=True, local=True)
        assert isinstance(answers[paths[0]], Stored)
        assert archive.uids == [[UIDS[0]]]

    def test_a_token_goes_with_every_request(self, tmp_path: Path, paths: list[Path]) -> None:
        token = tmp_path / "token"
        token.write_text("s3cret\n")
        token.chmod(0o600)
        with answering() as archive:
            list(send(paths[:1], server(archive.url, token=token)))
        assert archive.headers[0]["Authorization"] == "Bearer s3cret"

    def test_a_password_goes_as_basic_authentication(self, tmp_path: Path, paths: list[Path]) -> None:
        login = tmp_path / "login"
        login.write_text("node:pass:word")
        login.chmod(0o600)
        with answering() as archive:
            list(send(paths[:1], server(archive.url, password=login)))
        assert archive.headers[0]["Authorization"] == "Basic bm9kZTpwYXNzOndvcmQ="

    def test_without_credentials_those_of_the_home_directory_are_not_used(
        self, tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\n")
        monkeypatch.setenv("NETRC", str(netrc))
        with answering() as archive:
            list(send(paths[:1], server(archive.url)))
        assert "Authorization" not in archive.headers[0]

    @pytest.mark.parametrize(
        ("line", "mode", "said"),
        [
            (None, 0, "stow_token_file cannot be read: No such file or directory"),
            ("token", 0o644, "stow_token_file can be read by others: chmod 600"),
            ("", 0o600, "stow_token_file must hold one line"),
            ("one\ntwo", 0o600, "stow_token_file must hold one line"),
        ],
    )
    def test_a_bad_file_of_credentials_is_named_and_nothing_is_sent(
        self, line: str | None, mode: int, said: str, tmp_path: Path, paths: list[Path]
    ) -> None:
        token = tmp_path / "token"
        if line is not None:
            token.write_text(line)
            token.chmod(mode)
        with answering() as archive:
            (outcome,) = send(paths[:1], server(archive.url, token=token))
        assert outcome.answer == Failure(what=said, permanent=False, of_archive=True, tried=False, out_of_reach=True)
        assert archive.requests == []


class TestTransferSyntaxes:
    def test_the_first_that_the_object_can_have(self, tmp_path: Path) -> None:
        paths = [capture(tmp_path, 1), text_report(tmp_path, 2)]
        with answering() as archive:
            list(send(paths, server(archive.url), [RLELossless, ImplicitVRLittleEndian]))
        sent_in = [item.file_meta.TransferSyntaxUID for item in archive.objects]
        assert sent_in == [RLELossless, ImplicitVRLittleEndian]

    def test_one_that_it_refuses_compressed_goes_as_it_was_made(self, tmp_path: Path) -> None:
        def answer(objects: Sequence[Dataset]) -> Reply:
            if objects[0].file_meta.TransferSyntaxUID == RLELossless:
                return statement(failed={UIDS[0]: 0xC000}, status=409)
            return all_stored(objects)

        with answering(answer) as archive:
            (outcome,) = send([capture(tmp_path, 1)], server(archive.url), [RLELossless])
        assert outcome.answer == Stored(status="HTTP 200")
        assert archive.objects[-1].file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


class TestProbe:
    @pytest.mark.parametrize("status", [200, 204, 400, 404, 405, 501])
    def test_a_server_that_answers_works_even_if_it_has_no_options(self, status: int) -> None:
        with answering(probe_status=status) as archive:
            assert probe(server(archive.url)) is None

    @pytest.mark.parametrize("status", [302, 401, 403, 429, 500, 502, 503])
    def test_one_that_cannot_serve_us_does_not(self, status: int) -> None:
        with answering(probe_status=status) as archive:
            failure = probe(server(archive.url))
        assert failure is not None
        assert failure.what.startswith(f"HTTP {status}")

    def test_nobody_there(self) -> None:
        failure = probe(server(f"http://127.0.0.1:{closed_port()}/x"))
        assert failure is not None
        assert replace(failure, what="") == Failure(
            what="", permanent=False, of_archive=True, tried=False, out_of_reach=True
        )


def test_the_report_is_what_it_says_it_is(paths: list[Path]) -> None:
    with answering() as archive:
        sent(archive, paths)
    assert {item.SOPClassUID for item in archive.objects} == {TEXT_SR}
