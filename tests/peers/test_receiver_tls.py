"""TLS at the receiver, spoken by DCMTK, openssl and Python's ssl: who gets in, what is too old, who may dawdle."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association

from tests.certificates import Authority, Identity
from tests.node_process import free_port
from tests.receiving import Receiver
from tests.unit.node.encoded_images import mr_image

pytestmark = pytest.mark.peers

Find = Callable[[str], Path]


@pytest.fixture(scope="module")
def authority(require_program: Find, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(require_program("openssl"), tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def node_identity(authority: Authority) -> Identity:
    return authority.identity("node")


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory, node_identity: Identity) -> Iterator[Receiver]:
    """With a plain port and one with TLS, where anybody may call."""
    settings = {"tls_port": free_port(), "tls_certificate_file": node_identity.certificate}
    with Receiver(
        tmp_path_factory.mktemp("receiver"), **settings, tls_key_file=node_identity.key, acse_timeout_s=3
    ) as running:
        yield running


def echo(program: Path, port: int, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program, "-v", *options, "-aec", "SPINENODE", "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def associate(port: int, context: ssl.SSLContext) -> Association:
    ae = AE(ae_title="MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    return ae.associate("127.0.0.1", port, ae_title="SPINENODE", tls_args=(context, "127.0.0.1"))


def client(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.certificate))


def test_dcmtk_sends_over_tls_and_over_the_plain_port_of_the_same_node(
    receiver: Receiver, authority: Authority, require_program: Find, tmp_path: Path
) -> None:
    for number in (1, 2):
        mr_image(number).save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    storescu = require_program("storescu")
    trusting = ("+tla", "+cf", authority.certificate)
    with_tls = [storescu, *trusting, "-aec", "SPINENODE", "127.0.0.1", str(receiver.tls_port), tmp_path / "1.dcm"]
    plainly = [storescu, "-aec", "SPINENODE", "127.0.0.1", str(receiver.port), tmp_path / "2.dcm"]
    assert [subprocess.run(command, check=False, timeout=60).returncode for command in (with_tls, plainly)] == [0, 0]
    assert set(receiver.kept()) >= {"1.2.3.1.1", "1.2.3.1.2"}


def test_plain_dicom_on_the_tls_port_gets_no_answer(receiver: Receiver, require_program: Find) -> None:
    assert echo(require_program("echoscu"), receiver.tls_port).returncode != 0
    receiver.wait_for_log("127.0.0.1: no TLS")


@pytest.mark.parametrize(
    "offer",
    [
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES256-SHA256"),
        ("-tls1_2", "-cipher", "AES128-GCM-SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"),
        ("-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"),
    ],
    ids=["TLS 1.1", "CBC", "no forward secrecy", "no authenticated encryption", "finite fields"],
)
def test_what_the_profile_forbids_is_refused(receiver: Receiver, require_program: Find, offer: tuple[str, ...]) -> None:
    command = [require_program("openssl"), "s_client", "-connect", f"127.0.0.1:{receiver.tls_port}", *offer]
    answer = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode != 0
    assert "Cipher is (NONE)" in answer.stdout


def test_stow_over_tls_counts_who_speaks_it_not_and_says_so_once(
    authority: Authority, node_identity: Identity, tmp_path: Path
) -> None:
    token, web_port = tmp_path / "token", free_port()
    token.write_text("a-token-of-more-than-20-characters", encoding="ascii")
    token.chmod(0o600)
    files = {"tls_certificate_file": node_identity.certificate, "tls_key_file": node_identity.key}
    with Receiver(tmp_path, stow_port=web_port, stow_token_file=token, **files) as running:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", web_port), timeout=10) as plain:
                plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
                with contextlib.suppress(ConnectionResetError):
                    plain.recv(100)
        connection = http.client.HTTPSConnection("127.0.0.1", web_port, timeout=10, context=client(authority))
        connection.request("POST", "/studies", b"x", {"Authorization": "Bearer a-token-of-more-than-20-characters"})
        assert connection.getresponse().status == 415
        connection.close()
        assert running.log.count("127.0.0.1: no TLS: http request") == 1
        running.stop()
    assert "20 times: no TLS" in running.log


@pytest.mark.parametrize("offer", [("-tls1_3",), ("-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384")])
def test_what_the_profile_names_is_spoken(receiver: Receiver, require_program: Find, offer: tuple[str, ...]) -> None:
    command = [require_program("openssl"), "s_client", "-connect", f"127.0.0.1:{receiver.tls_port}", *offer]
    answer = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 0, answer.stderr


def test_a_hundred_silent_clients_in_their_handshakes_do_not_delay_another(
    receiver: Receiver, authority: Authority, require_program: Find
) -> None:
    """Ten say a byte, which starts the handshake; the others nothing at all."""
    silent = [socket.create_connection(("127.0.0.1", receiver.tls_port)) for _ in range(100)]
    for connection in silent[:10]:
        connection.sendall(b"\x16")
    started = time.monotonic()
    answer = echo(require_program("echoscu"), receiver.tls_port, "+tla", "+cf", authority.certificate)
    took_s = time.monotonic() - started
    for connection in silent:
        connection.close()
    assert answer.returncode == 0, answer.stderr
    assert took_s < 3, "the silent ones are sent off after 3 s; nobody waits for that"


def test_a_handshake_that_drips_is_cut_off(receiver: Receiver) -> None:
    with socket.create_connection(("127.0.0.1", receiver.tls_port)) as dripping:
        dripping.settimeout(1)
        began = time.monotonic()
        cut_off = False
        while not cut_off and time.monotonic() - began < 15:
            try:
                dripping.sendall(b"\x16")
                cut_off = dripping.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                cut_off = True
        assert cut_off


def test_clients_without_a_certificate_are_refused_where_one_is_demanded(
    authority: Authority, node_identity: Identity, require_program: Find, tmp_path: Path
) -> None:
    stranger = Authority(require_program("openssl"), tmp_path, "stranger").identity("impostor")
    modality = authority.identity("modality")
    echoscu = require_program("echoscu")
    trusted = ("+cf", authority.certificate)
    with Receiver(
        tmp_path,
        plain=False,
        tls_port=free_port(),
        tls_certificate_file=node_identity.certificate,
        tls_key_file=node_identity.key,
        tls_client_ca_file=authority.certificate,
    ) as strict:
        assert strict.port == 0
        assert echo(echoscu, strict.tls_port, "+tla", *trusted).returncode != 0
        assert echo(echoscu, strict.tls_port, "+tls", stranger.key, stranger.certificate, *trusted).returncode != 0
        answer = echo(echoscu, strict.tls_port, "+tls", modality.key, modality.certificate, *trusted)
        assert answer.returncode == 0, answer.stderr


def test_a_renewed_certificate_holds_for_new_associations_and_drops_none(require_program: Find, tmp_path: Path) -> None:
    openssl = require_program("openssl")
    old, new = (Authority(openssl, tmp_path, name) for name in ("old", "new"))
    (first, second) = old.identity("first"), new.identity("second")
    certificate, key = tmp_path / "node.crt", tmp_path / "node.key"
    shutil.copy(first.certificate, certificate)
    shutil.copy(first.key, key)
    with Receiver(tmp_path, tls_port=free_port(), tls_certificate_file=certificate, tls_key_file=key) as running:
        before = associate(running.tls_port, client(old))
        assert before.is_established

        certificate.write_text("half written", encoding="ascii")
        still = associate(running.tls_port, client(old))
        assert still.is_established, "a renewal that is half done leaves the old certificate in force"
        running.wait_for_log("the certificates in force stay: receiver.tls_certificate_file")

        shutil.copy(second.key, key)
        shutil.copy(second.certificate, certificate)
        after = associate(running.tls_port, client(new))
        assert after.is_established
        assert associate(running.tls_port, client(old)).is_established is False
        assert before.send_c_store(mr_image(1)).Status == 0x0000
        for association in (before, still, after):
            association.release()


def test_certificates_that_are_missing_are_named_at_start(tmp_path: Path) -> None:
    from node.settings import ReceiverSettings
    from node.storage_scp import CannotListen, certificates

    settings = ReceiverSettings(
        tls_port=2762, tls_certificate_file=tmp_path / "none.crt", tls_key_file=tmp_path / "none.key"
    )
    with pytest.raises(CannotListen, match=r"receiver\.tls_certificate_file and receiver\.tls_key_file .*No such file"):
        certificates(settings)
