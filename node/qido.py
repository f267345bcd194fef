"""Queries of a DICOMweb archive (QIDO-RS, PS3.18 section 10.6): which objects it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import requests
from dicomweb_client.web import DICOMwebClient

from node.query import QueryError
from node.transport_security import BadCertificates
from node.web_session import BadCredentials, UnreadableAnswer, WebServer, client_of, session_of

_SOP_INSTANCE_UID = "00080018"
_INSTANCE_AVAILABILITY = "00080056"


def held(
    server: WebServer, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Sequence[str]
) -> frozenset[str]:
    """Which of these objects of a series the archive holds, and could give back.

    All of the series are asked for at once; one that is not among them by itself, for archives that cut answers off.

    Raises:
        QueryError
    """
    wanted = set(sop_instance_uids)
    try:
        with session_of(server) as session:
            client = client_of(server, session)
            found = _objects(client, study_instance_uid, series_instance_uid, None)
            for missing in sorted(wanted - found):
                found |= _objects(client, study_instance_uid, series_instance_uid, {"SOPInstanceUID": missing})
    except UnreadableAnswer as error:
        raise QueryError(f"its answer to a query (QIDO-RS) cannot be read: {error}") from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise QueryError(f"it answered a query (QIDO-RS) with {status}") from error
    except requests.RequestException as error:
        raise QueryError(f"it did not answer a query (QIDO-RS): {type(error).__name__}") from error
    except (BadCredentials, BadCertificates) as error:
        raise QueryError(str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise QueryError("its answer to a query (QIDO-RS) cannot be understood") from error
    return frozenset(wanted & found)


def _objects(client: DICOMwebClient, study: str, series: str, filters: Mapping[str, Any] | None) -> set[str]:
    answers = client.search_for_instances(
        study_instance_uid=study, series_instance_uid=series, search_filters=dict(filters) if filters else None
    )
    return {
        _value(item, _SOP_INSTANCE_UID) for item in answers if _value(item, _INSTANCE_AVAILABILITY) != "UNAVAILABLE"
    }


def _value(item: Mapping[str, Mapping[str, Sequence[str]]], tag: str) -> str:
    return next(iter(item.get(tag, {}).get("Value", [])), "")
