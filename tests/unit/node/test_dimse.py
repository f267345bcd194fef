"""Command sets as bytes: ours are read by pynetdicom, and pynetdicom's by us; rubbish is refused."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from node.dimse import Command, NotACommand, echo_response, p_data_pdus, read_command, store_response, uid_text

REQUEST = Command(
    context_id=5,
    field=0x0001,
    message_id=7,
    has_dataset=True,
    sop_class_uid=b"1.2.840.10008.5.1.4.1.1.4\0",
    sop_instance_uid=b"1.2.3\0",
)


def as_dataset(encoded: bytes) -> Dataset:
    return decode(BytesIO(encoded), True, True)


def test_a_store_response_says_to_what_with_which_status() -> None:
    response = as_dataset(store_response(REQUEST, 0xA700))
    assert (response.CommandField, response.MessageIDBeingRespondedTo, response.Status) == (0x8001, 7, 0xA700)
    assert (response.AffectedSOPClassUID, response.AffectedSOPInstanceUID) == ("1.2.840.10008.5.1.4.1.1.4", "1.2.3")
    assert response.CommandDataSetType == 0x0101
    assert response.CommandGroupLength == len(store_response(REQUEST, 0xA700)) - 12


def test_an_echo_response_is_a_success() -> None:
    response = as_dataset(echo_response(REQUEST))
    assert (response.CommandField, response.MessageIDBeingRespondedTo, response.Status) == (0x8030, 7, 0)


def test_a_request_of_pynetdicom_is_understood() -> None:
    request = Dataset()
    request.CommandGroupLength = 0
    request.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    request.CommandField = 0x0001
    request.MessageID = 7
    request.Priority = 2
    request.CommandDataSetType = 1
    request.AffectedSOPInstanceUID = "1.2.3"
    read = read_command(encode(request, True, True) or b"", 5)
    assert (read.field, read.message_id, read.has_dataset) == (1, 7, True)
    assert (uid_text(read.sop_class_uid), uid_text(read.sop_instance_uid)) == ("1.2.840.10008.5.1.4.1.1.4", "1.2.3")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_refused(encoded: bytes) -> None:
    try:
        command = read_command(encoded, 1)
    except NotACommand:
        return
    assert command.field < 2**16


def test_a_length_that_reaches_beyond_the_end_is_refused() -> None:
    with pytest.raises(NotACommand, match="ends inside an element"):
        read_command(struct.pack("<HHL", 0, 0x100, 0xFFFFFFFF) + b"\1\0", 1)


@given(command=st.binary(min_size=1, max_size=500), maximum=st.sampled_from([0, 64, 100, 16384]))
def test_fragments_fit_the_peer_and_join_to_the_command(command: bytes, maximum: int) -> None:
    pdus = list(p_data_pdus(3, command, maximum))
    joined = b""
    for number, pdu in enumerate(pdus):
        kind, length, value_length, context_id, control = struct.unpack(">BxLLBB", pdu[:12])
        assert (kind, length, value_length, context_id) == (4, len(pdu) - 6, len(pdu) - 10, 3)
        assert control == (3 if number == len(pdus) - 1 else 1)
        assert maximum == 0 or length <= maximum
        joined += pdu[12:]
    assert joined == command
