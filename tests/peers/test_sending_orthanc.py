"""Sending to a real Orthanc: C-STORE and STOW-RS, in the clear and with TLS, certificates and credentials."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from node import query
from node.association import peer_of
from node.outlets import outlet_of
from node.retry import Failure
from node.sender import SendError, Stored, echo
from node.settings import SenderSettings
from node.settings_delivery import ArchiveSettings
from tests.certificates import Authority, Identity
from tests.orthanc_process import AE_TITLE, Orthanc, running
from tests.tls_front import front
from tests.unit.node.outgoing_objects import capture, text_report

pytestmark = [  # pynetdicom leaves the socket of a connection that failed to the garbage collector
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:.*unclosed <s", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

Find = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _failed_sockets_end_with_their_test() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def authority(require_program: Find, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(require_program("openssl"), tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def plain(require_program: Find, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(require_program("Orthanc"), tmp_path_factory.mktemp("plain")) as orthanc:
        yield orthanc


@pytest.fixture(scope="module")
def node_identity(authority: Authority) -> Identity:
    return authority.identity("node")


@pytest.fixture(scope="module")
def guarded(require_program: Find, tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Orthanc]:
    """HTTP with a login; DICOM over TLS, for those alone who show a certificate of the authority."""
    folder = tmp_path_factory.mktemp("guarded")
    own = authority.identity("orthanc")
    with running(
        require_program("Orthanc"),
        folder,
        login="node:secret",
        AuthenticationEnabled=True,
        RegisteredUsers={"node": "secret"},
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(own.certificate),
        DicomTlsPrivateKey=str(own.key),
        DicomTlsTrustedCertificates=str(authority.certificate),
        DicomTlsRemoteCertificateRequired=True,
        DicomAlwaysAllowFind=True,
    ) as orthanc:
        yield orthanc


@pytest.fixture(scope="module")
def https(guarded: Orthanc, authority: Authority) -> Iterator[str]:
    """URL of its DICOMweb behind TLS that wants a certificate. (Debian's Orthanc falls over its own HTTPS.)"""
    with front(guarded.http_port, authority.identity("front"), authority.certificate) as port:
        yield f"https://127.0.0.1:{port}/dicom-web"


def archive(orthanc: Orthanc, **settings: object) -> ArchiveSettings:
    reached = {"name": "pacs", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": orthanc.dicom_port}
    return ArchiveSettings.model_validate(reached | settings)


def web(orthanc: Orthanc, **settings: object) -> ArchiveSettings:
    return ArchiveSettings.model_validate({"name": "pacs", "stow_url": f"{orthanc.url}/dicom-web"} | settings)


def private(file: Path, line: str) -> Path:
    file.write_text(line, encoding="utf-8")
    file.chmod(0o600)
    return file


def answers(target: ArchiveSettings, *paths: Path) -> list[Stored | Failure]:
    return [outcome.answer for outcome in outlet_of(target, 5).send(paths)]


def held(orthanc: Orthanc, study: str) -> set[str]:
    """SOP Instance UIDs that it has of a study."""
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study}, "Expand": True}
    return {item["MainDicomTags"]["SOPInstanceUID"] for item in orthanc.ask("/tools/find", query)}


def syntaxes(orthanc: Orthanc, study: str) -> set[str]:
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study}}
    return {
        orthanc.ask(f"/instances/{number}/metadata?expand")["TransferSyntax"]
        for number in orthanc.ask("/tools/find", query)
    }


def written(folder: Path, study: str) -> tuple[Path, Path]:
    return text_report(folder, 1, study=study), capture(folder, 2, study=study)


class TestInTheClear:
    def test_by_c_store(self, plain: Orthanc, tmp_path: Path) -> None:
        target = archive(plain)
        assert outlet_of(target, 5).probe() is None
        assert answers(target, *written(tmp_path, "2.25.51")) == [Stored(status="0x0000 success")] * 2
        assert held(plain, "2.25.51") == {"2.25.51.1", "2.25.51.2"}

    def test_by_stow(self, plain: Orthanc, tmp_path: Path) -> None:
        target = web(plain)
        assert outlet_of(target, 5).probe() is None
        assert answers(target, *written(tmp_path, "2.25.52")) == [Stored(status="HTTP 200")] * 2
        assert held(plain, "2.25.52") == {"2.25.52.1", "2.25.52.2"}

    def test_by_stow_again_it_stays_one_object(self, plain: Orthanc, tmp_path: Path) -> None:
        report, _ = written(tmp_path, "2.25.53")
        for _ in range(2):
            (answer,) = answers(web(plain), report)
            assert isinstance(answer, Stored)
        assert held(plain, "2.25.53") == {"2.25.53.1"}

    @pytest.mark.parametrize("way", ["c_store", "stow"])
    def test_in_a_preferred_transfer_syntax_where_the_object_can_have_it(
        self, way: str, plain: Orthanc, tmp_path: Path
    ) -> None:
        study = "2.25.54" if way == "stow" else "2.25.55"
        target = (web if way == "stow" else archive)(plain, transfer_syntaxes=["rle_lossless"])
        assert all(isinstance(answer, Stored) for answer in answers(target, *written(tmp_path, study)))
        assert syntaxes(plain, study) == {RLELossless, ExplicitVRLittleEndian}  # a report has no pixels to compress

    def test_stow_to_a_wrong_place_says_what_to_look_at(self, plain: Orthanc, tmp_path: Path) -> None:
        (answer,) = answers(web(plain, stow_url=f"{plain.url}/elsewhere"), written(tmp_path, "2.25.56")[0])
        assert isinstance(answer, Failure)
        assert answer.what == "HTTP 404 Not Found: is stow_url right?"
        assert answer.of_archive


class TestGuarded:
    def test_by_c_store_with_certificates_on_both_sides(
        self, guarded: Orthanc, authority: Authority, node_identity: Identity, tmp_path: Path
    ) -> None:
        target = archive(
            guarded,
            tls=True,
            tls_ca_file=authority.certificate,
            tls_certificate_file=node_identity.certificate,
            tls_key_file=node_identity.key,
        )
        assert echo(peer_of(target, 5)) == "0x0000 success"
        assert outlet_of(target, 5).probe() is None
        assert answers(target, *written(tmp_path, "2.25.61")) == [Stored(status="0x0000 success")] * 2
        assert held(guarded, "2.25.61") == {"2.25.61.1", "2.25.61.2"}

    def test_it_is_asked_how_many_images_a_study_has(
        self, guarded: Orthanc, authority: Authority, node_identity: Identity, tmp_path: Path
    ) -> None:
        secured = {"tls_ca_file": authority.certificate, "tls_certificate_file": node_identity.certificate}
        secured["tls_key_file"] = node_identity.key
        answers(archive(guarded, tls=True, **secured), *written(tmp_path, "2.25.65"))
        asked = {"ae_title": AE_TITLE, "query_host": "127.0.0.1", "query_port": guarded.dicom_port, "query_tls": True}
        sender = SenderSettings.model_validate(asked | {f"query_{key}": file for key, file in secured.items()})
        (series,) = query.image_counts(sender, "SPINENODE", "2.25.65").series
        assert series.instance_count == 2

    def test_without_a_certificate_of_ours_it_refuses_and_that_is_said(
        self, guarded: Orthanc, authority: Authority
    ) -> None:
        target = archive(guarded, tls=True, tls_ca_file=authority.certificate)
        with pytest.raises(SendError, match=rf"no TLS with 127\.0\.0\.1:{guarded.dicom_port}: "):
            echo(peer_of(target, 5))

    def test_a_stranger_in_its_place_is_not_talked_to(
        self, guarded: Orthanc, require_program: Find, tmp_path: Path
    ) -> None:
        other = Authority(require_program("openssl"), tmp_path, "other")
        target = archive(guarded, tls=True, tls_ca_file=other.certificate)
        with pytest.raises(SendError, match="its certificate is not trusted: "):
            echo(peer_of(target, 5))

    def test_a_name_that_is_not_in_its_certificate_is_refused(self, guarded: Orthanc, authority: Authority) -> None:
        target = archive(guarded, tls=True, tls_ca_file=authority.certificate, tls_server_name="pacs.example")
        with pytest.raises(SendError, match="its certificate is not trusted: Hostname mismatch"):
            echo(peer_of(target, 5))

    def test_plain_dicom_to_it_is_told_apart(self, guarded: Orthanc) -> None:
        with pytest.raises(SendError, match=r"answers but makes no association: is it DICOM \(without TLS\)"):
            echo(peer_of(archive(guarded), 5))

    def test_by_stow_with_certificates_and_a_password(
        self, guarded: Orthanc, https: str, authority: Authority, node_identity: Identity, tmp_path: Path
    ) -> None:
        target = secure(https, authority, node_identity, private(tmp_path / "login", "node:secret\n"))
        assert outlet_of(target, 5).probe() is None
        assert answers(target, *written(tmp_path, "2.25.62")) == [Stored(status="HTTP 200")] * 2
        assert held(guarded, "2.25.62") == {"2.25.62.1", "2.25.62.2"}

    def test_a_wrong_password_is_a_failure_of_the_archive_that_may_be_mended(
        self, https: str, authority: Authority, node_identity: Identity, tmp_path: Path
    ) -> None:
        target = secure(https, authority, node_identity, private(tmp_path / "login", "node:wrong"))
        (answer,) = answers(target, written(tmp_path, "2.25.63")[0])
        assert isinstance(answer, Failure)
        assert answer.what == "HTTP 401 Unauthorized: stow_token_file or stow_password_file is not accepted"
        assert (answer.of_archive, answer.permanent) == (True, False)
        assert outlet_of(target, 5).probe() is not None

    def test_stow_does_not_talk_to_a_stranger(
        self, https: str, require_program: Find, node_identity: Identity, tmp_path: Path
    ) -> None:
        other = Authority(require_program("openssl"), tmp_path, "other")
        target = secure(https, other, node_identity, private(tmp_path / "login", "node:secret"))
        (answer,) = answers(target, written(tmp_path, "2.25.64")[0])
        assert isinstance(answer, Failure)
        assert answer.what.startswith(f"no TLS with {https}: ")
        assert not answer.tried


def secure(url: str, authority: Authority, identity: Identity, login: Path) -> ArchiveSettings:
    return ArchiveSettings(
        name="pacs",
        stow_url=url,
        stow_password_file=login,
        tls_ca_file=authority.certificate,
        tls_certificate_file=identity.certificate,
        tls_key_file=identity.key,
    )


def test_a_priority_of_transfer_syntaxes_is_uid_for_uid_what_the_settings_name() -> None:
    target = ArchiveSettings.model_validate(
        {"name": "a", "stow_url": "http://127.0.0.1/x", "transfer_syntaxes": ["rle_lossless", "jpeg_2000_lossless"]}
    )
    assert outlet_of(target, 5).preferred == (RLELossless, UID("1.2.840.10008.1.2.4.90"))  # type: ignore[attr-defined]
