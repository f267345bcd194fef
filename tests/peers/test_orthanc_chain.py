"""The main job between real programs: Orthanc sends a real scan, the node grades it, Orthanc holds the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from tests import dicom_factories, node_process, orthanc_process
from tests.node_process import Archive, Node
from tests.orthanc_process import Orthanc

pytestmark = [pytest.mark.peers, pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(300)]

SPIDER_PATIENT = "127"
RESULT_MODALITIES = {"SR", "OT"}


@pytest.fixture(scope="module")
def orthanc(require_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc_process.running(require_program("Orthanc"), tmp_path_factory.mktemp("orthanc")) as archive:
        yield archive


@pytest.fixture(scope="module")
def node(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    archive = Archive(name="orthanc", ae_title=orthanc_process.AE_TITLE, port=orthanc.dicom_port)
    with node_process.running(tmp_path_factory.mktemp("node"), [archive]) as running:
        yield running


def results_in(orthanc: Orthanc, study_instance_uid: str, node: Node, within_s: float = 60) -> list[pydicom.Dataset]:
    """What the node stored into the study, once its status says that all of it is delivered."""
    deadline = time.monotonic() + within_s
    while "delivered" not in (shown := status_of(node, study_instance_uid)):
        assert time.monotonic() < deadline, f"no results in time: {shown}\n{node.words()[-3000:]}"
        time.sleep(0.5)
    files = [file for modality in RESULT_MODALITIES for file in orthanc.instances(study_instance_uid, modality)]
    return [pydicom.dcmread(BytesIO(file)) for file in files]


def status_of(node: Node, study_instance_uid: str) -> str:
    lines = node.command("status").stdout.splitlines()
    return next((line for line in lines if study_instance_uid in line), "")


def study_uid(folder: Path) -> str:
    return str(pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True).StudyInstanceUID)


def levels_named(results: list[pydicom.Dataset]) -> list[str]:
    """The discs of the measurement report, in its order."""
    report = next(item for item in results if item.SOPClassUID.name == "Comprehensive 3D SR Storage")
    groups = [
        group
        for container in report.ContentSequence
        if container.get("ContentSequence")
        for group in container.ContentSequence
        if group.ConceptNameCodeSequence[0].CodeMeaning == "Measurement Group"
    ]
    return [
        item.TextValue.split()[0]
        for group in groups
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "112039"
    ]


def test_a_real_scan_comes_back_graded_into_its_study(
    orthanc: Orthanc, node: Node, data_root: Path, tmp_path: Path
) -> None:
    dicom_factories.write_spider_stack(tmp_path, data_root, SPIDER_PATIENT)
    uid = study_uid(tmp_path)
    orthanc.send_to_node(orthanc.upload(tmp_path), node.port)

    results = results_in(orthanc, uid, node)

    kinds = {item.SOPClassUID.name for item in results}
    assert kinds == {
        "Comprehensive 3D SR Storage",
        "Basic Text SR Storage",
        "Secondary Capture Image Storage",
    }
    assert levels_named(results)[-5:] == ["L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"]
    modalities = {series["00080060"]["Value"][0] for series in orthanc.qido_series(uid)}
    assert modalities == {"MR", "SR", "OT"}
    source = pydicom.dcmread(next(tmp_path.glob("*.dcm")), stop_before_pixels=True)
    for item in results:
        assert item.PatientID == source.PatientID
        assert item.StudyInstanceUID == uid
        assert "RESEARCH" in item.SeriesDescription.upper()


def test_a_spine_cut_off_at_the_bottom_is_named_right_or_flagged(
    orthanc: Orthanc, node: Node, data_root: Path, tmp_path: Path
) -> None:
    """L5/S1 of this volunteer is out of view: the lowest whole disc is L4/L5."""
    dicom_factories.write_lumbar_t2(tmp_path, data_root)
    uid = study_uid(tmp_path)
    orthanc.send_to_node(orthanc.upload(tmp_path), node.port)

    results = results_in(orthanc, uid, node)

    lowest = levels_named(results)[-1]
    words = " ".join(
        element.value for item in results for element in item.iterall() if element.keyword == "TextValue"
    ).lower()
    assert lowest == "L4/L5" or "level names are withheld" in words or ("level" in words and "uncertain" in words)


def test_results_that_the_archive_routes_back_open_no_new_study(
    orthanc: Orthanc, node: Node, data_root: Path, tmp_path: Path
) -> None:
    """Auto-routing archives send everything on, our own results too."""
    dicom_factories.write_spider_stack(tmp_path, data_root, SPIDER_PATIENT)
    uid = study_uid(tmp_path)
    study = orthanc.upload(tmp_path)
    if "delivered" not in status_of(node, uid):
        orthanc.send_to_node(study, node.port)
    before = len(results_in(orthanc, uid, node))

    orthanc.send_to_node(study, node.port)  # images that are known, and our own results
    time.sleep(5)  # more than the quiet time of the test's node

    shown = [line for line in node.command("status").stdout.splitlines() if uid in line]
    assert len(shown) == 1
    assert len(results_in(orthanc, uid, node)) == before
