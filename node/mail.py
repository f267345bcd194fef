"""Tells people by e-mail: plain text, by way of one SMTP server, over TLS whose certificate is verified."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

from node.settings_monitoring import NoticeSettings
from node.webhook import NotTold, read_secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Mailbox:
    """Which server, as whom, and to whom."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    sender: str
    recipients: tuple[str, ...]
    timeout_s: float
    user: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None

    def tell(self, content: Mapping[str, object]) -> str:
        """Mail a notice; returns how many of the recipients the server took.

        Raises:
            NotTold
        """
        message = self._message(content)
        try:
            with self._server() as server:
                if self.user and self.password_file is not None:
                    server.login(self.user, read_secret(self.password_file))
                refused = server.send_message(message, self.sender, self.recipients)
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise NotTold(f"every recipient was refused: {', '.join(map(str, codes))}") from None
        except smtplib.SMTPResponseException as error:
            raise NotTold(f"SMTP {error.smtp_code}") from None  # its text may quote the user or the message
        except (OSError, smtplib.SMTPException) as error:
            raise NotTold(f"{type(error).__name__}: {error}") from None
        return f"taken for {len(self.recipients) - len(refused)} of {len(self.recipients)}"

    def _server(self) -> smtplib.SMTP:
        context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file is not None else None)
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_s, context=context)
        server = smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)
        if self.security == "starttls":
            try:
                server.starttls(context=context)
            except (OSError, smtplib.SMTPException):
                server.close()
                raise
        return server

    def _message(self, content: Mapping[str, object]) -> EmailMessage:
        occasion = hashlib.sha256(f"{content['occasion']} {content['at']}".encode()).hexdigest()[:32]
        message = EmailMessage()
        message["Subject"] = f"[spinenode {content['node']}] {headline(str(content['event']), str(content['subject']))}"
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        message["Date"] = format_datetime(datetime.fromisoformat(str(content["at"])))
        message["Message-ID"] = (
            f"<{occasion}@spinenode.invalid>"  # the same notice, if it comes twice, is the same mail
        )
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        words = textwrap.fill(str(content["text"]), width=76, break_long_words=False, break_on_hyphens=False)
        message.set_content(f"{words}\n\n{content['at']}, node {content['node']}\n")
        return message


def mailbox_of(settings: NoticeSettings) -> Mailbox:
    return Mailbox(
        host=settings.email_host,
        port=settings.email_port,
        security=settings.email_security,
        sender=settings.email_from,
        recipients=settings.email_to,
        timeout_s=settings.timeout_s,
        user=settings.email_user,
        password_file=settings.email_password_file,
        ca_file=settings.email_ca_file,
    )


_HEADLINES = {
    "archive_down": "DOWN",
    "archive_up": "up again",
    "disk_low": "LOW",
    "disk_ok": "has room again",
    "health_red": "RED",
    "health_green": "well again",
}


def headline(event: str, subject: str) -> str:
    """A subject line, e.g. ``archive pacs: DOWN``."""
    return f"{subject}: {_HEADLINES[event]}" if event in _HEADLINES else subject
