"""What a STOW-RS request is answered: the Store Instances Response. Pure.

PS3.18 section 10.5.3 (statuses) and annex I (the data set).
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from node.dataset_header import uid_or_empty
from node.intake import OUT_OF_RESOURCES, SentObject


def response(
    stored: Sequence[SentObject], failed: Sequence[tuple[SentObject, int]], *, is_whole: bool
) -> tuple[HTTPStatus, dict[str, Any]]:
    """The status, and the data set in the DICOM JSON model.

    Args:
        failed: with the C-STORE status of each as its Failure Reason.
        is_whole: the body could be read to its end.
    """
    answer: dict[str, Any] = {}
    if stored:
        answer["00081199"] = {"vr": "SQ", "Value": [_reference(sent) for sent in stored]}
    if failed:
        items = [_reference(sent) | {"00081197": {"vr": "US", "Value": [status]}} for sent, status in failed]
        answer["00081198"] = {"vr": "SQ", "Value": items}
    if not is_whole or not (stored or failed):
        return HTTPStatus.BAD_REQUEST, answer
    if not failed:
        return HTTPStatus.OK, answer
    if stored:
        return HTTPStatus.ACCEPTED, answer
    if all(status == OUT_OF_RESOURCES for _, status in failed):
        return HTTPStatus.SERVICE_UNAVAILABLE, answer
    return HTTPStatus.CONFLICT, answer


def _reference(sent: SentObject) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [uid_or_empty(sent.sop_class_uid)]},
        "00081155": {"vr": "UI", "Value": [uid_or_empty(sent.sop_instance_uid)]},
    }
