"""The number of images of a study, asked of a real Orthanc, and a study of which one image comes late."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from node.query import QueryError, image_counts
from node.settings import SenderSettings
from tests import orthanc_process
from tests.node_process import free_port
from tests.unit.node.encoded_images import mr_image

pytestmark = pytest.mark.peers


def sender(port: int) -> SenderSettings:
    return SenderSettings(ae_title="ORTHANC", query_host="127.0.0.1", query_port=port)


def test_orthanc_tells_how_many_images_each_series_has(require_program: Callable[[str], Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(1, 8):
        image = mr_image(number, series="1.2.3.1" if number < 6 else "1.2.3.2")
        image.save_as(images / f"{number}.dcm", enforce_file_format=True)
    with orthanc_process.running(require_program("Orthanc"), tmp_path / "orthanc") as orthanc:
        orthanc.upload(images)
        orthanc.ask_put("/modalities/spinenode", {"AET": "SPINENODE", "Host": "127.0.0.1", "Port": 104})
        found = image_counts(sender(orthanc.dicom_port), "SPINENODE", "1.2.3").series
        assert {(item.series_instance_uid, item.modality, item.instance_count) for item in found} == {
            ("1.2.3.1", "MR", 5),
            ("1.2.3.2", "MR", 2),
        }
        assert image_counts(sender(orthanc.dicom_port), "SPINENODE", "1.2.3.4.5").series == ()


@pytest.mark.filterwarnings("ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_archive_that_is_not_there_is_named() -> None:
    port = free_port()
    with pytest.raises(QueryError, match=rf"ORTHANC@127\.0\.0\.1:{port} makes no association"):
        image_counts(sender(port), "SPINENODE", "1.2.3")
    gc.collect()  # pynetdicom leaves the socket to it
