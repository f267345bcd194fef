"""STOW-RS user agent (PS3.18 section 10.5): sends files to a DICOMweb archive, and says what it answered for each.

Knows no ledger: it yields one outcome for each file as soon as it is known, and the caller writes it down. Only what
the answer says about an object counts: one that it does not speak of is sent again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import pydicom
import requests
from pydicom import Dataset
from pydicom.uid import UID

from node import encodings
from node.encodings import UNREADABLE, CannotEncode
from node.retry import Failure
from node.sender import Outcome, Outgoing, Stored, describe
from node.stow_answer import OF_OBJECTS, Answers, refusal, statement, unanswered
from node.transport_security import BadCertificates
from node.web_session import BadCredentials, WebServer, client_of, session_of

MOST_OBJECTS = 25
"""In one request: a study's results."""
MOST_BYTES = 32_000_000
"""In one request, but for an object that is larger by itself."""
_STATEMENT = (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT)
"""With these the body says what became of each object (PS3.18 table 10.5.3-1)."""
_WORKS = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
"""Answers of servers that have no OPTIONS, or none at this place; beside every success."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Item:
    path: Path
    sop_instance_uid: str
    content: Dataset
    size_bytes: int
    reencoded: bool


def probe(server: WebServer) -> Failure | None:
    """Whether the archive works again; None when it does."""
    try:
        with session_of(server) as session:
            answer = session.options(f"{server.url}/studies", timeout=(server.connect_timeout_s, 30))
    except (BadCredentials, BadCertificates, requests.RequestException) as error:
        return unanswered(error, server)
    if answer.status_code // 100 == 2 or answer.status_code in _WORKS:
        return None
    return refusal(answer)


def send(paths: Sequence[Path], server: WebServer, preferred: Sequence[UID] = ()) -> Iterator[Outcome]:
    """Send files in order, several in a request; each outcome is yielded when it is known.

    After a failure of the archive rather than of the objects, the rest of the files share it without being tried.
    """
    try:
        session = session_of(server)
    except (BadCredentials, BadCertificates) as error:
        failure = unanswered(error, server)
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


def _answer_for(item: _Item, answers: Answers | Failure | requests.Response) -> Stored | Failure:
    if isinstance(answers, requests.Response):
        return refusal(answers)
    return answers if isinstance(answers, Failure) else answers[item.sop_instance_uid]


class _Answered(Exception):
    """Ends the client's work before it makes data sets of an answer, each of whose bytes would cost it hundreds."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__()
        self.response = response


def _answered(response: requests.Response, *_: object, **__: object) -> NoReturn:
    raise _Answered(response)


def _post(
    items: Sequence[_Item], session: requests.Session, server: WebServer
) -> Answers | Failure | requests.Response:
    """One request: what it answered for each object, a failure of all, or a refusal that may be of one of them."""
    session.hooks["response"] = [_answered]
    try:
        client_of(server, session).store_instances([item.content for item in items])
    except _Answered as answered:
        answer = answered.response
    except requests.RequestException as error:
        return unanswered(error, server)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Failure(what="the objects cannot be written for STOW-RS", permanent=True, local=True)
    if answer.status_code in _STATEMENT:
        return statement(answer, [item.sop_instance_uid for item in items])
    return answer if answer.status_code in OF_OBJECTS else refusal(answer)
