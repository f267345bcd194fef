"""A DICOMweb archive for tests that answers STOW-RS as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pydicom
from pydicom import Dataset


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What it answers."""

    status: int = 200
    body: bytes = b""
    kind: str = "application/dicom+json"
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Sequence[Dataset]], Reply]


@dataclass(kw_only=True)
class WebArchive:
    port: int = 0
    requests: list[tuple[str, list[str]]] = field(default_factory=list)
    """Path, and SOP Instance UIDs, of each POST."""
    headers: list[Mapping[str, str]] = field(default_factory=list)
    objects: list[Dataset] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    @property
    def uids(self) -> list[list[str]]:
        return [uids for _, uids in self.requests]


def statement(
    stored: Mapping[str, int | None] = {},
    failed: Mapping[str, int | None] = {},
    *,
    status: int = 200,
    kind: str = "application/dicom+json",
) -> Reply:
    """A Store Instances Response: SOP Instance UID -> warning or failure reason."""
    said: dict[str, Any] = {}
    for tag, uids, reason_tag in (("00081199", stored, "00081196"), ("00081198", failed, "00081197")):
        items = []
        for uid, reason in uids.items():
            item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
            if reason is not None:
                item[reason_tag] = {"vr": "US", "Value": [reason]}
            items.append(item)
        if items:
            said[tag] = {"vr": "SQ", "Value": items}
    return Reply(status=status, body=json.dumps(said).encode(), kind=kind)


def all_stored(objects: Sequence[Dataset]) -> Reply:
    return statement({str(item.SOPInstanceUID): None for item in objects})


@contextmanager
def answering(answer: Answer = all_stored, probe_status: int = 200) -> Iterator[WebArchive]:
    """A listening archive on loopback; ``answer`` is given the objects of each request."""
    archive = WebArchive()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            whole = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + content
            parts: Any = message_from_bytes(whole).get_payload()
            objects = [pydicom.dcmread(BytesIO(part.get_payload(decode=True))) for part in parts]
            archive.requests.append((self.path, [str(item.SOPInstanceUID) for item in objects]))
            archive.headers.append(dict(self.headers))
            archive.objects.extend(objects)
            self._say(answer(objects))

        def do_GET(self) -> None:
            archive.requests.append((self.path, []))
            self._say(Reply(body=b"<html>please log in</html>", kind="text/html"))

        def do_OPTIONS(self) -> None:
            self._say(Reply(status=probe_status))

        def _say(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.body:
                self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    archive.port = server.server_address[1]
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    serving.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
