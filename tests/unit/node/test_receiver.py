"""The receiver as a real process, asked by pynetdicom: who may associate, what it answers, logs and loads."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node import quiet_libraries
from node.settings import ReceiverSettings
from node.storage_scp import CannotListen, listen
from tests.receiving import Receiver
from tests.unit.node.encoded_images import encoded, mr_image

RSS_LIMIT_MB = 100


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(
        tmp_path_factory.mktemp("receiver"), allowed_calling_ae_titles=["MODALITY"], acse_timeout_s=1
    ) as running:
        yield running


def associate(
    receiver: Receiver,
    *,
    calling: str = "MODALITY",
    called: str = "SPINENODE",
    sop_class: str = MRImageStorage,
    transfer_syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,),
) -> Association:
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context(sop_class, [UID(syntax) for syntax in transfer_syntaxes])
    ae.add_requested_context(Verification)
    return ae.associate("127.0.0.1", receiver.port, ae_title=called)


def test_echo_is_answered(receiver: Receiver) -> None:
    association = associate(receiver)
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_an_image_is_kept_as_it_was_sent(receiver: Receiver) -> None:
    association = associate(receiver)
    assert association.send_c_store(mr_image(1)).Status == 0x0000
    association.release()
    assert receiver.kept()["1.2.3.1.1"].endswith(encoded(mr_image(1)))
    receiver.wait_for_log("association of 'MODALITY' at 127.0.0.1 released: 1 new")


@pytest.mark.parametrize(
    ("calling", "called", "why"),
    [
        ("STRANGER", "SPINENODE", "it is not in receiver.allowed_calling_ae_titles"),
        ("MODALITY", "OTHER", "it called 'OTHER', not receiver.ae_title 'SPINENODE'"),
    ],
)
def test_a_stranger_is_refused_and_the_log_names_the_setting(
    receiver: Receiver, calling: str, called: str, why: str
) -> None:
    assert associate(receiver, calling=calling, called=called).is_rejected
    receiver.wait_for_log(f"association of '{calling}' at 127.0.0.1 refused: {why}")


@pytest.mark.parametrize(
    "sop_class", ["1.2.840.10008.5.1.4.1.1.88.34", "1.2.826.0.1.9999.7", "1.2.840.10008.5.1.4.1.1.5"]
)
@pytest.mark.parametrize("syntaxes", [(JPEG2000Lossless,), ("1.2.826.0.1.9999.1",)])
def test_every_storage_class_and_transfer_syntax_is_accepted(
    receiver: Receiver, sop_class: str, syntaxes: tuple[str, ...]
) -> None:
    association = associate(receiver, sop_class=sop_class, transfer_syntaxes=syntaxes)
    accepted = {context.abstract_syntax: context.transfer_syntax[0] for context in association.accepted_contexts}
    association.release()
    assert accepted[UID(sop_class)] == syntaxes[0]


@pytest.mark.parametrize(
    "service",
    ["1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.43.1"],
    ids=["query", "hanging protocols", "implant templates"],
)
def test_a_service_that_it_does_not_give_is_refused(receiver: Receiver, service: str) -> None:
    """Non-patient objects belong to no study: they are refused before they are sent, not one by one."""
    association = associate(receiver, sop_class=service)
    assert [context.abstract_syntax for context in association.rejected_contexts] == [service]
    association.release()


def test_what_is_refused_is_refused_alone(receiver: Receiver) -> None:
    association = associate(receiver)
    nameless = mr_image(10)
    del nameless.StudyInstanceUID
    assert association.send_c_store(nameless).Status == 0xA900
    assert association.send_c_store(mr_image(11)).Status == 0x0000
    association.release()
    assert "1.2.3.1.10" not in receiver.kept()
    assert "1.2.3.1.11" in receiver.kept()


def test_scanners_of_ports_leave_nothing_behind(receiver: Receiver) -> None:
    threads, open_files = receiver.threads, receiver.open_files
    for number in range(30):
        with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
            if number % 2:  # ends with a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if number % 3:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n" if number % 3 == 1 else struct.pack(">BBL", 4, 0, 2**31))
    deadline = time.monotonic() + 30
    while (receiver.threads > threads or receiver.open_files > open_files) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert receiver.threads <= threads
    assert receiver.open_files <= open_files
    association = associate(receiver)
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_health_checks_that_speak_http_are_told_of_once_and_counted(receiver: Receiver) -> None:
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                connection.recv(100)
    told = receiver.log.count("127.0.0.1: association ended: a PDU of type 71")
    assert told in (1, 2), "another one after a minute"


def test_it_stays_small_and_loads_nothing_that_grades(receiver: Receiver) -> None:
    association = associate(receiver)
    for number in range(100, 130):
        assert association.send_c_store(mr_image(number)).Status == 0x0000
    association.release()
    assert receiver.rss_mb < RSS_LIMIT_MB
    assert not [
        name for name in receiver.loaded_files if "torch" in name or "gdcm" in name or "openblas" in name.lower()
    ]


def test_zz_its_log_of_all_this_names_no_patient_and_no_uid(receiver: Receiver) -> None:
    """Last in the file: everything above has been logged at DEBUG."""
    log = "\n".join(line for line in receiver.log.splitlines() if "alembic" not in line)
    assert "released" in log
    assert "SECRET" not in log
    assert "1.2.3" not in log


@pytest.mark.slow
def test_an_address_that_is_not_allowed_is_cut_off_before_a_word(tmp_path: Path) -> None:
    with Receiver(tmp_path, allowed_addresses=["10.0.0.0/8"]) as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
            connection.settimeout(10)
            assert connection.recv(1) == b""
        receiver.wait_for_log("127.0.0.1: connection closed: not in receiver.allowed_addresses")


@pytest.mark.slow
def test_who_was_turned_away_is_counted_and_told_without_a_name(tmp_path: Path) -> None:
    with Receiver(tmp_path) as receiver:
        for number in range(3):
            assert associate(receiver, called=f"OTHER{number}").is_rejected
        association = associate(receiver)
        nameless = mr_image(90)
        del nameless.SeriesInstanceUID
        assert association.send_c_store(nameless).Status == 0xA900
        association.release()
        receiver.stop()
        assert (
            "turned away since this was last told: 1 times: answered with 0xA900; "
            "3 times: called another AE title than receiver.ae_title"
        ) in receiver.log


@pytest.mark.slow
def test_the_limit_of_associations_is_a_transient_refusal(tmp_path: Path) -> None:
    with Receiver(tmp_path, maximum_associations=1) as receiver:
        first = associate(receiver)
        second = associate(receiver)
        assert second.is_rejected
        first.release()
        receiver.wait_for_log("refused: receiver.maximum_associations (1) are open")


@pytest.mark.slow
def test_a_disk_below_the_watermark_refuses_associations_for_now(tmp_path: Path) -> None:
    with Receiver(tmp_path, minimum_free_mb=2**30) as receiver:
        association = associate(receiver)
        assert association.is_rejected
        answer = association.acceptor.primitive
        assert answer is not None
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
        receiver.wait_for_log("refused: the disk is below its watermark (receiver.minimum_free_mb)")


@pytest.mark.slow
def test_sigterm_ends_it_soon_even_with_an_association_open(tmp_path: Path) -> None:
    with Receiver(tmp_path) as receiver:
        associate(receiver)
        started = time.monotonic()
        assert receiver.stop() == 0
        assert time.monotonic() - started < 10


def test_a_port_that_is_taken_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet_libraries, "prepare", lambda: None)  # it changes the whole process, here pytest's
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"127\.0\.0\.1 port {port}: .*receiver\.port"):
            listen(ReceiverSettings(port=port), intake=None, filing=None)  # type: ignore[arg-type]


def test_complaints_of_the_library_are_passed_on_without_what_they_quote(caplog: pytest.LogCaptureFixture) -> None:
    library = logging.Logger("pynetdicom.somewhere")
    library.addHandler(quiet_libraries._Anonymous())
    library.warning("no service for 1.2.840.10008.99.1 from 10.0.0.1")
    for written in ("SECRET^NAME", "O'SECRET", "'SECRET", "1.2.SECRET", 'a"SECRET'):
        library.warning(f"Non-conformant 'Abstract Syntax Name' value '{written}' in a request")
    try:
        raise ValueError("SECRET^NAME")
    except ValueError as error:
        library.exception(error)
    assert "no service for ... from 10.0.0.1" in caplog.text
    assert caplog.text.count("Non-conformant ... in a request") == 5
    assert "ValueError at tests/unit/node/test_receiver.py" in caplog.text
    assert "SECRET" not in caplog.text
