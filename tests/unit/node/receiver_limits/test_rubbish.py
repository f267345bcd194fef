"""The receiver as a real process among peers that lie about lengths and send rubbish."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image
from tests.unit.node.receiver_limits.by_hand import (
    assert_it_is_as_it_was,
    assert_its_log_names_nobody,
    command,
    connect,
    ended,
    negotiated,
    p_data,
    read_pdu,
    request,
)

pytestmark = pytest.mark.slow


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
    assert_it_is_as_it_was(receiver)


def test_zz_the_log_of_all_this_names_no_patient_and_no_uid(receiver: Receiver) -> None:
    assert_its_log_names_nobody(receiver)
