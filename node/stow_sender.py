"""STOW-RS user agent (PS3.18 section 10.5): sends files to a DICOMweb archive, and says what it answered for each.

Knows no ledger: it yields one outcome for each file as soon as it is known, and the caller writes it down. Only what
the answer says about an object counts: one that it does not speak of is sent again.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from io import BytesIO
from pathlib import Path

import pydicom
import requests
from pydicom import Dataset
from pydicom.uid import UID

from node import encodings
from node.encodings import UNREADABLE, CannotEncode
from node.retry import Failure
from node.sender import Outcome, Outgoing, Stored, answer_of, describe
from node.transport_security import BadCertificates
from node.web_session import BadCredentials, WebServer, client_of, session_of

MOST_OBJECTS = 25
"""In one request: a study's results."""
MOST_BYTES = 32_000_000
"""In one request, but for an object that is larger by itself."""
HELD_ALREADY = 0xB00E
"""Failure reason with which some services (Azure) refuse an object that they hold under this UID."""
_STATEMENT = (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT)
"""With these the body says what became of each object (PS3.18 table 10.5.3-1)."""
_OF_OBJECTS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
"""These may be the fault of one object among several: each is then sent by itself."""
_WORKS = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
"""Answers of servers that have no OPTIONS, or none at this place; beside every success."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Item:
    path: Path
    sop_instance_uid: str
    content: Dataset
    size_bytes: int
    reencoded: bool


_Answers = Mapping[str, Stored | Failure]
"""By SOP Instance UID."""


def probe(server: WebServer) -> Failure | None:
    """Whether the archive works again; None when it does."""
    try:
        with session_of(server) as session:
            answer = session.options(f"{server.url}/studies", timeout=(server.connect_timeout_s, 30))
    except (BadCredentials, BadCertificates, requests.RequestException) as error:
        return _unanswered(error, server)
    if answer.status_code // 100 == 2 or answer.status_code in _WORKS:
        return None
    return _refusal(answer)


def send(paths: Sequence[Path], server: WebServer, preferred: Sequence[UID] = ()) -> Iterator[Outcome]:
    """Send files in order, several in a request; each outcome is yielded when it is known.

    After a failure of the archive rather than of the objects, the rest of the files share it without being tried.
    """
    try:
        session = session_of(server)
    except (BadCredentials, BadCertificates) as error:
        failure = _unanswered(error, server)
        yield from (Outcome(path=path, answer=failure) for path in paths)
        return
    given_up: Failure | None = None
    with session:
        for batch in _batches(paths, preferred):
            for item in batch:
                if isinstance(item, Outcome):
                    yield item
            items = [item for item in batch if isinstance(item, _Item)]
            if given_up is None and items:
                outcomes = tuple(_send_batch(items, session, server))
                given_up = next((found for item in outcomes if (found := _of_archive(item.answer))), None)
                yield from outcomes
            elif given_up is not None:
                untried = replace(given_up, tried=False)
                yield from (Outcome(path=item.path, answer=untried) for item in items)


def _of_archive(answer: Stored | Failure) -> Failure | None:
    return answer if isinstance(answer, Failure) and answer.of_archive else None


def _batches(paths: Sequence[Path], preferred: Sequence[UID]) -> Iterator[list[_Item | Outcome]]:
    batch: list[_Item | Outcome] = []
    size_bytes = 0
    for path in paths:
        item = _read(path, preferred)
        more = item.size_bytes if isinstance(item, _Item) else 0
        if batch and (len(batch) >= MOST_OBJECTS or size_bytes + more > MOST_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(item)
        size_bytes += more
    if batch:
        yield batch


def _read(path: Path, preferred: Sequence[UID]) -> _Item | Outcome:
    """The object of a file in the first transfer syntax that it can have: nothing is negotiated here."""
    described = describe(path, preferred)
    if isinstance(described, Failure):
        return Outcome(path=path, answer=described)
    try:
        content, reencoded = _encoded(described)
        return _Item(
            path=path,
            sop_instance_uid=str(content.SOPInstanceUID),
            content=content,
            size_bytes=path.stat().st_size,
            reencoded=reencoded,
        )
    except UNREADABLE as error:
        failure = Failure(what=f"the file cannot be sent ({type(error).__name__})", permanent=True, local=True)
        return Outcome(path=path, answer=failure)


def _encoded(item: Outgoing) -> tuple[Dataset, bool]:
    for uid in item.transfer_syntaxes:
        if uid == item.own_syntax:
            break
        try:
            return pydicom.dcmread(BytesIO(encodings.encoded(item.path, uid))), True
        except CannotEncode:
            continue
    return pydicom.dcmread(item.path), False


def _send_batch(items: Sequence[_Item], session: requests.Session, server: WebServer) -> Iterator[Outcome]:
    answers = _post(items, session, server)
    alone = isinstance(answers, requests.Response) and len(items) > 1
    given_up: Failure | None = None
    for item in items:
        if given_up is not None:
            yield Outcome(path=item.path, answer=given_up)
            continue
        answer = _answer_for(item, _post([item], session, server) if alone else answers)
        if isinstance(answer, Failure) and answer.form_refused and item.reencoded:  # it may take it as it was made
            own = replace(item, content=pydicom.dcmread(item.path), reencoded=False)
            answer = _answer_for(own, _post([own], session, server))
        if alone and (failure := _of_archive(answer)):
            given_up = replace(failure, tried=False)
        yield Outcome(path=item.path, answer=answer)


def _answer_for(item: _Item, answers: _Answers | Failure | requests.Response) -> Stored | Failure:
    if isinstance(answers, requests.Response):
        return _refusal(answers)
    return answers if isinstance(answers, Failure) else answers[item.sop_instance_uid]


def _post(
    items: Sequence[_Item], session: requests.Session, server: WebServer
) -> _Answers | Failure | requests.Response:
    """One request: what it answered for each object, a failure of all, or a refusal that may be of one of them."""
    seen: list[requests.Response] = []
    session.hooks["response"] = [lambda response, *_, **__: seen.append(response)]
    try:
        client_of(server, session).store_instances([item.content for item in items])
    except requests.HTTPError:
        pass  # judged below, by what was answered
    except requests.RequestException as error:
        return _unanswered(error, server)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # the client could not read the answer; below it is read once more
    if not seen:
        return Failure(what="the objects cannot be written for STOW-RS", permanent=True, local=True)
    answer = seen[-1]
    if answer.status_code in _STATEMENT:
        return _statement(answer, [item.sop_instance_uid for item in items])
    return answer if answer.status_code in _OF_OBJECTS else _refusal(answer)


def _statement(answer: requests.Response, uids: Sequence[str]) -> _Answers | Failure:
    """What a Store Instances Response says about each object (PS3.3 section C.12, Store Instances Response Module)."""
    if not answer.content.strip():
        silent: Stored | Failure = Stored(status="HTTP 200")
        if answer.status_code != HTTPStatus.OK:
            silent = Failure(what=f"HTTP {answer.status_code}, and no word about the object", permanent=False)
        return dict.fromkeys(uids, silent)
    try:
        said = Dataset.from_json(json.loads(answer.content))
        stored = {str(item.ReferencedSOPInstanceUID): item for item in said.get("ReferencedSOPSequence") or ()}
        failed = {str(item.ReferencedSOPInstanceUID): item for item in said.get("FailedSOPSequence") or ()}
        reasons = {uid: int(item.get("FailureReason") or 0) for uid, item in failed.items()}
        warnings = {uid: int(item.get("WarningReason") or 0) for uid, item in stored.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        what = f"HTTP {answer.status_code}, but not in DICOM JSON: is stow_url right?"
        return Failure(what=what, permanent=False, of_archive=True, out_of_reach=True)
    return {uid: _about(uid, reasons, warnings, answer.status_code) for uid in uids}


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


def _refusal(answer: requests.Response) -> Failure:
    """A status without a statement about objects: a fault of the request, of the way there, or of the server."""
    code = answer.status_code
    what = f"HTTP {code} {_phrase(code)}".strip()
    if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Failure(what=f"{what}: the object is too large for the archive", permanent=True, content_refused=True)
    if code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return Failure(what=what, permanent=False)
    if code in _OF_OBJECTS:
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


def _unanswered(error: Exception, server: WebServer) -> Failure:
    """No answer at all. The libraries' own words may hold the address and more: they are not shown."""
    if isinstance(error, BadCredentials | BadCertificates):
        what = str(error)
    elif isinstance(error, requests.exceptions.SSLError):
        what = f"no TLS with {server.url}: {_innermost(error)}"
    elif isinstance(error, requests.exceptions.ReadTimeout):
        return Failure(what=f"{server.url} did not answer in time", permanent=False, of_archive=True)
    elif isinstance(error, requests.exceptions.Timeout):
        what = f"cannot connect to {server.url}: timed out"
    else:
        what = f"cannot connect to {server.url}: {_innermost(error)}"
    return Failure(what=what, permanent=False, of_archive=True, tried=False, out_of_reach=True)


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
