"""Certificates for tests, made by the openssl program: an authority, and what it (or nobody) has signed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_DAYS = "2"


@dataclass(frozen=True, kw_only=True)
class Identity:
    certificate: Path
    key: Path


class Authority:
    """Signs identities for 127.0.0.1 in a folder."""

    def __init__(self, openssl: Path, folder: Path, name: str = "authority") -> None:
        self._openssl = openssl
        self._folder = folder
        self.certificate = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        self._run(
            "req", "-x509", *_new_key(self._key), "-out", self.certificate, "-days", _DAYS, "-subj", f"/CN={name}"
        )

    def identity(self, name: str) -> Identity:
        key, request, certificate = (self._folder / f"{name}.{ending}" for ending in ("key", "csr", "crt"))
        self._run("req", *_new_key(key), "-out", request, "-subj", f"/CN={name}")
        extension = self._folder / f"{name}.ext"
        extension.write_text("subjectAltName=IP:127.0.0.1\n", encoding="ascii")
        signed = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-extfile", extension)
        self._run("x509", "-req", "-in", request, *signed, "-out", certificate, "-days", _DAYS)
        return Identity(certificate=certificate, key=key)

    def _run(self, *words: str | Path) -> None:
        subprocess.run([self._openssl, *words], check=True, capture_output=True, timeout=60)


def _new_key(key: Path) -> tuple[str | Path, ...]:
    return ("-newkey", "rsa:2048", "-nodes", "-keyout", key)
