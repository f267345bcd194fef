"""The webhook, against a real HTTP server: what is posted, and how it is proved to be us."""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.webhook import NotTold, Webhook
from tests import hook_server
from tests.certificates import Authority
from tests.hook_server import Hook
from tests.node_process import free_port

NOTICE = {
    "schema": 1,
    "event": "archive_down",
    "subject": "archive pacs",
    "text": "archive pacs: takes nothing since 12:00, for 15 min: keine Antwort für Größe",
    "at": "2026-03-01T12:00:00+00:00",
    "node": "SPINENODE@here",
    "occasion": "archive pacs archive_down 0",
}


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hook_server.running() as running:
        yield running


def webhook(url: str, **settings: Path) -> Webhook:
    return Webhook(url=url, timeout_s=5, **settings)


def secret(folder: Path, words: str) -> Path:
    path = folder / "secret"
    path.write_text(words, encoding="utf-8")
    return path


def test_a_notice_is_posted_as_json(hook: Hook) -> None:
    answer = webhook(hook.url).tell(NOTICE)

    (call,) = hook.calls
    assert answer == "HTTP 204"
    assert (call.method, call.path, call.headers["Content-Type"]) == ("POST", "/hook", "application/json")
    assert call.content == NOTICE
    assert "Authorization" not in call.headers


def test_the_same_notice_has_the_same_key_and_another_has_another(hook: Hook) -> None:
    for notice in (NOTICE, NOTICE, NOTICE | {"occasion": "another"}):
        webhook(hook.url).tell(notice)

    first, again, other = (call.headers["Idempotency-Key"] for call in hook.calls)
    assert first == again != other


def test_a_token_is_read_from_its_file_each_time(hook: Hook, tmp_path: Path) -> None:
    told = webhook(hook.url, token_file=secret(tmp_path, "first\n"))
    told.tell(NOTICE)
    secret(tmp_path, "second")
    told.tell(NOTICE)

    assert [call.headers["Authorization"] for call in hook.calls] == ["Bearer first", "Bearer second"]


def test_the_body_is_signed(hook: Hook, tmp_path: Path) -> None:
    webhook(hook.url, secret_file=secret(tmp_path, "key")).tell(NOTICE)

    (call,) = hook.calls
    expected = hmac.new(b"key", call.body, hashlib.sha256).hexdigest()
    assert call.headers["X-Spinenode-Signature"] == f"sha256={expected}"


@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
def test_anything_but_success_is_told_as_it_is(hook: Hook, status: int) -> None:
    hook.status = lambda _: status

    with pytest.raises(NotTold, match=f"HTTP {status}"):
        webhook(hook.url).tell(NOTICE)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_for_it_would_carry_the_token_elsewhere(hook: Hook, status: int) -> None:
    with hook_server.running() as elsewhere:
        hook.status, hook.location = (lambda _: status), elsewhere.url
        with pytest.raises(NotTold, match=f"HTTP {status}"):
            webhook(hook.url).tell(NOTICE)

        assert elsewhere.calls == []


def test_nobody_at_home_is_told_in_words() -> None:
    with pytest.raises(NotTold, match="refused"):
        webhook(f"http://127.0.0.1:{free_port()}/").tell(NOTICE)


def test_a_server_that_never_answers_is_not_waited_for_longer_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(NotTold, match="timed out"):
            Webhook(url=url, timeout_s=0.3).tell(NOTICE)


def test_a_server_that_talks_nonsense_is_no_fault_of_ours() -> None:
    import threading

    with socket.create_server(("127.0.0.1", 0)) as odd:

        def babble() -> None:
            connection, _ = odd.accept()
            with connection:
                connection.recv(100_000)
                connection.sendall(b"\x00\xff nonsense\r\n\r\n")

        threading.Thread(target=babble, daemon=True).start()
        with pytest.raises(NotTold, match="BadStatusLine"):
            webhook(f"http://127.0.0.1:{odd.getsockname()[1]}/").tell(NOTICE)


@pytest.mark.parametrize(("content", "said"), [(None, "cannot read"), ("", "is empty")])
def test_a_secret_that_is_not_there_is_named(hook: Hook, tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)

    with pytest.raises(NotTold, match=said):
        webhook(hook.url, token_file=path).tell(NOTICE)
    assert hook.calls == []


@pytest.mark.peers
def test_the_certificate_must_be_signed_by_who_is_trusted(
    tmp_path: Path, require_program: Callable[[str], Path]
) -> None:
    openssl = require_program("openssl")
    trusted, other = Authority(openssl, tmp_path), Authority(openssl, tmp_path, "other")
    with hook_server.running(trusted.identity("hook")) as hook:
        assert webhook(hook.url, ca_file=trusted.certificate).tell(NOTICE) == "HTTP 204"
        with pytest.raises(NotTold, match="CERTIFICATE_VERIFY_FAILED"):
            webhook(hook.url, ca_file=other.certificate).tell(NOTICE)
        with pytest.raises(NotTold, match="CERTIFICATE_VERIFY_FAILED"):
            webhook(hook.url).tell(NOTICE)

        assert len(hook.calls) == 1
