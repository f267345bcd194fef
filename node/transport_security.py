"""TLS as DICOM asks for it: the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 section B.12).

TLS 1.2 or newer, ciphers with forward secrecy and authenticated encryption only, no compression, no renegotiation.
"""

from __future__ import annotations

import select
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK:!SRP"
"""Of TLS 1.2; those of TLS 1.3 are all good. RFC 9325 section 4.2 names ECDHE with AES-GCM, and section 4.1 advises
against DHE; whoever keeps to the older profiles of DICOM (section B.10) speaks ECDHE too."""
MINIMUM_VERSION = ssl.TLSVersion.TLSv1_2


class BadCertificates(Exception):
    """The files of certificate, key or authorities cannot be used; the message names the setting."""


def server_context(certificate_file: Path, key_file: Path, client_ca_file: Path | None) -> ssl.SSLContext:
    """What a server speaks TLS with. With ``client_ca_file`` it demands a client certificate of those authorities.

    Raises:
        BadCertificates
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    try:
        context.load_cert_chain(certificate_file, key_file)
    except OSError as error:  # ssl.SSLError is one
        raise BadCertificates(
            f"receiver.tls_certificate_file and receiver.tls_key_file cannot be used: {_why(error)}"
        ) from error
    if client_ca_file is not None:
        try:
            context.load_verify_locations(client_ca_file)
        except OSError as error:
            raise BadCertificates(f"receiver.tls_client_ca_file cannot be used: {_why(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientTls:
    """How we speak TLS to a peer."""

    ca_file: Path | None
    """PEM; who vouches for the peer. None: the authorities of the operating system."""
    certificate_file: Path | None
    """Shown to the peer (mutual TLS), with its key."""
    key_file: Path | None
    server_name: str
    """The name in the peer's certificate, where that is not its host."""


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """What a client speaks TLS with, read anew from the files. The peer must show a certificate of its name.

    Raises:
        BadCertificates
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    try:
        if tls.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(tls.ca_file)
    except OSError as error:
        raise BadCertificates(f"tls_ca_file cannot be used: {_why(error)}") from error
    if tls.certificate_file is not None:
        try:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
        except OSError as error:
            raise BadCertificates(f"tls_certificate_file and tls_key_file cannot be used: {_why(error)}") from error
    return context


def why_no_handshake(error: OSError) -> str:
    """In words: ``its certificate is not trusted: self-signed certificate``."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS error").replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "timed out"
    return error.strerror or type(error).__name__


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = MINIMUM_VERSION
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not PEM, or the key is not the certificate's"
    return error.strerror or type(error).__name__


def shake_hands(connection: ssl.SSLSocket, by: float) -> None:
    """The TLS handshake, whole by ``by`` however slowly the peer drips; raises ``OSError`` otherwise."""
    connection.setblocking(False)
    while True:
        poll = select.poll()
        try:
            connection.do_handshake()
            connection.setblocking(True)
            return
        except ssl.SSLWantReadError:
            poll.register(connection, select.POLLIN)
        except ssl.SSLWantWriteError:
            poll.register(connection, select.POLLOUT)
        left_s = by - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise TimeoutError(None, "the handshake took too long")


class RenewedContext:
    """The context of the newest files: read again when they change, for new connections only.

    Files that cannot be used (a renewal that is half done) leave the old context in force, and ``complain`` is told
    once for each change.
    """

    def __init__(
        self, certificate_file: Path, key_file: Path, client_ca_file: Path | None, complain: Callable[[str], None]
    ) -> None:
        self._files = (certificate_file, key_file, client_ca_file)
        self._complain = complain
        self._lock = threading.Lock()
        self._stamp = self._stamp_of_files()
        self._context = server_context(*self._files)

    def current(self) -> ssl.SSLContext:
        with self._lock:
            stamp = self._stamp_of_files()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._context = server_context(*self._files)
                except BadCertificates as error:
                    self._complain(f"the certificates in force stay: {error}")
            return self._context

    def _stamp_of_files(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when a file is written or replaced; a missing file is a stamp of its own."""
        stamps = []
        for file in self._files:
            if file is None:
                continue
            try:
                found = file.stat()
            except OSError:
                stamps.append((0, 0, 0))
                continue
            stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
        return tuple(stamps)
