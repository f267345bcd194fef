"""What an archive says when it is asked: that it answers, what it takes, what it refuses."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from node.__main__ import main
from node.echo import ask, lines
from node.sender import Peer, SendError
from tests.scripted_archive import AE_TITLE, answering, closed_port

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")


TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def peer(port: int) -> Peer:
    return Peer(host="127.0.0.1", port=port, ae_title=AE_TITLE, calling_ae_title="SPINENODE", connect_timeout_s=2)


def test_it_tells_what_the_archive_takes_and_in_which_transfer_syntaxes() -> None:
    with answering(sop_classes=[TEXT_SR], transfer_syntaxes=["1.2.840.10008.1.2"]) as archive:
        answer = ask(peer(archive.port))
    assert answer.status == "0x0000 success"
    assert answer.accepted == (("Basic Text SR Storage", ("Implicit VR Little Endian",)),)
    assert len(answer.refused) == 12
    assert answer.refused[-2:] == (
        "Storage Commitment Push Model SOP Class",
        "Study Root Query/Retrieve Information Model - FIND",
    )
    assert "Comprehensive 3D SR Storage" in answer.refused


def test_the_operator_reads_it_line_by_line() -> None:
    with answering() as archive:
        asked = peer(archive.port)
        told = lines("pacs", asked, ask(asked))
    assert re.fullmatch(rf"pacs \({AE_TITLE}@127\.0\.0\.1:\d+\): 0x0000 success, without TLS(, \S+)?", told[0])
    assert "  accepts Basic Text SR Storage (Explicit VR Little Endian, Implicit VR Little Endian)" in told


def test_nobody_there_is_said_with_the_reason() -> None:
    with pytest.raises(SendError, match=r"cannot connect to 127\.0\.0\.1"):
        ask(peer(closed_port()))


def test_all_archives_of_the_settings_are_asked_and_the_silent_ones_end_in_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = closed_port()
    with answering() as archive:
        ports = (archive.port, silent)
        tables = [
            f'{{"name": "a{n}", "ae_title": "{AE_TITLE}", "host": "127.0.0.1", "port": {p}}}'
            for n, p in enumerate(ports)
        ]
        monkeypatch.setenv("SPINENODE_ARCHIVES", f"[{', '.join(tables)}]")
        result = CliRunner().invoke(main, ["echo"])
    assert result.exit_code == 1
    assert f"a0 ({AE_TITLE}@127.0.0.1:{ports[0]}): 0x0000 success" in result.output
    assert f"a1: cannot connect to 127.0.0.1:{silent}: Connection refused" in result.output


def test_those_who_send_and_are_asked_for_counts_are_peers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = closed_port()
    with answering(sop_classes=[STUDY_ROOT_FIND]) as archive:
        tables = [f'{{"ae_title": "{AE_TITLE}", "query_host": "127.0.0.1", "query_port": {archive.port}}}']
        tables += [f'{{"ae_title": "AWAY", "query_host": "127.0.0.1", "query_port": {silent}}}', '{"ae_title": "MUTE"}']
        monkeypatch.setenv("SPINENODE_SENDERS", f"[{', '.join(tables)}]")
        result = CliRunner().invoke(main, ["echo"])
    assert result.exit_code == 1
    where = f"{AE_TITLE}, which sends ({AE_TITLE}@127.0.0.1:{archive.port})"
    assert f"{where}: 0x0000 success, without TLS" in result.output
    assert "  accepts Study Root Query/Retrieve Information Model - FIND" in result.output
    assert f"AWAY, which sends: cannot connect to 127.0.0.1:{silent}" in result.output
    assert "MUTE" not in result.output
