"""Settings of being told: the monitoring port, the thresholds of the health check, webhook and e-mail."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from node.settings_values import Megabytes, Seconds, SettingsTable, Timeout

LOOPBACK = ("127.0.0.1", "::1", "localhost")

EventName = Literal["dead_letter", "study_failed", "archive_down", "disk_low", "health_red"]


class MonitoringSettings(SettingsTable):
    host: str = "127.0.0.1"
    port: int = Field(default=9112, ge=0, le=65535)
    """Of /metrics and /health; 0 = none."""
    archive_down_after_s: Seconds = Field(default=900, gt=0)
    """An archive that has not answered for this long is down."""
    queue_too_old_s: Seconds = Field(default=3600, gt=0)
    """A study that is whole should have been graded by then."""
    delivery_too_old_s: Seconds = Field(default=86400, gt=0)
    """A result should have arrived by then."""
    silent_after_s: Seconds = Field(default=30, ge=5)
    """A process of the node that has given no sign of life for this long hangs, or is dead."""
    disk_low_mb: Megabytes = Field(default=0, ge=0)
    """0: receiver.minimum_free_mb, below which nothing is received."""


class NoticeSettings(SettingsTable):
    events: tuple[EventName, ...] = ("dead_letter", "study_failed", "archive_down", "disk_low", "health_red")
    """What is told; the end of an outage is told with its beginning."""
    gather_s: Seconds = Field(default=600, ge=0)
    """Dead letters of an archive, and failed studies, are told at most this often, all that came meanwhile together."""
    alarm_after_s: Seconds = Field(default=60, ge=0)
    """A red health check is told when it has been red for this long."""
    timeout_s: Timeout = Field(default=10, gt=0)
    webhook_url: str = ""
    """Empty: none."""
    webhook_token_file: Path | None = None
    """Its content is sent as "Authorization: Bearer"."""
    webhook_secret_file: Path | None = None
    """Key of the HMAC-SHA256 signature in X-Spinenode-Signature."""
    webhook_ca_file: Path | None = None
    """PEM; in place of the authorities of the system."""
    email_host: str = ""
    """Empty: none."""
    email_port: int = Field(default=587, ge=1, le=65535)
    email_security: Literal["starttls", "tls", "none"] = "starttls"
    email_user: str = ""
    email_password_file: Path | None = None
    email_ca_file: Path | None = None
    email_from: str = ""
    email_to: tuple[str, ...] = ()

    @field_validator("webhook_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("a webhook is an address like https://host/path")
        if parts.username or parts.password:
            raise ValueError("no password in the address, which is logged: use webhook_token_file")
        return value

    @model_validator(mode="after")
    def _keeps_secrets(self) -> NoticeSettings:
        hook = urlsplit(self.webhook_url)
        if self.webhook_token_file and hook.scheme == "http" and hook.hostname not in LOOPBACK:
            raise ValueError("webhook_token_file needs an https:// webhook_url: the token would travel in clear")
        if self.email_user and self.email_security == "none" and self.email_host not in LOOPBACK:
            raise ValueError(
                'email_user needs email_security = "starttls" or "tls": the password would travel in clear'
            )
        if bool(self.email_user) != bool(self.email_password_file):
            raise ValueError("email_user and email_password_file belong together")
        if self.email_host and not (self.email_from and self.email_to):
            raise ValueError("email_host needs email_from and email_to")
        return self

    @property
    def is_set(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self.webhook_url or self.email_host)


def ways_to_be_told(monitoring: MonitoringSettings, notices: NoticeSettings) -> tuple[str, ...]:
    """How one learns how the node is, a line each."""
    lines = []
    if monitoring.port:
        lines.append(f"http://{monitoring.host}:{monitoring.port}/health and /metrics")
    channels = [notices.webhook_url] if notices.webhook_url else []
    if notices.email_host:
        channels.append(f"e-mail to {', '.join(notices.email_to)}")
    if channels:
        lines.append(f"notices to {' and '.join(channels)} (`spinenode notices --test` tries them)")
    return tuple(lines)
