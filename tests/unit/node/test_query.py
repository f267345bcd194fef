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
from node.query import image_counts
from node.records import ArchiveCounts
from node.settings import SenderSettings
from tests.node_process import free_port

NUMBER_OF_SERIES_RELATED_INSTANCES = Tag(0x00201209)
NUMBER_OF_STUDY_RELATED_INSTANCES = Tag(0x00201208)


@pytest.fixture(autouse=True)
def _any_value_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)


def archive_answers(*told: bytes, of_study: bytes | None = None, every_s: float = 0) -> ArchiveCounts:
    """What is understood of an archive that sends these bytes as its numbers, one for each series."""

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        is_study = event.identifier.QueryRetrieveLevel == "STUDY"
        numbers = told if not is_study else () if of_study is None else (of_study,)
        for number, content in enumerate(numbers, start=1):
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.SeriesInstanceUID, answer.Modality = "SERIES", f"1.2.3.{number}", "MR"
            tag = NUMBER_OF_STUDY_RELATED_INSTANCES if is_study else NUMBER_OF_SERIES_RELATED_INSTANCES
            answer._dict[tag] = RawDataElement(tag, "IS", len(content), content, 0, True, True)
            time.sleep(every_s)
            yield 0xFF00, answer
        if is_study and of_study is None:
            yield 0xA900, None

    archive = AE("ARCHIVE")
    archive.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    port = free_port()
    server = archive.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    assert server is not None
    try:
        asked = SenderSettings(ae_title="ARCHIVE", query_host="127.0.0.1", query_port=port)
        return image_counts(asked, "SPINENODE", "1.2.3")
    finally:
        server.shutdown()


def test_no_match_is_no_series() -> None:
    assert archive_answers() == ArchiveCounts(series=())


def test_only_a_whole_number_counts() -> None:
    found = archive_answers(b"15", b"", b"MANY", b"-3", b"9" * 400)
    assert [series.instance_count for series in found.series] == [15, None, None, None, None]


def test_the_number_of_the_study_is_asked_for_where_one_of_a_series_is_not_told() -> None:
    assert archive_answers(b"15", b"", of_study=b"20").study == 20
    assert archive_answers(of_study=b"20").study == 20
    assert archive_answers(b"15", b"5", of_study=b"20").study is None, "it is not asked for"
    assert archive_answers(b"", of_study=b"MANY").study is None


def test_an_archive_that_refuses_the_second_question_has_answered_the_first() -> None:
    assert [series.instance_count for series in archive_answers(b"15", b"").series] == [15, None]


def test_an_archive_that_never_comes_to_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "ALL_ANSWERS_WITHIN_S", 0.5)
    began = time.monotonic()
    with pytest.raises(query.QueryError, match="has not come to the end of its answers"):
        archive_answers(*[b"15"] * 100, every_s=0.1)
    assert time.monotonic() - began < 5
