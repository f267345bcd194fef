"""`spinenode notices`: what was told, what waits, and a test of the channels."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from click.testing import CliRunner, Result

from node.__main__ import main
from node.ledger_database import open_database
from node.ledger_notices import Notices
from node.notices import Event, NoticeToRaise
from tests import hook_server
from tests.node_process import free_port
from tests.unit.node.received_instances import NOON, after


def run(folder: Path, notices: str, *words: str) -> Result:
    config = folder / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{folder}"\n[notices]\n{notices}', encoding="utf-8")
    return CliRunner().invoke(main, ("notices", *words, "--config", str(config)), prog_name="spinenode")


def test_what_was_told_and_what_waits_is_shown(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'node.db'}")
    notices = Notices(database)
    for number, channel in enumerate(("webhook", "email")):
        notices.raise_once(
            [NoticeToRaise(occasion="x", subject="s", event=Event.ARCHIVE_DOWN, text="it is down", channel=channel)],
            now=after(number),
        )
    first, second = notices.take(("webhook", "email"), now=after(9), until=after(9) + timedelta(minutes=5), limit=9)
    notices.sent(first.notice_id, status="taken", now=after(10))
    notices.postponed(second.notice_id, status="SMTP 451", not_before=after(20))
    database.close()

    assert run(tmp_path, "").output.splitlines() == [
        "2026-03-01 12:00:00Z  webhook  archive_down  told 2026-03-01 12:00:10Z",
        "    it is down",
        "2026-03-01 12:00:01Z  email    archive_down  waits after 1 attempts: SMTP 451",
        "    it is down",
    ]
    assert after(0) == NOON


def test_a_node_that_tells_nobody_says_so(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'node.db'}").close()

    assert "set [notices]" in run(tmp_path, "").output
    answer = run(tmp_path, "", "--test")
    assert answer.exit_code == 1
    assert "webhook_url or email_host" in answer.output


def test_a_test_says_of_each_channel_whether_it_works(tmp_path: Path) -> None:
    with hook_server.running() as hook:
        mail = f'email_host = "127.0.0.1"\nemail_port = {free_port()}\nemail_from = "a@b"\nemail_to = ["c@d"]\n'
        answer = run(tmp_path, f'webhook_url = "{hook.url}"\n{mail}', "--test")

    assert answer.exit_code == 1
    assert "webhook: HTTP 204" in answer.output
    assert "email: ConnectionRefusedError" in answer.output
    assert hook.calls[0].content["event"] == "test"
