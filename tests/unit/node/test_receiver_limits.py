"""The receiver as a real process among peers that dawdle, flood, lie about lengths and send rubbish."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

pytestmark = pytest.mark.slow

SECONDS_OF_SILENCE = 4
OPEN_CLOSE = 3000


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(
        tmp_path_factory.mktemp("receiver"),
        acse_timeout_s=SECONDS_OF_SILENCE,
        network_timeout_s=SECONDS_OF_SILENCE,
        maximum_associations_per_address=10,
        maximum_object_mb=8,
    ) as running:
        echo(running)  # what is loaded late is loaded now
        yield running


def associate(receiver: Receiver) -> Association:
    ae = AE(ae_title="MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    ae.add_requested_context(Verification)
    return ae.associate("127.0.0.1", receiver.port, ae_title="SPINENODE")


def echo(receiver: Receiver) -> None:
    """It answers as ever."""
    association = associate(receiver)
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    association.release()


def connect(receiver: Receiver) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", receiver.port))
    connection.settimeout(10)
    return connection


def request(*, called: str = "SPINENODE") -> bytes:
    """An A-ASSOCIATE-RQ PDU that proposes MR images as context 1 and verification as context 3."""
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "MODALITY", called
    images, verification = build_context(MRImageStorage, ExplicitVRLittleEndian), build_context(Verification)
    images.context_id, verification.context_id = 1, 3
    asked.presentation_context_definition_list = [images, verification]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    asked.user_information = [length, implementation]
    return A_ASSOCIATE_RQ(asked).encode()


def negotiated(receiver: Receiver) -> socket.socket:
    """A connection with an association on it, to send anything over."""
    connection = connect(receiver)
    connection.sendall(request())
    assert read_pdu(connection)[0] == 2, "A-ASSOCIATE-AC"
    return connection


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and content; 0 where the peer hung up."""
    head = b""
    while len(head) < 6:
        got = connection.recv(6 - len(head))
        if not got:
            return 0, b""
        head += got
    kind, length = struct.unpack(">BxL", head)
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return kind, body


def p_data(*values: tuple[int, int, bytes]) -> bytes:
    """A P-DATA-TF PDU of (context, control, fragment)."""
    body = b"".join(
        struct.pack(">LBB", len(fragment) + 2, context, control) + fragment for context, control, fragment in values
    )
    return struct.pack(">BxL", 4, len(body)) + body


def command(field: int, *, has_dataset: bool = True, uid: bytes = b"1.2.3.1.1") -> bytes:
    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    return b"".join(
        (
            element(2, MRImageStorage.encode()),
            element(0x100, struct.pack("<H", field)),
            element(0x110, struct.pack("<H", 1)),
            element(0x800, struct.pack("<H", 1 if has_dataset else 0x0101)),
            element(0x1000, uid),
        )
    )


def ended(connection: socket.socket) -> bool:
    """Whether the receiver aborts or hangs up."""
    try:
        return read_pdu(connection)[0] in (0, 7)
    except ConnectionResetError:
        return True


def load(receiver: Receiver) -> tuple[int, int]:
    return receiver.threads, receiver.open_files


def wait_until_it_is_as_before(receiver: Receiver, before: tuple[int, int]) -> None:
    deadline = time.monotonic() + 30
    while load(receiver) > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert load(receiver) <= before


def test_thousands_of_health_checks_leave_nothing_behind(receiver: Receiver) -> None:
    before, rss_mb = load(receiver), receiver.rss_mb
    for _ in range(OPEN_CLOSE):
        connect(receiver).close()
    wait_until_it_is_as_before(receiver, before)
    echo(receiver)
    assert receiver.rss_mb < rss_mb + 2


def test_silent_connections_cost_no_thread_and_are_sent_off(receiver: Receiver) -> None:
    before = load(receiver)
    silent = [connect(receiver) for _ in range(100)]
    time.sleep(0.5)
    assert receiver.threads <= before[0]
    echo(receiver)
    assert all(connection.recv(1) == b"" for connection in silent)
    for connection in silent:
        connection.close()
    wait_until_it_is_as_before(receiver, before)


def test_a_request_that_drips_in_is_cut_off_in_time(receiver: Receiver) -> None:
    before = load(receiver)
    began = time.monotonic()
    with connect(receiver) as dripping:
        try:
            for byte in request():
                dripping.sendall(bytes([byte]))
                time.sleep(0.3)
        except OSError:
            pass
        assert time.monotonic() - began < SECONDS_OF_SILENCE + 3
    wait_until_it_is_as_before(receiver, before)


def test_a_sender_that_falls_silent_inside_an_image_is_cut_off(receiver: Receiver) -> None:
    before = load(receiver)
    with negotiated(receiver) as connection:
        connection.sendall(p_data((1, 3, command(1))) + p_data((1, 0, bytes(1000))))
        connection.sendall(struct.pack(">BxLLBB", 4, 2**31, 2**31 - 4, 1, 0) + bytes(5000))
        began = time.monotonic()
        assert ended(connection)
        assert time.monotonic() - began < SECONDS_OF_SILENCE + 3
    wait_until_it_is_as_before(receiver, before)


def test_an_idle_association_is_ended(receiver: Receiver) -> None:
    before = load(receiver)
    with negotiated(receiver) as connection:
        assert ended(connection)
    wait_until_it_is_as_before(receiver, before)


def test_one_address_gets_so_many_associations_and_then_a_transient_refusal(receiver: Receiver) -> None:
    before = load(receiver)
    held = [negotiated(receiver) for _ in range(10)]
    with connect(receiver) as eleventh:
        eleventh.sendall(request())
        assert read_pdu(eleventh) == (3, bytes((0, 2, 3, 2)))
    receiver.wait_for_log("refused: receiver.maximum_associations_per_address (10) are open")
    for connection in held:
        connection.close()
    wait_until_it_is_as_before(receiver, before)
    echo(receiver)


def test_a_length_of_4_gb_gets_no_memory(receiver: Receiver) -> None:
    rss_mb = receiver.rss_mb
    with negotiated(receiver) as connection:
        connection.sendall(p_data((1, 3, command(1))))
        connection.sendall(struct.pack(">BxLLBB", 4, 2**32 - 1, 2**32 - 5, 1, 2) + bytes(100))
        assert receiver.rss_mb < rss_mb + 5
        assert ended(connection)


def test_an_object_beyond_the_limit_ends_the_association_and_leaves_no_file(receiver: Receiver) -> None:
    with negotiated(receiver) as connection:
        connection.sendall(p_data((1, 3, command(1))))
        try:
            for _ in range(10):
                connection.sendall(p_data((1, 0, bytes(2**20))))
            assert ended(connection)
        except OSError:
            pass  # it hung up while we were sending
    receiver.wait_for_log("association ended: object bigger than receiver.maximum_object_mb")
    assert list(receiver.spool.absolute(Path("received/unfinished")).iterdir()) == []


def test_an_object_too_big_for_memory_is_kept_byte_for_byte(receiver: Receiver) -> None:
    big = mr_image(77)
    big.PixelData = bytes(range(256)) * (5 * 2**20 // 256)
    association = associate(receiver)
    assert association.send_c_store(big).Status == 0x0000
    assert association.send_c_store(big).Status == 0x0000
    assert association.send_c_store(mr_image(78)).Status == 0x0000
    association.release()
    kept = receiver.kept()
    assert kept["1.2.3.1.77"].endswith(encoded(big))
    assert kept["1.2.3.1.78"].endswith(encoded(mr_image(78)))
    assert list(receiver.spool.absolute(Path("received/unfinished")).iterdir()) == []


def test_a_big_object_that_is_refused_leaves_no_file(receiver: Receiver) -> None:
    nameless = mr_image(79)
    nameless.PixelData = bytes(3 * 2**20)
    del nameless.SeriesInstanceUID
    association = associate(receiver)
    assert association.send_c_store(nameless).Status == 0xA900
    association.release()
    assert list(receiver.spool.absolute(Path("received/unfinished")).iterdir()) == []


@pytest.mark.parametrize(
    "uid",
    [b"../../../../etc/cron.d/x", b"1.2.3\0.4", b"1" * 65, b"", b"/etc/passwd", "1.2.\u00e9".encode("latin-1")],
    ids=["climbing", "NUL", "65 digits", "empty", "absolute", "not ASCII"],
)
@pytest.mark.parametrize("size", [0, 3 * 2**20], ids=["small", "big"])
def test_a_uid_that_is_none_is_refused_alone_and_names_no_file(receiver: Receiver, uid: bytes, size: int) -> None:
    image = mr_image(80)
    image.PixelData = bytes(size)
    with negotiated(receiver) as connection:
        connection.sendall(p_data((1, 3, command(1, uid=uid))) + p_data((1, 2, encoded(image))))
        kind, answer = read_pdu(connection)
        assert kind == 4
        assert struct.pack("<HHLH", 0, 0x900, 2, 0xA900) in answer
        connection.sendall(p_data((3, 3, command(0x30, has_dataset=False))))
        assert read_pdu(connection)[0] == 4, "the association goes on"
    assert "1.2.3.1.80" not in receiver.kept()


@pytest.mark.parametrize(
    "sent",
    [
        p_data((1, 2, b"data without a command")),
        p_data((1, 3, b"\0\0\0\1\xff\xff\xff\xff")),
        p_data((5, 3, command(1))),
        p_data((3, 3, command(1))),
        p_data((1, 3, command(0x30, has_dataset=False))),
        p_data((1, 3, command(0x20))),
        p_data((1, 3, command(0x100))),
        p_data((1, 3, command(1)), (3, 2, b"other context")),
        p_data((1, 3, command(1)), (1, 1, b"command inside the data set")),
        struct.pack(">BxLLBB", 4, 8, 100, 1, 3) + bytes(2),
        struct.pack(">BxL", 4, 3) + bytes(3),
        struct.pack(">BxL", 9, 4) + bytes(4),
        struct.pack(">BxL", 1, 2**31),
        struct.pack(">BxL", 5, 2**20 + 1),
        request(),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=lambda sent: sent[:24].hex(),
)
def test_a_breach_of_the_protocol_ends_the_association(receiver: Receiver, sent: bytes) -> None:
    with negotiated(receiver) as connection:
        connection.sendall(sent)
        assert ended(connection)


def test_a_command_without_end_ends_the_association(receiver: Receiver) -> None:
    with negotiated(receiver) as connection:
        for _ in range(5):
            connection.sendall(p_data((1, 1, bytes(2**14))))
        assert ended(connection)


def test_an_image_in_fragments_of_one_byte_is_kept(receiver: Receiver) -> None:
    content = encoded(mr_image(81))
    with negotiated(receiver) as connection:
        whole = command(1, uid=b"1.2.3.1.81")
        for number, byte in enumerate(whole):
            connection.sendall(p_data((1, 3 if number == len(whole) - 1 else 1, bytes([byte]))))
        connection.sendall(b"".join(p_data((1, 0, bytes([byte]))) for byte in content) + p_data((1, 2, b"")))
        assert read_pdu(connection)[0] == 4
    assert receiver.kept()["1.2.3.1.81"].endswith(content)


def test_many_presentation_data_values_in_one_pdu_are_one_image(receiver: Receiver) -> None:
    content = encoded(mr_image(82))
    with negotiated(receiver) as connection:
        connection.sendall(
            p_data(
                (1, 3, command(1, uid=b"1.2.3.1.82")),
                (1, 0, content[:50]),
                (1, 0, content[50:51]),
                (1, 2, content[51:]),
            )
        )
        assert read_pdu(connection)[0] == 4
    assert receiver.kept()["1.2.3.1.82"].endswith(content)


FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(
    before=st.binary(max_size=40),
    place=st.integers(0, 300),
    change=st.binary(min_size=1, max_size=8),
    is_negotiated=st.booleans(),
)
def test_damaged_pdus_do_no_harm(
    receiver: Receiver, before: bytes, place: int, change: bytes, is_negotiated: bool
) -> None:
    """A good request or image with some bytes changed, after some rubbish or none."""
    good = p_data((1, 3, command(1)), (1, 2, encoded(mr_image(1)))) if is_negotiated else request()
    place %= len(good)
    damaged = before + good[:place] + change + good[place + len(change) :]
    connection = negotiated(receiver) if is_negotiated else connect(receiver)
    with connection:
        try:
            connection.sendall(damaged)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        except OSError:
            return  # it was reset: an answer as good as any


@FUZZ
@given(content=st.binary(max_size=400))
def test_any_data_set_gets_a_status(receiver: Receiver, content: bytes) -> None:
    with negotiated(receiver) as connection:
        connection.sendall(p_data((1, 3, command(1)), (1, 2, content)))
        kind, answer = read_pdu(connection)
        assert kind == 4
        assert struct.pack("<HHL", 0, 0x900, 2) in answer


def test_after_all_this_it_is_as_it_was(receiver: Receiver) -> None:
    """Last in the file but one."""
    deadline = time.monotonic() + 20
    while receiver.threads > 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert receiver.threads <= 3
    assert receiver.open_files < 20
    assert receiver.rss_mb < 100
    senders = [threading.Thread(target=echo, args=(receiver,)) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(timeout=60)
    outside = [path for path in receiver.log_file.parent.rglob("*") if path.is_file() and "data" not in path.parts]
    assert {path.name for path in outside} == {"node.toml", "receiver.log"}
    assert "Traceback" not in receiver.log


def test_zz_the_log_of_all_this_names_no_patient_and_no_uid(receiver: Receiver) -> None:
    log = "\n".join(line for line in receiver.log.splitlines() if "alembic" not in line)
    assert "association ended" in log
    assert "SECRET" not in log
    assert "1.2.3" not in log
