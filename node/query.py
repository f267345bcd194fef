"""Query SCU (PS3.4 annex C): how many images the series of a study have, and which objects an archive holds."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
)

from node.association import Peer, associate, leave
from node.records import ArchiveCounts, SeriesCount
from node.retry import Failure
from node.settings import SenderSettings
from node.transport_security import ClientTls

CONNECT_WITHIN_S = 5
ANSWER_WITHIN_S = 20
"""Each answer; and all of them together:"""
ALL_ANSWERS_WITHIN_S = 300
MOST_SERIES = 1000
MOST_OBJECTS = 100_000
_SUCCESS = 0x0000
_PENDING = (0xFF00, 0xFF01)
_ENDLESS = f"has not come to the end of its answers in {ALL_ANSWERS_WITHIN_S} s"


class QueryError(Exception):
    """The archive did not tell; the message says why, without identifiers."""


def image_counts(sender: SenderSettings, our_ae_title: str, study_instance_uid: str) -> ArchiveCounts:
    """C-FIND at SERIES level: NumberOfSeriesRelatedInstances (PS3.4 section C.6.2.1.3), None where it is not told.

    Where it is not told of every series, at STUDY level too: NumberOfStudyRelatedInstances (section C.6.2.1.2).

    Raises:
        QueryError
    """
    peer = peer_of(sender, our_ae_title)
    contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]
    association = associate(peer, contexts, answer_within_s=ANSWER_WITHIN_S)
    if isinstance(association, Failure):
        raise QueryError(f"{peer.address} makes no association for queries: {association.what}")
    try:
        found = _found(association, _about_series(study_instance_uid), peer.address)
        series = tuple(_count(answer) for answer in found)
        if series and all(one.instance_count is not None for one in series):
            return ArchiveCounts(series=series)
        return ArchiveCounts(series=series, study=_of_study(association, study_instance_uid, peer.address))
    except RuntimeError as error:
        raise QueryError(f"{peer.address} ended the association") from error
    finally:
        leave(association)


def _of_study(association: Association, study_instance_uid: str, where: str) -> int | None:
    try:
        studies = _found(association, _about_study(study_instance_uid), where)
    except QueryError:  # it told of the series, and that it has no answer to this question is one
        return None
    return _number(studies[0], "NumberOfStudyRelatedInstances") if len(studies) == 1 else None


def _found(association: Association, question: Dataset, where: str) -> list[Dataset]:
    found: list[Dataset] = []
    deadline = time.monotonic() + ALL_ANSWERS_WITHIN_S
    for status, answer in association.send_c_find(question, StudyRootQueryRetrieveInformationModelFind):
        code = status.get("Status")
        if time.monotonic() > deadline:
            association.abort()
            raise QueryError(f"{where} {_ENDLESS}")
        if code in _PENDING and answer is not None and len(found) < MOST_SERIES:
            found.append(answer)
        elif code != _SUCCESS and code not in _PENDING:
            raise QueryError(f"{where} ended the query" + (f" with 0x{code:04X}" if code is not None else ""))
    return found


def peer_of(sender: SenderSettings, our_ae_title: str) -> Peer:
    """The archive that sends, as one that is asked."""
    tls = ClientTls(
        ca_file=sender.query_tls_ca_file,
        certificate_file=sender.query_tls_certificate_file,
        key_file=sender.query_tls_key_file,
        server_name=sender.query_tls_server_name,
    )
    return Peer(
        host=sender.query_host,
        port=sender.query_port,
        ae_title=sender.ae_title,
        calling_ae_title=our_ae_title,
        connect_timeout_s=CONNECT_WITHIN_S,
        tls=tls if sender.query_tls else None,
    )


def held(
    association: Association, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Collection[str]
) -> frozenset[str]:
    """Which of these objects of a series the archive holds: C-FIND at IMAGE level, by the unique keys of each level.

    All of the series are asked for at once, which needs no list matching; one that is not among them is asked for by
    itself, for archives that cut long answers off. What is said to be unavailable is not held.

    Raises:
        QueryError
    """
    found = set(_objects(association, study_instance_uid, series_instance_uid, ""))
    for missing in sorted(set(sop_instance_uids) - found):
        found.update(_objects(association, study_instance_uid, series_instance_uid, missing))
    return frozenset(found & set(sop_instance_uids))


def _objects(association: Association, study: str, series: str, sop_instance_uid: str) -> Iterator[str]:
    """SOP Instance UIDs of what matches and is available."""
    question = Dataset()
    question.QueryRetrieveLevel = "IMAGE"
    question.StudyInstanceUID = study
    question.SeriesInstanceUID = series
    question.SOPInstanceUID = sop_instance_uid
    question.InstanceAvailability = ""
    try:
        answers = association.send_c_find(question, StudyRootQueryRetrieveInformationModelFind)
        deadline = time.monotonic() + ALL_ANSWERS_WITHIN_S
        for count, (status, answer) in enumerate(answers):
            code = status.get("Status")
            if time.monotonic() > deadline:
                association.abort()
                raise QueryError(f"it {_ENDLESS}")
            if code in _PENDING and count < MOST_OBJECTS:
                if answer is not None and str(answer.get("InstanceAvailability") or "").strip() != "UNAVAILABLE":
                    yield str(answer.get("SOPInstanceUID") or "")
            elif code != _SUCCESS:
                said = "without an answer: may this node query it?" if code is None else f"with 0x{code:04X}"
                raise QueryError(f"it ended the query {said}")
    except (RuntimeError, ValueError) as error:  # pynetdicom's words for an association that ended under us
        raise QueryError("it ended the association") from error


def _about_series(study_instance_uid: str) -> Dataset:
    question = Dataset()
    question.QueryRetrieveLevel = "SERIES"
    question.StudyInstanceUID = study_instance_uid
    question.SeriesInstanceUID = ""
    question.Modality = ""
    question.NumberOfSeriesRelatedInstances = ""
    return question


def _about_study(study_instance_uid: str) -> Dataset:
    question = Dataset()
    question.QueryRetrieveLevel = "STUDY"
    question.StudyInstanceUID = study_instance_uid
    question.NumberOfStudyRelatedInstances = ""
    return question


def _count(answer: Dataset) -> SeriesCount:
    return SeriesCount(
        series_instance_uid=str(answer.get("SeriesInstanceUID", "")),
        modality=str(answer.get("Modality", "") or ""),
        instance_count=_number(answer, "NumberOfSeriesRelatedInstances"),
    )


def _number(answer: Dataset, keyword: str) -> int | None:
    try:
        told = str(answer.get(keyword, "") or "").strip()
    except (ValueError, TypeError, OverflowError):  # pydicom's words for what is no number
        told = ""
    return int(told) if told.isdecimal() else None
