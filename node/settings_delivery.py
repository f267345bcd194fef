"""The settings of sending: ``[delivery]`` and ``[[archives]]``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from node.settings_values import AeTitle, Count, OutputName, Port, Seconds, SettingsTable, Timeout

TransferSyntaxName = Literal[
    "explicit_vr_little_endian",
    "implicit_vr_little_endian",
    "deflated_explicit_vr_little_endian",
    "rle_lossless",
    "jpeg_2000_lossless",
]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class DeliverySettings(SettingsTable):
    first_delay_s: Seconds = Field(default=5, gt=0)
    maximum_delay_s: Seconds = Field(default=900, gt=0)
    give_up_after_s: Seconds = Field(default=7 * 86400, gt=0)
    """A delivery that has not arrived by then is a dead letter."""
    breaker_failures: Count = Field(default=3, ge=1)
    """Failures in a row after which an archive is only probed until it answers."""
    warning_retries: Count = Field(default=0, ge=0)
    """How often an object that was stored with a warning is sent again in the hope of a plain success."""
    connect_timeout_s: Timeout = Field(default=10, gt=0)
    priority_head_start_s: Seconds = Field(default=3600, gt=0)
    """A study is served as if it had waited this much longer for each step of priority."""

    @model_validator(mode="after")
    def _delays_grow(self) -> DeliverySettings:
        if self.first_delay_s > self.maximum_delay_s:
            raise ValueError(f"first_delay_s = {self.first_delay_s:g} is longer than maximum_delay_s")
        return self


class ArchiveSettings(SettingsTable):
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    ae_title: AeTitle = ""  # left out, with host and port, where stow_url says it all
    host: str = ""
    port: Port = 0
    calling_ae_title: AeTitle = "SPINENODE"
    outputs: tuple[OutputName, ...] = ()
    """Empty: all that ``results.outputs`` makes."""
    sr_class: Literal["comprehensive_3d", "comprehensive", "enhanced"] = "comprehensive_3d"
    """SOP class of the measurement report; another one is sent where the archive refuses this one."""
    transfer_syntaxes: tuple[TransferSyntaxName, ...] = ()
    """Preferred, the best first; empty: each object as it was made."""
    proof: Literal["auto", "commitment", "query", "none"] = "auto"
    """How it proves that it holds a result: storage commitment, else a query (C-FIND; QIDO-RS by stow_url)."""
    tls: bool = False
    tls_ca_file: Path | None = None
    """PEM; empty: the authorities of the operating system."""
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_server_name: str = ""
    """The name in its certificate, where that is not ``host``."""
    stow_url: str = ""
    """Set: results go there by STOW-RS in place of C-STORE."""
    stow_token_file: Path | None = None
    stow_password_file: Path | None = None
    """One line, user:password."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> ArchiveSettings:
        dimse = (bool(self.ae_title), bool(self.host), bool(self.port))
        if not all(dimse) and (any(dimse) or not self.stow_url):
            missing = [key for key, given in zip(("ae_title", "host", "port"), dimse, strict=True) if not given]
            raise ValueError(f"{' and '.join(missing)} missing: give ae_title, host and port, or stow_url")
        return self

    @model_validator(mode="after")
    def _can_prove(self) -> ArchiveSettings:
        if self.proof == "commitment" and not self.host:
            raise ValueError('proof = "commitment" needs ae_title, host and port: STOW-RS has no storage commitment')
        return self

    @model_validator(mode="after")
    def _certificates_belong_together(self) -> ArchiveSettings:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        given = self.tls_ca_file or self.tls_certificate_file or self.tls_server_name
        if given and not self.tls and not self.stow_url.startswith("https://"):
            raise ValueError("tls_* files are set, and tls is not true: it would send in clear")
        return self

    @model_validator(mode="after")
    def _stow_is_safe(self) -> ArchiveSettings:
        if not self.stow_url:
            if self.stow_token_file or self.stow_password_file:
                raise ValueError("stow_token_file and stow_password_file need stow_url")
            return self
        url = urlsplit(self.stow_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
            raise ValueError("stow_url must be http(s)://host[:port]/path: the part before /studies, without user")
        if self.stow_token_file and self.stow_password_file:
            raise ValueError("stow_token_file or stow_password_file, not both")
        secret = self.stow_token_file or self.stow_password_file
        if secret and url.scheme == "http" and url.hostname not in LOOPBACK:
            raise ValueError("stow_url must be https where a token or password goes with it")
        return self
