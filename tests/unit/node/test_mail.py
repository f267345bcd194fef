"""E-mail, against a real SMTP server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.mail import Mailbox
from node.webhook import NotTold
from tests import mail_server
from tests.certificates import Authority
from tests.node_process import free_port

NOTICE = {
    "event": "archive_down",
    "subject": "archive pacs",
    "text": "archive pacs: takes nothing since 2026-03-01 12:00:00Z (15 min ago): no answer. 12 results wait",
    "at": "2026-03-01T12:15:00+00:00",
    "node": "SPINENODE@here",
    "occasion": "archive pacs archive_down 0",
}


def mailbox(port: int, **changes: Any) -> Mailbox:
    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "sender": "spinenode@hospital.example",
        "recipients": ("pacs@hospital.example", "night@hospital.example"),
        "timeout_s": 5,
    }
    return Mailbox(**(settings | changes))


def test_everybody_gets_a_mail_that_says_it_in_the_subject_and_in_short_lines() -> None:
    with mail_server.running() as server:
        answer = mailbox(server.port).tell(NOTICE)

    assert answer == "taken for 2 of 2"
    assert server.recipients == [["pacs@hospital.example", "night@hospital.example"]]
    (mail,) = server.messages
    assert mail["Subject"] == "[spinenode SPINENODE@here] archive pacs: DOWN"
    assert mail["Date"] == "Sun, 01 Mar 2026 12:15:00 +0000"
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_content()
    assert " ".join(text.split()).startswith(NOTICE["text"])
    assert all(len(line) <= 76 for line in text.splitlines())


def test_the_same_notice_is_the_same_mail_to_a_mail_reader() -> None:
    with mail_server.running() as server:
        for notice in (NOTICE, NOTICE, NOTICE | {"occasion": "another"}):
            mailbox(server.port).tell(notice)

    first, again, other = (mail["Message-ID"] for mail in server.messages)
    assert first == again != other


def test_one_that_is_refused_does_not_keep_it_from_the_other() -> None:
    with mail_server.running() as server:
        server.refused = {"night@hospital.example"}
        assert mailbox(server.port).tell(NOTICE) == "taken for 1 of 2"

        server.refused = {"night@hospital.example", "pacs@hospital.example"}
        with pytest.raises(NotTold, match="every recipient was refused: 550"):
            mailbox(server.port).tell(NOTICE)


def test_a_refusal_is_told_by_its_code() -> None:
    with mail_server.running() as server:
        server.answer = "451 try later, SECRET"
        with pytest.raises(NotTold, match=r"^SMTP 451$"):
            mailbox(server.port).tell(NOTICE)


def test_nobody_at_home_is_told_in_words() -> None:
    with pytest.raises(NotTold, match="refused"):
        mailbox(free_port()).tell(NOTICE)


def test_a_server_without_starttls_gets_neither_password_nor_mail(tmp_path: Path) -> None:
    with mail_server.running() as server:
        with pytest.raises(NotTold, match="STARTTLS"):
            mailbox(server.port, security="starttls").tell(NOTICE)

        assert server.messages == []


@pytest.mark.peers
def test_starttls_with_a_password_for_who_is_trusted(tmp_path: Path, require_program: Callable[[str], Path]) -> None:
    openssl = require_program("openssl")
    trusted, other = Authority(openssl, tmp_path), Authority(openssl, tmp_path, "other")
    password = tmp_path / "password"
    password.write_bytes(mail_server.PASSWORD + b"\n")
    with mail_server.running(trusted.identity("mail"), demands_login=True) as server:
        known = mailbox(
            server.port,
            security="starttls",
            user=mail_server.USER.decode(),
            password_file=password,
            ca_file=trusted.certificate,
        )
        assert known.tell(NOTICE) == "taken for 2 of 2"

        with pytest.raises(NotTold, match="CERTIFICATE_VERIFY_FAILED"):
            mailbox(server.port, security="starttls", ca_file=other.certificate).tell(NOTICE)
        password.write_text("wrong")
        with pytest.raises(NotTold, match="SMTP 535"):
            known.tell(NOTICE)
        assert len(server.messages) == 1
