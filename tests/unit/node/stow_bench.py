"""Three text reports sent to a web archive, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from node.retry import Failure
from node.sender import Stored
from node.stow_sender import send
from node.transport_security import ClientTls
from node.web_session import WebServer
from tests.scripted_web_archive import WebArchive

UIDS = tuple(f"2.25.99.{number}" for number in (1, 2, 3))


NO_TLS = ClientTls(ca_file=None, certificate_file=None, key_file=None, server_name="")


def server(url: str, token: Path | None = None, password: Path | None = None) -> WebServer:
    return WebServer(url=url, token_file=token, password_file=password, tls=NO_TLS, connect_timeout_s=2)


def sent(archive: WebArchive, paths: Sequence[Path]) -> list[Stored | Failure]:
    outcomes = list(send(paths, server(archive.url)))
    assert [outcome.path for outcome in outcomes] == list(paths)
    return [outcome.answer for outcome in outcomes]


def failures(answers: Sequence[Stored | Failure]) -> list[Failure]:
    assert all(isinstance(answer, Failure) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Failure)]
