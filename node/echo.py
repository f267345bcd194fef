"""Asks archives, and those who send studies, whether they answer, and what of what this node needs they accept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import build_context

from node import query, sender
from node.archive_security import way_there
from node.association import associate, leave
from node.outlets import outlet_of
from node.retry import Failure, judge
from node.settings import SenderSettings
from node.settings_delivery import ArchiveSettings

VERIFICATION = UID("1.2.840.10008.1.1")
RESULT_CLASSES = tuple(
    UID(f"1.2.840.10008.5.1.4.1.1.{ending}")
    for ending in ("88.34", "88.33", "88.22", "88.11", "7", "7.4", "11.1", "88.59", "104.1", "66.4", "30")
)
"""Comprehensive 3D, Comprehensive, Enhanced and Basic Text SR; Secondary Capture of one frame and of several in
true colour; Grayscale Softcopy Presentation State; Key Object Selection; Encapsulated PDF; Segmentation; Parametric Map
(PS3.4 section B.5)."""
COMMITMENT = UID("1.2.840.10008.1.20.1")
STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
ASKED_OF_ARCHIVES = (*RESULT_CLASSES, COMMITMENT, STUDY_ROOT_FIND)
"""What is sent to them, and the two services by which they prove that they hold it."""
ANSWER_WITHIN_S = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What an archive said."""

    status: str
    """Of the C-ECHO, e.g. ``0x0000 success``."""
    implementation: str
    """What it calls its software; empty where it does not say."""
    accepted: tuple[tuple[str, tuple[str, ...]], ...]
    """Names of SOP classes, each with those of the transfer syntaxes."""
    refused: tuple[str, ...]


def ask(peer: sender.Peer, wanted: Sequence[UID] = ASKED_OF_ARCHIVES) -> Answer:
    """A C-ECHO over an association that proposes every SOP class that is wanted.

    Raises:
        sender.SendError: no association, or no answer; the message says why.
    """
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    contexts = [build_context(VERIFICATION)]
    contexts += [build_context(sop_class, syntax) for sop_class in wanted for syntax in syntaxes]
    association = associate(peer, contexts, answer_within_s=ANSWER_WITHIN_S)
    if isinstance(association, Failure):
        if not association.class_refused:
            raise sender.SendError(association.what)
        return Answer(status=sender.echo(peer), implementation="", accepted=(), refused=_names(wanted))
    try:
        accepted: dict[UID, list[str]] = {}
        for context in association.accepted_contexts:
            accepted.setdefault(UID(str(context.abstract_syntax)), []).append(context.transfer_syntax[0].name)
        code = association.send_c_echo().get("Status") if VERIFICATION in accepted else None
        version = association.acceptor.implementation_version_name
    finally:
        leave(association)
    return Answer(
        status="no C-ECHO: it does not accept the Verification SOP Class" if code is None else judge(int(code))[1],
        implementation=str(version or ""),
        accepted=tuple((item.name, tuple(accepted[item])) for item in wanted if item in accepted),
        refused=_names(item for item in wanted if item not in accepted),
    )


def about(archive: ArchiveSettings, connect_timeout_s: float) -> list[str]:
    """What an archive of the settings says, for the operator: by STOW-RS, by C-ECHO, or by both where it has both.

    Raises:
        sender.SendError: it does not answer; the message says why.
    """
    told = []
    if archive.stow_url:
        if failure := outlet_of(archive, connect_timeout_s).probe():
            raise sender.SendError(failure.what)
        told.append(f"{archive.name} ({way_there(archive)}): answers")
    if archive.host:
        peer = sender.peer_of(archive, connect_timeout_s)
        told += lines(archive.name, peer, ask(peer))
    return told


def about_sender(asked: SenderSettings, our_ae_title: str) -> list[str]:
    """What one that sends studies says, and is asked how many images they have.

    Raises:
        sender.SendError: it does not answer; the message says why.
    """
    peer = query.peer_of(asked, our_ae_title)
    return lines(f"{asked.ae_title}, which sends", peer, ask(peer, [STUDY_ROOT_FIND]))


def _names(classes: Iterable[UID]) -> tuple[str, ...]:
    return tuple(item.name for item in classes)


def lines(name: str, peer: sender.Peer, answer: Answer) -> list[str]:
    """The answer for the operator."""
    software = f", {answer.implementation}" if answer.implementation else ""
    told = [f"{name} ({peer.address}): {answer.status}, {_security(peer)}{software}"]
    told += [f"  accepts {what} ({', '.join(syntaxes)})" for what, syntaxes in answer.accepted]
    return told + [f"  refuses {what}" for what in answer.refused]


def _security(peer: sender.Peer) -> str:
    if peer.tls is None:
        return "without TLS"
    return "with TLS and a certificate of ours" if peer.tls.certificate_file else "with TLS"
