"""Settings of being told: no secret travels in clear, nobody is told half, and each refusal names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.settings import SettingsError, load


def written(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[notices]\nwebhook_url = "ftp://host/x"\n', r"notices\.webhook_url: .*https://host/path"),
        ('[notices]\nwebhook_url = "hook"\n', r"notices\.webhook_url"),
        ('[notices]\nwebhook_url = "https://me:secret@host/"\n', r"notices\.webhook_url: .*webhook_token_file"),
        ('[notices]\nwebhook_url = "http://host/"\nwebhook_token_file = "t"\n', r"notices: .*in clear"),
        ('[notices]\nemail_host = "mail"\n', r"notices: .*email_from and email_to"),
        (
            '[notices]\nemail_host = "mail"\nemail_from = "a@b"\nemail_to = ["c@d"]\nemail_user = "x"\n',
            r"notices: .*email_password_file belong together",
        ),
        (
            '[notices]\nemail_host = "mail"\nemail_from = "a@b"\nemail_to = ["c@d"]\nemail_user = "x"\n'
            'email_password_file = "p"\nemail_security = "none"\n',
            r"notices: .*in clear",
        ),
        ('[notices]\nevents = ["archive_up"]\n', r"notices\.events\.0"),
        ("[notices]\nwebhook = 1\n", r"notices\.webhook: unknown key"),
        ("[monitoring]\nport = 70000\n", r"monitoring\.port"),
        ("[monitoring]\nsilent_after_s = 1\n", r"monitoring\.silent_after_s"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        load(written(tmp_path, text))
    assert "secret" not in str(refused.value)


def test_a_node_is_monitored_unless_nobody_wants_to_know(tmp_path: Path) -> None:
    assert load(None).is_monitored
    assert not load(written(tmp_path, "[monitoring]\nport = 0\n")).is_monitored
    assert load(written(tmp_path, '[monitoring]\nport = 0\n[notices]\nwebhook_url = "https://h/"\n')).is_monitored


def test_monitoring_listens_to_this_machine_alone_until_told_otherwise() -> None:
    assert load(None).monitoring.host == "127.0.0.1"
