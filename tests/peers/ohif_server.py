"""OHIF's own files and Orthanc's DICOMweb behind one origin, so that a browser needs no CORS."""

from __future__ import annotations

import http.client
import json
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

PROXIED = ("/dicom-web", "/wado")
NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "host", "accept-encoding"}


def configuration(origin: str) -> str:
    """OHIF's app-config.js: one DICOMweb source, nothing that asks or warns."""
    source = {
        "friendlyName": "archive",
        "name": "archive",
        "wadoUriRoot": f"{origin}/wado",
        "qidoRoot": f"{origin}/dicom-web",
        "wadoRoot": f"{origin}/dicom-web",
        "qidoSupportsIncludeField": False,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsWildcard": True,
        "singlepart": "bulkdata,video,pdf",
        "bulkDataURI": {"enabled": True},
        "omitQuotationForMultipartRequest": True,
    }
    module = "@ohif/extension-default.dataSourcesModule.dicomweb"
    whole = {
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "strictZSpacingForVolumeViewport": True,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "archive",
        "dataSources": [{"namespace": module, "sourceName": "archive", "configuration": source}],
    }
    return f"window.config = {json.dumps(whole)};"


@contextmanager
def serving(dist: Path, archive_http_port: int) -> Iterator[str]:
    """Serve on a free loopback port; yields the origin."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._pass_on() if self.path.startswith(PROXIED) else self._file()

        def do_POST(self) -> None:
            self._pass_on()

        def log_message(self, *_: object) -> None:
            pass

        def _pass_on(self) -> None:
            upstream = http.client.HTTPConnection("127.0.0.1", archive_http_port, timeout=120)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON}
            upstream.request(self.command, self.path, body=body or None, headers=headers)
            answer = upstream.getresponse()
            content = answer.read()
            self._answer(answer.status, answer.getheader("Content-Type", "application/json"), content)
            upstream.close()

        def _file(self) -> None:
            path = unquote(urlsplit(self.path).path).lstrip("/")
            if path == "app-config.js":
                self._answer(200, "text/javascript", configuration(origin).encode())
                return
            file = (dist / path).resolve()
            if not file.is_relative_to(dist.resolve()) or not file.is_file():
                file = dist / "index.html"
            kind = "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(file.name)[0]
            self._answer(200, kind or "application/octet-stream", file.read_bytes())

        def _answer(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    origin = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield origin
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
