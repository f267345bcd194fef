"""What is wrong with the certificates and credentials of an archive is said before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from node.__main__ import main
from node.archive_security import way_there, why_unusable
from node.settings_delivery import ArchiveSettings

DIMSE = {"name": "pacs", "ae_title": "PACS", "host": "192.0.2.1", "port": 104}
WEB = {"name": "web", "stow_url": "https://pacs.example/dicom-web"}


def archive(**settings: object) -> ArchiveSettings:
    return ArchiveSettings.model_validate(settings)


def test_without_files_nothing_can_be_wrong_with_them() -> None:
    assert why_unusable(archive(**DIMSE)) == ""
    assert why_unusable(archive(**WEB)) == ""
    assert why_unusable(archive(**DIMSE, tls=True)) == ""


def test_a_missing_authority_is_named_with_archive_and_key(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    said = "tls_ca_file cannot be used: No such file or directory"
    assert why_unusable(archive(**DIMSE, tls=True, tls_ca_file=missing)) == f"archives.pacs: {said}"
    assert why_unusable(archive(**WEB, tls_ca_file=missing)) == f"archives.web: {said}"


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    text = tmp_path / "node.crt"
    text.write_text("no certificate")
    files = {"tls_certificate_file": text, "tls_key_file": text}
    assert why_unusable(archive(**DIMSE, tls=True, **files)).startswith(
        "archives.pacs: tls_certificate_file and tls_key_file cannot be used: "
    )


def test_a_password_without_a_user_is_named(tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("secret")
    login.chmod(0o600)
    said = "archives.web: stow_password_file must hold one line, user:password"
    assert why_unusable(archive(**WEB, stow_password_file=login)) == said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (DIMSE, "PACS@192.0.2.1:104, without TLS"),
        (DIMSE | {"tls": True}, "PACS@192.0.2.1:104, with TLS"),
        (WEB, "https://pacs.example/dicom-web (STOW-RS), with no credentials"),
        (WEB | {"stow_token_file": "t"}, "https://pacs.example/dicom-web (STOW-RS), with a token"),
    ],
)
def test_the_way_there_in_words(settings: dict[str, object], words: str) -> None:
    assert way_there(archive(**settings)) == words


def test_config_check_tells_the_ways_and_ends_with_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        '[[archives]]\nname = "web"\nstow_url = "https://pacs.example/dicom-web"\nstow_token_file = "missing"\n'
    )
    answer = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert answer.exit_code == 1
    assert "  archive web: https://pacs.example/dicom-web (STOW-RS), with a token\n" in answer.output
    assert "archives.web: stow_token_file cannot be read: No such file or directory" in answer.output
