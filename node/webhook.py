"""Tells an HTTP endpoint of the operator: one JSON object, POSTed, over TLS whose certificate is verified."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from node.settings_monitoring import NoticeSettings

USER_AGENT = "spinenode"
SIGNATURE = "X-Spinenode-Signature"


class NotTold(Exception):
    """A channel did not take a notice; the message says why, without secrets."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere, and turn the POST into a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """Where to POST, and how to prove that it is us. Secrets are read for each notice, so that they may be renewed."""

    url: str
    timeout_s: float
    token_file: Path | None = None
    secret_file: Path | None = None
    ca_file: Path | None = None

    def tell(self, content: Mapping[str, object]) -> str:
        """Post a notice; returns what was answered. One that comes twice has the same ``Idempotency-Key``.

        Raises:
            NotTold
        """
        try:
            request = self._request(content)
            handlers = [_NoRedirect(), urllib.request.HTTPSHandler(context=self._context())]
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout_s) as answer:
                return f"HTTP {answer.status}"
        except urllib.error.HTTPError as error:
            error.close()
            raise NotTold(f"HTTP {error.code}") from None
        except urllib.error.URLError as error:
            raise NotTold(str(error.reason)) from None
        except (OSError, HTTPException, ValueError) as error:
            raise NotTold(f"{type(error).__name__}: {error}") from None

    def _request(self, content: Mapping[str, object]) -> urllib.request.Request:
        body = json.dumps(content, ensure_ascii=False).encode("utf-8")
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Idempotency-Key": hashlib.sha256(str(content["occasion"]).encode("utf-8")).hexdigest(),
        }
        if self.token_file is not None:
            headers["Authorization"] = f"Bearer {read_secret(self.token_file)}"
        if self.secret_file is not None:
            digest = hmac.new(read_secret(self.secret_file).encode("utf-8"), body, hashlib.sha256).hexdigest()
            headers[SIGNATURE] = f"sha256={digest}"
        return urllib.request.Request(self.url, data=body, headers=headers, method="POST")  # noqa: S310 - http(s) only

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file is not None else None)


def webhook_of(settings: NoticeSettings) -> Webhook:
    return Webhook(
        url=settings.webhook_url,
        timeout_s=settings.timeout_s,
        token_file=settings.webhook_token_file,
        secret_file=settings.webhook_secret_file,
        ca_file=settings.webhook_ca_file,
    )


def read_secret(path: Path) -> str:
    """The one line of a secret's file.

    Raises:
        NotTold: it cannot be read, or is empty.
    """
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotTold(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if not secret:
        raise NotTold(f"{path} is empty")
    return secret
