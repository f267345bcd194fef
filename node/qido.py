"""Queries of a DICOMweb archive (QIDO-RS, PS3.18 section 10.6): which objects it holds."""

from __future__ import annotations

from collections.abc import Sequence

import requests
from dicomweb_client.api import DICOMwebClient
from requests.auth import HTTPBasicAuth

from node.query import QueryError
from node.settings_delivery import ArchiveSettings

ANSWER_WITHIN_S = 30
SOP_INSTANCE_UID = "00080018"
INSTANCE_AVAILABILITY = "00080056"


def held(
    archive: ArchiveSettings, study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Sequence[str]
) -> frozenset[str]:
    """Which of these objects of a series the archive holds, and could give back.

    Raises:
        QueryError
    """
    client = _client(archive)
    wanted = set(sop_instance_uids)
    found: set[str] = set()
    try:
        found |= _objects(client, study_instance_uid, series_instance_uid, {})
        for missing in sorted(wanted - found):  # an archive may cut long answers off
            found |= _objects(client, study_instance_uid, series_instance_uid, {"SOPInstanceUID": missing})
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise QueryError(f"the query (QIDO-RS) was answered with {status}") from error
    except requests.RequestException as error:
        raise QueryError(f"no answer to a query (QIDO-RS): {type(error).__name__}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise QueryError("the answer to a query (QIDO-RS) cannot be understood") from error
    return frozenset(wanted & found)


def _objects(client: DICOMwebClient, study: str, series: str, filters: dict[str, str]) -> set[str]:
    answers = client.search_for_instances(
        study_instance_uid=study, series_instance_uid=series, search_filters=filters or None
    )
    return {_value(item, SOP_INSTANCE_UID) for item in answers if _value(item, INSTANCE_AVAILABILITY) != "UNAVAILABLE"}


def _value(item: dict[str, dict[str, list[str]]], tag: str) -> str:
    return next(iter(item.get(tag, {}).get("Value", [])), "")


def _client(archive: ArchiveSettings) -> DICOMwebClient:
    session = requests.Session()
    session.trust_env = False
    if archive.stow_token_file:
        session.headers["Authorization"] = f"Bearer {archive.stow_token_file.read_text(encoding='ascii').strip()}"
    if archive.stow_password_file:
        user, _, password = archive.stow_password_file.read_text(encoding="utf-8").strip().partition(":")
        session.auth = HTTPBasicAuth(user, password)
    if archive.tls_ca_file:
        session.verify = str(archive.tls_ca_file)
    if archive.tls_certificate_file:
        session.cert = (str(archive.tls_certificate_file), str(archive.tls_key_file))
    return DICOMwebClient(url=archive.stow_url, session=session, timeout=ANSWER_WITHIN_S)
