"""A real Orthanc with DICOMweb, on free loopback ports, that knows the node as a modality."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.node_process import free_port

AE_TITLE = "ORTHANC"
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True, kw_only=True)
class Orthanc:
    dicom_port: int
    http_port: int
    login: str = ""
    """user:password of basic authentication, where it asks for one."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def _open(self, request: urllib.request.Request, timeout_s: float) -> Any:
        if self.login:
            request.add_header("Authorization", f"Basic {base64.b64encode(self.login.encode()).decode()}")
        return urllib.request.urlopen(request, timeout=timeout_s)

    def ask(self, path: str, body: Any = None, *, raw: bytes | None = None) -> Any:
        """One REST call; JSON in and out."""
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        request = urllib.request.Request(f"{self.url}{path}", data=data)
        request.add_header("Accept", "application/json, application/dicom+json")
        with self._open(request, 120) as answer:
            return json.loads(answer.read() or b"null")

    def upload(self, folder: Path) -> str:
        """Keep every file of a folder; gives Orthanc's own id of the (last) study."""
        study = ""
        for path in sorted(folder.glob("*.dcm")):
            study = self.ask("/instances", raw=path.read_bytes())["ParentStudy"]
        return study

    def send_to_node(self, study: str, node_port: int) -> None:
        """Send a study to the node with Orthanc's own modality store."""
        self.ask_put("/modalities/spinenode", {"AET": "SPINENODE", "Host": "127.0.0.1", "Port": node_port})
        sent = self.ask("/modalities/spinenode/store", {"Resources": [study], "Synchronous": True})
        assert sent["FailedInstancesCount"] == 0, sent

    def ask_put(self, path: str, body: Any) -> None:
        request = urllib.request.Request(f"{self.url}{path}", data=json.dumps(body).encode(), method="PUT")
        self._open(request, 30).close()

    def qido_series(self, study_instance_uid: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(
            f"/dicom-web/studies/{study_instance_uid}/series?includefield=SeriesDescription"
        )
        return found

    def instances(self, study_instance_uid: str, modality: str) -> list[bytes]:
        """The files of one modality in a study, as the archive keeps them."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid, "Modality": modality}}
        files = []
        for instance in self.ask("/tools/find", query):
            with self._open(urllib.request.Request(f"{self.url}/instances/{instance}/file"), 60) as answer:
                files.append(answer.read())
        return files


@contextmanager
def running(program: Path, folder: Path, *, login: str = "", **more: Any) -> Iterator[Orthanc]:
    """Start Orthanc with its storage in ``folder`` and ``more`` settings of its own; yields when it answers."""
    folder.mkdir(parents=True, exist_ok=True)
    orthanc = Orthanc(dicom_port=free_port(), http_port=free_port(), login=login)
    settings = {
        "Name": "test archive",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "DicomAet": AE_TITLE,
        "DicomPort": orthanc.dicom_port,
        "HttpPort": orthanc.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowEcho": True,
        "DicomModalitiesInDatabase": True,
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    } | more
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([str(program), str(config)], stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _wait_for(orthanc, process, folder / "orthanc.log")
        yield orthanc
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(orthanc: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            orthanc.ask("/system")
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, "Orthanc did not answer within 60 s"
            time.sleep(0.2)
        else:
            return
