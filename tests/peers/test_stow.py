"""STOW-RS, asked by dicomweb-client and by hand: the same promise as by C-STORE, and nobody without the token."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session
from pydicom import Dataset, dcmread

from tests.node_process import free_port
from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

TOKEN = "a-token-of-more-than-20-characters"
BOUNDARY = "MARK"
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


class Web(Receiver):
    """A receiver with STOW-RS on ``web_port``."""

    def __init__(self, folder: Path, **settings: object) -> None:
        token_file = folder / "token"
        token_file.write_text(TOKEN + "\n", encoding="ascii")
        token_file.chmod(0o600)
        self.web_port = free_port()
        super().__init__(
            folder,
            stow_port=self.web_port,
            stow_token_file=token_file,
            maximum_object_mb=16,
            acse_timeout_s=3,
            **settings,
        )


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with Web(tmp_path_factory.mktemp("receiver")) as running:
        yield running


def file_of(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def multipart(*files: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + file + b"\r\n" for file in files) + f"--{BOUNDARY}--\r\n".encode()


def post(
    receiver: Web, body: bytes, *, path: str = "/studies", token: str = TOKEN, kind: str = "", chunked: bool = False
) -> tuple[int, dict[str, list[tuple[str, int]]]]:
    """Status, and (SOP Instance UID, failure reason) of what was kept and what was not."""
    connection = http.client.HTTPConnection("127.0.0.1", receiver.web_port, timeout=20)
    kind = kind or MULTIPART
    headers = {"Content-Type": kind, "Authorization": f"Bearer {token}"}
    try:
        connection.request("POST", path, iter([body]) if chunked else body, headers, encode_chunked=chunked)
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    if answer.headers["Content-Type"] != "application/dicom+json":
        return answer.status, {}
    found = {}
    for tag, items in json.loads(said).items():
        found[tag] = [
            (item["00081155"]["Value"][0], item.get("00081197", {"Value": [0]})["Value"][0]) for item in items["Value"]
        ]
    return answer.status, {"kept": found.get("00081199", []), "refused": found.get("00081198", [])}


def test_dicomweb_client_stores_a_study(receiver: Web) -> None:
    session = create_session()
    where = f"http://127.0.0.1:{receiver.web_port}"
    client = DICOMwebClient(where, session=session, headers={"Authorization": f"Bearer {TOKEN}"})
    images = [mr_image(number) for number in range(1, 6)]
    answer = client.store_instances([dcmread(BytesIO(file_of(image))) for image in images])
    session.close()
    assert len(answer.ReferencedSOPSequence) == 5
    kept = receiver.kept()
    for image in images:
        assert kept[str(image.SOPInstanceUID)].endswith(encoded(image))


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_kept_and_what_is_not_is_told_one_by_one(receiver: Web, chunked: bool) -> None:
    good, nameless = mr_image(10), mr_image(11)
    del nameless.SeriesInstanceUID
    body = multipart(file_of(good), file_of(nameless), b"no file")
    status, said = post(receiver, body, chunked=chunked)
    assert status == 202
    assert said == {"kept": [("1.2.3.1.10", 0)], "refused": [("1.2.3.1.11", 0xA900), ("", 0xC000)]}
    assert "1.2.3.1.11" not in receiver.kept()


def test_the_same_again_is_a_success_and_changes_nothing(receiver: Web) -> None:
    for _ in range(2):
        assert post(receiver, multipart(file_of(mr_image(20)))) == (200, {"kept": [("1.2.3.1.20", 0)], "refused": []})


def test_an_image_of_another_study_than_the_path_names_is_refused(receiver: Web) -> None:
    status, said = post(receiver, multipart(file_of(mr_image(30))), path="/studies/1.2.4")
    assert (status, said["refused"]) == (409, [("1.2.3.1.30", 0xA900)])
    assert post(receiver, multipart(file_of(mr_image(30))), path="/studies/1.2.3")[0] == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"token": "wrong"}, 401),
        ({"token": ""}, 401),
        ({"kind": "application/dicom"}, 415),
        ({"kind": "multipart/related; type=application/dicom"}, 415),
        ({"kind": 'multipart/related; type="application/json"; boundary=MARK'}, 415),
        ({"path": "/instances"}, 404),
        ({"path": "/studies/../../etc"}, 404),
        ({"body": b""}, 400),
        ({"body": b"--MARK\r\n"}, 400),
        ({"body": bytes(17 * 2**20)}, 413),
    ],
)
def test_what_is_no_store_request_gets_its_status(receiver: Web, change: dict[str, object], status: int) -> None:
    arguments = {"body": multipart(file_of(mr_image(40)))} | change
    try:
        assert post(receiver, **arguments)[0] == status  # type: ignore[arg-type]
    except (ConnectionResetError, BrokenPipeError):
        assert status == 413, "it answers without reading what is too much"
    assert "1.2.3.1.40" not in receiver.kept()


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda body: body[:-200],
        lambda body: body.removesuffix(b"--MARK--\r\n"),
        lambda body: b"\n\n".join(body.rsplit(b"\r\n\r\n", 1)),
        lambda body: (b"\r\nX: " + b"a" * 9000 + b"\r\n\r\n").join(body.rsplit(b"\r\n\r\n", 1)),
    ],
    ids=["cut off", "no closing boundary", "LF in the header of a part", "9 kB of header"],
)
def test_a_body_that_cannot_be_read_to_its_end_is_no_success(receiver: Web, spoilt: Callable[[bytes], bytes]) -> None:
    """What was kept before stays kept, and is named; the rest is not passed over in silence."""
    files = [file_of(mr_image(number)) for number in (53, 54)]
    status, said = post(receiver, spoilt(multipart(*files)))
    assert (status, said["kept"]) == (400, [("1.2.3.1.53", 0)])
    assert "1.2.3.1.54" not in receiver.kept()


def test_a_length_of_thousands_of_digits_is_answered(receiver: Web) -> None:
    head = f"POST /studies HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {MULTIPART}\r\n"
    with socket.create_connection(("127.0.0.1", receiver.web_port), timeout=10) as connection:
        connection.sendall(f"{head}Content-Length: {'9' * 5000}\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_a_request_that_breaks_off_leaves_nothing(receiver: Web) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.web_port, timeout=20)
    connection.putrequest("POST", "/studies")
    connection.putheader("Content-Type", MULTIPART)
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Length", "100000")
    connection.endheaders()
    connection.send(multipart(file_of(mr_image(50)))[:500])
    connection.close()
    assert post(receiver, multipart(file_of(mr_image(51))))[0] == 200
    assert "1.2.3.1.50" not in receiver.kept()


@pytest.mark.parametrize("begin", [b"", b"POST /studies HTTP/1.1\r\nX: ", None], ids=["first line", "header", "body"])
def test_a_request_that_drips_in_is_cut_off_in_time(receiver: Web, begin: bytes | None) -> None:
    """A byte every half second would never be silence, and would hold one of 16 places for days."""
    if begin is None:
        head = f"Authorization: Bearer {TOKEN}\r\nContent-Length: 100000\r\n"
        begin = f"POST /studies HTTP/1.1\r\n{head}Content-Type: {MULTIPART}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", receiver.web_port), timeout=1) as connection:
        connection.sendall(begin)
        started = time.monotonic()
        while time.monotonic() - started < 20:
            try:
                connection.sendall(b"x")
                if not connection.recv(4096):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - started < 10
    assert post(receiver, multipart(file_of(mr_image(52))))[0] == 200


def asked_from(address: str, receiver: Web) -> http.client.HTTPConnection:
    """From another address of loopback."""
    return http.client.HTTPConnection("127.0.0.1", receiver.web_port, timeout=20, source_address=(address, 0))


def status_of_nothing(connection: http.client.HTTPConnection) -> int:
    """400: the token is good, and there is no body."""
    headers = {"Content-Type": MULTIPART, "Authorization": f"Bearer {TOKEN}"}
    connection.request("POST", "/studies", b"", headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_silent_connections_take_no_thread_and_no_place(receiver: Web) -> None:
    assert status_of_nothing(asked_from("127.0.0.1", receiver)) == 400
    threads = receiver.threads
    silent = [socket.create_connection(("127.0.0.1", receiver.web_port)) for _ in range(100)]
    time.sleep(0.5)
    assert receiver.threads <= threads
    assert status_of_nothing(asked_from("127.0.0.1", receiver)) == 400
    for connection in silent:
        connection.close()


def test_one_address_that_takes_all_it_can_get_leaves_places_to_others(receiver: Web) -> None:
    greedy = [socket.create_connection(("127.0.0.1", receiver.web_port)) for _ in range(40)]
    for connection in greedy:
        connection.sendall(b"P")
    time.sleep(0.5)
    assert status_of_nothing(asked_from("127.0.0.2", receiver)) == 400
    for connection in greedy:
        connection.close()
    receiver.wait_for_log("127.0.0.1: STOW-RS connection closed: too many are open")


def test_health_checks_write_no_line_each(receiver: Web) -> None:
    lines = receiver.log.count("\n")
    for _ in range(100):
        socket.create_connection(("127.0.0.1", receiver.web_port)).close()
    assert status_of_nothing(asked_from("127.0.0.1", receiver)) == 400
    assert receiver.log.count("\n") <= lines + 2


def test_zz_the_log_names_no_patient_no_uid_and_no_token(receiver: Web) -> None:
    log = "\n".join(line for line in receiver.log.splitlines() if "alembic" not in line)
    assert "STOW-RS request of 127.0.0.1: 5 kept, 0 refused" in log
    assert not [secret for secret in ("SECRET", "1.2.3", TOKEN, "wrong") if secret in log]
