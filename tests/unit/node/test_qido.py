"""Queries of a DICOMweb archive: what it holds, and every way not to say so."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from node import qido, web_session
from node.query import QueryError
from node.transport_security import ClientTls
from node.web_session import WebServer
from tests.dripping_peer import dripping
from tests.scripted_archive import closed_port

NO_TLS = ClientTls(ca_file=None, certificate_file=None, key_file=None, server_name="")
Answer = Callable[[str], tuple[int, bytes]]


@contextmanager
def archive(answer: Answer) -> Iterator[tuple[WebServer, list[str]]]:
    """A listening archive that answers a GET of a path, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('Authorization', '')}".strip())
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server_at(server.server_address[1]), asked
        finally:
            server.shutdown()


def server_at(port: int, token_file: Path | None = None) -> WebServer:
    return WebServer(
        url=f"http://127.0.0.1:{port}/dicom-web",
        token_file=token_file,
        password_file=None,
        tls=NO_TLS,
        connect_timeout_s=2,
    )


def instances(*uids: str, availability: str = "") -> bytes:
    rows = []
    for uid in uids:
        row = {"00080018": {"vr": "UI", "Value": [uid]}}
        if availability:
            row["00080056"] = {"vr": "CS", "Value": [availability]}
        rows.append(row)
    return json.dumps(rows).encode()


def test_the_series_is_asked_for_at_once() -> None:
    with archive(lambda _: (200, instances("2.25.1", "2.25.2", "2.25.3"))) as (server, asked):
        assert qido.held(server, "1.2", "1.2.3", ["2.25.1", "2.25.2"]) == {"2.25.1", "2.25.2"}
    assert [urlsplit(path).path for path in asked] == ["/dicom-web/studies/1.2/series/1.2.3/instances"]


def test_what_is_not_among_the_answers_is_asked_for_by_itself() -> None:
    """Archives cut long answers off."""

    def answer(path: str) -> tuple[int, bytes]:
        wanted = parse_qs(urlsplit(path).query).get("SOPInstanceUID")
        if wanted is None:
            return 200, instances("2.25.1")
        return 200, instances(*wanted) if wanted == ["2.25.2"] else instances()

    with archive(answer) as (server, asked):
        assert qido.held(server, "1.2", "1.2.3", ["2.25.1", "2.25.2", "2.25.3"]) == {"2.25.1", "2.25.2"}
    assert len(asked) == 3


def test_no_content_is_nothing_found() -> None:
    with archive(lambda _: (204, b"")) as (server, _):
        assert qido.held(server, "1.2", "1.2.3", ["2.25.1"]) == frozenset()


def test_what_cannot_be_given_back_is_not_held() -> None:
    with archive(lambda _: (200, instances("2.25.1", availability="UNAVAILABLE"))) as (server, _):
        assert qido.held(server, "1.2", "1.2.3", ["2.25.1"]) == frozenset()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"", "answered a query .* with 401"),
        (503, b"", "answered a query .* with 503"),
        (200, b"<html>", "cannot be understood|did not answer"),
        (200, b'{"00080018": 1}', "cannot be understood"),
        (200, b"[1, 2]", "cannot be understood"),
    ],
)
def test_other_answers_are_no_answer_about_the_objects(status: int, body: bytes, said: str) -> None:
    with archive(lambda _: (status, body)) as (server, _), pytest.raises(QueryError, match=said):
        qido.held(server, "1.2", "1.2.3", ["2.25.1"])


def test_an_answer_without_end_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_session, "MOST_ANSWER_BYTES", 2**20)
    large, deep = b" " * (2**20 + 1), b"[" * 100_000 + b"]" * 100_000
    for body, said in ((large, "cannot be read: it has more than 1 MB"), (deep, "cannot be understood")):
        with archive(lambda _, body=body: (200, body)) as (server, _), pytest.raises(QueryError, match=said):  # type: ignore[misc]
            qido.held(server, "1.2", "1.2.3", ["2.25.1"])


@pytest.mark.timeout(30)
def test_an_answer_that_drips_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_session, "REQUEST_TIMEOUT_S", 0.5)
    with dripping(b"HTTP/1.1 200 OK\r\n\r\n") as port, pytest.raises(QueryError, match="did not answer a query"):
        qido.held(server_at(port), "1.2", "1.2.3", ["2.25.1"])


def test_nobody_there_is_no_answer() -> None:
    with pytest.raises(QueryError, match="did not answer a query"):
        qido.held(server_at(closed_port()), "1.2", "1.2.3", ["2.25.1"])


def test_the_token_goes_with_the_query(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n", encoding="ascii")
    token.chmod(0o600)
    with archive(lambda _: (200, instances("2.25.1"))) as (server, asked):
        port = int(urlsplit(server.url).port or 0)
        qido.held(server_at(port, token), "1.2", "1.2.3", ["2.25.1"])
    assert asked[0].endswith("Bearer secret")


def test_a_token_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="stow_token_file"):
        qido.held(server_at(closed_port(), tmp_path / "nowhere"), "1.2", "1.2.3", ["2.25.1"])
