"""What an archive answered to STOW-RS (PS3.18 section 10.5.3), and why it did not.

Only what an answer says about an object counts.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import requests
from urllib3.exceptions import ProtocolError

from node.retry import Failure
from node.sender import Stored, answer_of
from node.transport_security import BadCertificates
from node.web_session import BadCredentials, UnreadableAnswer, WebServer

HELD_ALREADY = 0xB00E
"""Failure reason with which some services (Azure) refuse an object that they hold under this UID."""
OF_OBJECTS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
"""These may be the fault of one object among several: each is then sent by itself."""
_FAILED, _STORED = "00081198", "00081199"
"""Failed and Referenced SOP Sequence."""
_UID, _FAILURE, _WARNING = "00081155", "00081197", "00081196"
"""Referenced SOP Instance UID, Failure and Warning Reason."""
Answers = Mapping[str, Stored | Failure]
"""By SOP Instance UID."""


def statement(answer: requests.Response, uids: Sequence[str]) -> Answers | Failure:
    """What a Store Instances Response says about each object (PS3.3 section C.12, Store Instances Response Module)."""
    if not answer.content.strip():
        silent: Stored | Failure = Stored(status="HTTP 200")
        if answer.status_code != HTTPStatus.OK:
            silent = Failure(what=f"HTTP {answer.status_code}, and no word about the object", permanent=False)
        return dict.fromkeys(uids, silent)
    try:
        said = json.loads(answer.content)
        reasons = {_value(item, _UID): int(_value(item, _FAILURE) or 0) for item in _items(said, _FAILED)}
        warnings = {_value(item, _UID): int(_value(item, _WARNING) or 0) for item in _items(said, _STORED)}
    except RecursionError:
        return _unreadable("it is nested too deeply")
    except (ValueError, KeyError, TypeError, AttributeError):
        what = f"HTTP {answer.status_code}, but not in DICOM JSON: is stow_url right?"
        return Failure(what=what, permanent=False, of_archive=True, out_of_reach=True)
    return {uid: _about(uid, reasons, warnings, answer.status_code) for uid in uids}


def _items(said: Any, tag: str) -> Any:
    return said.get(tag, {}).get("Value") or ()


def _value(item: Any, tag: str) -> Any:
    """The first value of an attribute in DICOM JSON (PS3.18 annex F.2.2); None without one."""
    return next(iter(item.get(tag, {}).get("Value") or ()), None)


def _about(uid: str, reasons: Mapping[str, int], warnings: Mapping[str, int], http: int) -> Stored | Failure:
    if uid in reasons:
        if reasons[uid] == HELD_ALREADY:
            return Stored(status=f"HTTP {http}, 0x{HELD_ALREADY:04X} the archive has this object already")
        failure = answer_of(reasons[uid])
        if isinstance(failure, Failure):
            return replace(failure, what=f"HTTP {http}, {failure.what}")
        if reasons[uid] == 0x0111:
            return replace(failure, status=f"HTTP {http}, {failure.status}")
        what = f"HTTP {http}, failed without a reason that says why (0x{reasons[uid]:04X})"
        return Failure(what=what, permanent=False)
    if uid in warnings:
        if warnings[uid]:
            answer = answer_of(warnings[uid])
            text = answer.status if isinstance(answer, Stored) else answer.what
            return Stored(status=f"HTTP {http}, {text}", warned=True)
        return Stored(status=f"HTTP {http}")
    return Failure(what=f"HTTP {http}, and no word about the object", permanent=False)


def refusal(answer: requests.Response) -> Failure:
    """A status without a statement about objects: a fault of the request, of the way there, or of the server."""
    code = answer.status_code
    what = f"HTTP {code} {_phrase(code)}".strip()
    if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Failure(what=f"{what}: the object is too large for the archive", permanent=True, content_refused=True)
    if code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return Failure(what=what, permanent=False)
    if code in OF_OBJECTS:
        return Failure(what=what, permanent=True, content_refused=True)
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        what += ": stow_token_file or stow_password_file is not accepted"
    elif code // 100 == 3 or code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        what += ": is stow_url right?"
    return Failure(what=what, permanent=False, of_archive=True, out_of_reach=True, retry_after_s=_retry_after_s(answer))


def _phrase(code: int) -> str:
    """The Standard's words, not the server's: those may quote a patient."""
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return ""


def _retry_after_s(answer: requests.Response) -> float:
    """Of the Retry-After header: seconds or a date (RFC 9110 section 10.2.3); 0 without one."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def unanswered(error: Exception, server: WebServer) -> Failure:
    """No answer at all. The libraries' own words may hold the address and more: they are not shown."""
    if isinstance(error, UnreadableAnswer):
        return _unreadable(error)
    if isinstance(error, BadCredentials | BadCertificates):
        what = str(error)
    elif isinstance(error, requests.exceptions.SSLError):
        what = f"no TLS with {server.url}: {_innermost(error)}"
    elif isinstance(error, requests.exceptions.ReadTimeout):
        return Failure(what=f"{server.url} did not answer in time", permanent=False, of_archive=True)
    elif isinstance(error, requests.exceptions.Timeout):
        what = f"cannot connect to {server.url}: timed out"
    elif _has_connected(error):
        what = f"{server.url} gave no answer in HTTP: {_innermost(error)}"
    else:
        what = f"cannot connect to {server.url}: {_innermost(error)}"
    return Failure(what=what, permanent=False, of_archive=True, tried=False, out_of_reach=True)


def _unreadable(why: object) -> Failure:
    return Failure(what=f"the archive's answer cannot be read: {why}", permanent=False, of_archive=True)


def _has_connected(error: Exception) -> bool:
    return bool(error.args) and isinstance(error.args[0], ProtocolError)


def _innermost(error: BaseException) -> str:
    """What the operating system or OpenSSL said, at the end of the libraries' chain of exceptions."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        inner = (getattr(error, "reason", None), *error.args, error.__cause__, error.__context__)
        error = next((found for found in inner if isinstance(found, BaseException)), error)
    verify = [str(found.verify_message) for found in seen if isinstance(found, ssl.SSLCertVerificationError)]
    told = [str(found.strerror) for found in seen if isinstance(found, OSError) and found.strerror]
    return [type(seen[-1]).__name__, *told[-1:], *verify][-1]
