"""Query SCU: asks an archive how many images the series of a study have (PS3.4 annex C)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pynetdicom import AE, _config
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
)

from node.host_names import why_unknown
from node.records import SeriesCount
from node.settings import SenderSettings

CONNECT_WITHIN_S = 5
ANSWER_WITHIN_S = 20
MOST_SERIES = 1000
_SUCCESS = 0x0000
_PENDING = (0xFF00, 0xFF01)

_config.LOG_HANDLER_LEVEL = "none"  # the standard handlers log identifiers


class QueryError(Exception):
    """The archive did not tell; the message says why, without identifiers."""


def series_counts(sender: SenderSettings, our_ae_title: str, study_instance_uid: str) -> tuple[SeriesCount, ...]:
    """C-FIND at SERIES level: NumberOfSeriesRelatedInstances (PS3.4 section C.6.2.1.3), None where it is not told.

    Raises:
        QueryError
    """
    if unknown := why_unknown(sender.query_host, sender.query_port):
        raise QueryError(unknown)
    ae = AE(ae_title=our_ae_title)
    ae.connection_timeout = CONNECT_WITHIN_S
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ANSWER_WITHIN_S
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    where = f"{sender.ae_title}@{sender.query_host}:{sender.query_port}"
    association = ae.associate(sender.query_host, sender.query_port, ae_title=sender.ae_title)
    if not association.is_established:
        raise QueryError(f"{where} makes no association for queries")
    try:
        found: list[SeriesCount] = []
        for status, answer in association.send_c_find(
            _question(study_instance_uid), StudyRootQueryRetrieveInformationModelFind
        ):
            code = status.get("Status")
            if code in _PENDING and answer is not None and len(found) < MOST_SERIES:
                found.append(_count(answer))
            elif code != _SUCCESS and code not in _PENDING:
                raise QueryError(f"{where} ended the query" + (f" with 0x{code:04X}" if code is not None else ""))
        return tuple(found)
    except RuntimeError as error:
        raise QueryError(f"{where} ended the association") from error
    finally:
        if association.is_established:
            association.release()


def _question(study_instance_uid: str) -> Dataset:
    question = Dataset()
    question.QueryRetrieveLevel = "SERIES"
    question.StudyInstanceUID = study_instance_uid
    question.SeriesInstanceUID = ""
    question.Modality = ""
    question.NumberOfSeriesRelatedInstances = ""
    return question


def _count(answer: Dataset) -> SeriesCount:
    told = str(answer.get("NumberOfSeriesRelatedInstances", "") or "").strip()
    return SeriesCount(
        series_instance_uid=str(answer.get("SeriesInstanceUID", "")),
        modality=str(answer.get("Modality", "") or ""),
        instance_count=int(told) if told.isdecimal() else None,
    )
