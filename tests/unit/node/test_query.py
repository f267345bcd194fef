"""What archives answer to the question for a number of images, and what of it counts as one."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
)

from node import query
from node.query import series_counts
from node.records import SeriesCount
from node.settings import SenderSettings
from tests.node_process import free_port

NUMBER_OF_SERIES_RELATED_INSTANCES = Tag(0x00201209)


@pytest.fixture(autouse=True)
def _any_value_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)


def archive_answers(*told: bytes, every_s: float = 0) -> tuple[SeriesCount, ...]:
    """What is understood of an archive that sends these bytes as its numbers, one for each series."""

    def find(_event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        for number, content in enumerate(told, start=1):
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.SeriesInstanceUID, answer.Modality = "SERIES", f"1.2.3.{number}", "MR"
            tag = NUMBER_OF_SERIES_RELATED_INSTANCES
            answer._dict[tag] = RawDataElement(tag, "IS", len(content), content, 0, True, True)
            time.sleep(every_s)
            yield 0xFF00, answer

    archive = AE("ARCHIVE")
    archive.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    port = free_port()
    server = archive.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    assert server is not None
    try:
        asked = SenderSettings(ae_title="ARCHIVE", query_host="127.0.0.1", query_port=port)
        return series_counts(asked, "SPINENODE", "1.2.3")
    finally:
        server.shutdown()


def test_no_match_is_no_series() -> None:
    assert archive_answers() == ()


def test_only_a_whole_number_counts() -> None:
    found = archive_answers(b"15", b"", b"MANY", b"-3", b"9" * 400)
    assert [series.instance_count for series in found] == [15, None, None, None, None]


def test_an_archive_that_never_comes_to_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "ALL_ANSWERS_WITHIN_S", 0.5)
    began = time.monotonic()
    with pytest.raises(query.QueryError, match="has not come to the end of its answers"):
        archive_answers(*[b"15"] * 100, every_s=0.1)
    assert time.monotonic() - began < 5
