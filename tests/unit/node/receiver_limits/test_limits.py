"""The receiver as a real process among peers that dawdle, flood and send more than fits."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image
from tests.unit.node.receiver_limits.by_hand import (
    SECONDS_OF_SILENCE,
    assert_it_is_as_it_was,
    assert_its_log_names_nobody,
    associate,
    command,
    connect,
    echo,
    ended,
    load,
    negotiated,
    p_data,
    read_pdu,
    request,
    wait_until_it_is_as_before,
)

pytestmark = pytest.mark.slow

OPEN_CLOSE = 3000


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


def test_after_all_this_it_is_as_it_was(receiver: Receiver) -> None:
    """Last in the file but one."""
    assert_it_is_as_it_was(receiver)


def test_zz_the_log_of_all_this_names_no_patient_and_no_uid(receiver: Receiver) -> None:
    assert_its_log_names_nobody(receiver)
