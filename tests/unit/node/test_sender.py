"""Sending: the bytes go out untouched, each answer is told apart, and a peer that is gone is left in peace."""

from __future__ import annotations

import gc
import socket
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts, evt

from node.retry import Failure
from node.sender import Outcome, Peer, SendError, Stored, answer_of, echo, peer_of, send, send_folder
from node.settings import ArchiveSettings
from tests.scripted_archive import AE_TITLE, answering, closed_port
from tests.unit.node.outgoing_objects import capture, text_report

# pynetdicom leaves the socket of a connection that failed to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _failed_sockets_end_with_their_test() -> Iterator[None]:
    yield
    gc.collect()


TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def write_object(folder: Path, number: int, sop_class: str = TEXT_SR, syntax: str = ExplicitVRLittleEndian) -> Path:
    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = syntax
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = sop_class
    item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number}"
    item.StudyInstanceUID = "2.25.99"
    item.PatientName = "Doe^Jane"
    path = folder / f"{number}.dcm"
    item.save_as(path, enforce_file_format=True)
    return path


def peer_at(port: int) -> Peer:
    return Peer(host="127.0.0.1", port=port, ae_title=AE_TITLE, calling_ae_title="SPINENODE", connect_timeout_s=2)


def failure(outcome: Outcome) -> Failure:
    assert isinstance(outcome.answer, Failure)
    return outcome.answer


def test_three_objects_go_over_one_association_and_every_answer_is_kept(tmp_path: Path) -> None:
    paths = [write_object(tmp_path, 1), write_object(tmp_path, 2), write_object(tmp_path, 3, SECONDARY_CAPTURE)]
    with answering() as archive:
        outcomes = tuple(send(paths, peer_at(archive.port)))
    assert [outcome.path for outcome in outcomes] == paths
    assert [outcome.answer for outcome in outcomes] == [Stored(status="0x0000 success")] * 3
    assert archive.associations == 1
    assert [item.SOPInstanceUID for item in archive.stored] == ["2.25.1", "2.25.2", "2.25.3"]


def test_the_bytes_of_the_file_are_the_bytes_on_the_wire(tmp_path: Path) -> None:
    path = write_object(tmp_path, 1)
    with answering() as archive:
        tuple(send([path], peer_at(archive.port)))
    assert path.read_bytes().endswith(archive.encoded[0])
    assert len(archive.encoded[0]) > 60


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, ImplicitVRLittleEndian])
def test_a_file_is_sent_in_its_own_transfer_syntax(tmp_path: Path, syntax: str) -> None:
    with answering() as archive:
        tuple(send([write_object(tmp_path, 1, syntax=syntax)], peer_at(archive.port)))
    assert archive.transfer_syntaxes == [syntax]


def test_an_archive_that_prefers_implicit_still_gets_the_file_as_it_is(tmp_path: Path) -> None:
    with answering(transfer_syntaxes=[ImplicitVRLittleEndian, ExplicitVRLittleEndian]) as archive:
        tuple(send([write_object(tmp_path, 1)], peer_at(archive.port)))
    assert archive.transfer_syntaxes == [ExplicitVRLittleEndian]


def test_an_archive_that_only_takes_implicit_gets_implicit(tmp_path: Path) -> None:
    with answering(transfer_syntaxes=[ImplicitVRLittleEndian]) as archive:
        (outcome,) = send([write_object(tmp_path, 1)], peer_at(archive.port))
    assert outcome.answer == Stored(status="0x0000 success")
    assert archive.transfer_syntaxes == [ImplicitVRLittleEndian]
    assert archive.stored[0].PatientName == "Doe^Jane"


def test_a_class_that_the_archive_does_not_take_is_a_permanent_failure_of_that_object_alone(tmp_path: Path) -> None:
    paths = [write_object(tmp_path, 1), write_object(tmp_path, 2, SECONDARY_CAPTURE)]
    with answering(sop_classes=[SECONDARY_CAPTURE]) as archive:
        refused, stored = send(paths, peer_at(archive.port))
    assert failure(refused).permanent
    assert "accepts no presentation context for Basic Text SR Storage in Explicit VR" in failure(refused).what
    assert stored.answer == Stored(status="0x0000 success")


def test_an_archive_that_takes_none_of_it_is_a_permanent_failure(tmp_path: Path) -> None:
    with answering(sop_classes=[]) as archive:
        (outcome,) = send([write_object(tmp_path, 1)], peer_at(archive.port))
    assert failure(outcome).permanent
    assert "accepts none of the presentation contexts" in failure(outcome).what


def test_a_refusal_of_one_object_for_good_does_not_stop_the_next(tmp_path: Path) -> None:
    def refuse_first(event: evt.Event) -> int:
        return 0xC001 if event.request.AffectedSOPInstanceUID == "2.25.1" else 0xB000

    with answering(refuse_first) as archive:
        first, second = send([write_object(tmp_path, 1), write_object(tmp_path, 2)], peer_at(archive.port))
    assert failure(first) == Failure(what="0xC001 cannot understand", permanent=True, content_refused=True)
    assert second.answer == Stored(status="0xB000 warning: stored, with data elements coerced", warned=True)


STORED = (0x0000, 0x0111)
WARNED = (0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF)
LATER = (0x0105, 0x0106, 0x0110, 0x0124, 0x0210, 0xFE00, 0x1234)
NEVER = (0x0117, 0x0122, 0x0211, 0x0212, 0xA900, 0xA9FF, 0xC000, 0xCFFF)
FULL = (0x0213, 0xA700, 0xA7FF)


def test_every_status_about_an_object_is_its_own_answer_and_the_next_object_goes(tmp_path: Path) -> None:
    """The rows of PS3.4 table B.2-1 and PS3.7 annex C, answered by a Storage SCP over one association."""
    statuses = (*STORED, *WARNED, *LATER, *NEVER)
    paths = {status: write_object(tmp_path, number) for number, status in enumerate(statuses, start=1)}
    answers = iter(statuses)
    with answering(lambda _: next(answers)) as archive:
        outcomes = {outcome.path: outcome.answer for outcome in send(tuple(paths.values()), peer_at(archive.port))}
    got = {status: outcomes[path] for status, path in paths.items()}
    assert archive.associations == 1
    assert [status for status, answer in got.items() if answer == answer_of(status)] == list(statuses)
    assert [s for s, a in got.items() if isinstance(a, Stored)] == [*STORED, *WARNED]
    assert [s for s, a in got.items() if isinstance(a, Stored) and a.warned] == list(WARNED)
    assert [s for s, a in got.items() if isinstance(a, Failure) and a.permanent] == list(NEVER)
    assert [s for s, a in got.items() if isinstance(a, Failure) and a.form_refused] == list(NEVER)
    assert not any(isinstance(answer, Failure) and answer.of_archive for answer in got.values())


@pytest.mark.parametrize("status", FULL)
def test_a_status_about_the_archive_ends_the_batch(status: int, tmp_path: Path) -> None:
    with answering(lambda _: status) as archive:
        first, second = send([write_object(tmp_path, 1), write_object(tmp_path, 2)], peer_at(archive.port))
    assert (failure(first).of_archive, failure(first).tried) == (True, True)
    assert (failure(second).of_archive, failure(second).tried) == (True, False)


def test_after_one_association_has_failed_the_next_is_not_tried(tmp_path: Path) -> None:
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts[:65]]
    paths = [write_object(tmp_path, number, sop_class) for number, sop_class in enumerate(classes, start=1)]
    with answering(lambda _: 0xA700) as archive:
        outcomes = tuple(send(paths, peer_at(archive.port)))
    assert archive.associations == 1
    assert [failure(outcome).tried for outcome in outcomes] == [True] + [False] * 64


class TestPreferredTransferSyntaxes:
    def test_the_first_that_the_archive_takes_and_the_object_can_have(self, tmp_path: Path) -> None:
        paths = [capture(tmp_path, 1), text_report(tmp_path, 2)]
        wanted = [JPEG2000Lossless, RLELossless, ImplicitVRLittleEndian]
        taken = [RLELossless, ImplicitVRLittleEndian, ExplicitVRLittleEndian]
        with answering(transfer_syntaxes=taken) as archive:
            outcomes = tuple(send(paths, peer_at(archive.port), wanted))
        assert all(isinstance(outcome.answer, Stored) for outcome in outcomes)
        assert archive.transfer_syntaxes == [RLELossless, ImplicitVRLittleEndian]

    def test_what_the_archive_does_not_take_is_not_sent_to_it(self, tmp_path: Path) -> None:
        with answering(transfer_syntaxes=[ExplicitVRLittleEndian]) as archive:
            (outcome,) = send([capture(tmp_path, 1)], peer_at(archive.port), [JPEG2000Lossless])
        assert isinstance(outcome.answer, Stored)
        assert archive.transfer_syntaxes == [ExplicitVRLittleEndian]

    def test_deflated(self, tmp_path: Path) -> None:
        path = capture(tmp_path, 1)
        with answering() as archive:
            (outcome,) = send([path], peer_at(archive.port), [DeflatedExplicitVRLittleEndian])
        assert isinstance(outcome.answer, Stored)
        assert archive.transfer_syntaxes == [DeflatedExplicitVRLittleEndian]
        plain = zlib.decompress(archive.encoded[0], -zlib.MAX_WBITS)
        assert path.read_bytes().endswith(plain)


def test_a_full_archive_is_not_asked_again_in_the_same_association(tmp_path: Path) -> None:
    asked: list[str] = []

    def full(event: evt.Event) -> int:
        asked.append(str(event.request.AffectedSOPInstanceUID))
        return 0xA700

    with answering(full) as archive:
        outcomes = tuple(send([write_object(tmp_path, n) for n in (1, 2, 3)], peer_at(archive.port)))
    assert asked == ["2.25.1"]
    full_up = Failure(what="0xA700 refused: out of resources", permanent=False, of_archive=True)
    untried = replace(full_up, tried=False)
    assert [outcome.answer for outcome in outcomes] == [full_up, untried, untried]


def test_an_archive_that_aborts_in_the_middle_leaves_the_rest_for_later(tmp_path: Path) -> None:
    def abort_second(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == "2.25.2":
            event.assoc.abort()
        return 0x0000

    with answering(abort_second) as archive:
        outcomes = tuple(send([write_object(tmp_path, n) for n in (1, 2, 3)], peer_at(archive.port)))
    assert outcomes[0].answer == Stored(status="0x0000 success")
    assert not failure(outcomes[1]).permanent
    assert failure(outcomes[1]).tried
    assert not failure(outcomes[2]).permanent
    assert not failure(outcomes[2]).tried


def test_nobody_listening_is_said_with_address_and_reason_and_tried_again_later(tmp_path: Path) -> None:
    port = closed_port()
    (outcome,) = send([write_object(tmp_path, 1)], peer_at(port))
    said = f"cannot connect to 127.0.0.1:{port}: Connection refused"
    assert outcome.answer == Failure(what=said, permanent=False, of_archive=True, tried=False, out_of_reach=True)


def test_a_rejected_association_is_tried_again_later_and_says_why(tmp_path: Path) -> None:
    with answering(demands_called_title=True) as archive:
        stranger = Peer(
            host="127.0.0.1", port=archive.port, ae_title="WRONG", calling_ae_title="SPINENODE", connect_timeout_s=2
        )
        (outcome,) = send([write_object(tmp_path, 1)], stranger)
    assert not failure(outcome).permanent
    assert failure(outcome).what.endswith("rejected the association: Called AE title not recognised")


def test_a_file_that_is_gone_or_no_dicom_is_a_permanent_failure_and_the_others_go(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    good = write_object(tmp_path, 1)
    with answering() as archive:
        outcomes = {outcome.path: outcome for outcome in send([tmp_path / "gone", text, good], peer_at(archive.port))}
    assert failure(outcomes[tmp_path / "gone"]) == Failure(what="the file is gone", permanent=True, local=True)
    assert failure(outcomes[text]).permanent
    assert isinstance(outcomes[good].answer, Stored)


@pytest.mark.slow
def test_more_classes_than_contexts_take_a_second_association(tmp_path: Path) -> None:
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts[:65]]
    paths = [write_object(tmp_path, number, sop_class) for number, sop_class in enumerate(classes, start=1)]
    with answering() as archive:
        outcomes = tuple(send(paths, peer_at(archive.port)))
    assert len(outcomes) == 65  # in two transfer syntaxes each, 130 contexts: two more than an association has
    assert all(isinstance(outcome.answer, Stored) for outcome in outcomes)
    assert archive.associations == 2


def test_a_folder_tells_how_far_it_is_and_what_was_refused(tmp_path: Path) -> None:
    def refuse_second(event: evt.Event) -> int:
        return 0xC000 if event.request.AffectedSOPInstanceUID == "2.25.2" else 0x0000

    paths = [write_object(tmp_path, n) for n in (1, 2, 3)]
    steps: list[tuple[int, int]] = []
    with answering(refuse_second) as archive:
        outcomes = send_folder(paths, peer_at(archive.port), lambda done, total: steps.append((done, total)))
    assert [outcome.path for outcome in outcomes] == paths
    assert failure(outcomes[1]).what == "0xC000 cannot understand"
    assert [isinstance(outcome.answer, Stored) for outcome in outcomes] == [True, False, True]
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_an_archive_of_the_settings_is_a_peer_with_its_own_calling_title() -> None:
    archive = ArchiveSettings(name="pacs", ae_title="PACS", host="pacs.example", port=104, calling_ae_title="GRADER")
    expected = Peer(host="pacs.example", port=104, ae_title="PACS", calling_ae_title="GRADER", connect_timeout_s=3)
    assert peer_of(archive, 3) == expected
    assert expected.address == "PACS@pacs.example:104"


def test_an_echo_gives_the_status() -> None:
    with answering() as archive:
        assert echo(peer_at(archive.port)) == "0x0000 success"


def test_an_echo_to_nobody_names_address_and_reason() -> None:
    port = closed_port()
    with pytest.raises(SendError, match=f"cannot connect to 127.0.0.1:{port}: Connection refused"):
        echo(peer_at(port))


@pytest.fixture
def listener_that_hangs_up() -> Iterator[int]:
    """Something that listens and is not DICOM."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        over = threading.Event()

        def hang_up() -> None:
            while not over.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield int(server.getsockname()[1])
        over.set()
        thread.join()


def test_a_listener_that_is_not_dicom_is_told_from_nobody(listener_that_hangs_up: int) -> None:
    with pytest.raises(SendError, match="answers but makes no association: is it DICOM"):
        echo(peer_at(listener_that_hangs_up))
