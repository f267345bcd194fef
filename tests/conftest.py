"""Fixtures for every storey of tests: real data, real peers, a study that needs neither, a clean environment."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:
    # before torch is loaded: threads of several test processes that share few cores wait for each other, spinning, and
    # cost ten times what they compute
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The kills first: they wait more than they compute, and one process runs a whole file."""
    items.sort(key=lambda item: "crash" not in item.path.parts)


def pytest_collection_finish() -> None:
    """What is loaded by now stays: many tests collect garbage, and need not look through torch for it each time."""
    gc.collect()
    gc.freeze()


APT_PACKAGES = {
    "storescu": "dcmtk",
    "openssl": "openssl",
    "storescp": "dcmtk",
    "echoscu": "dcmtk",
    "findscu": "dcmtk",
    "dcmcjpeg": "dcmtk",
    "dcmcjpls": "dcmtk",
    "dcmdjpeg": "dcmtk",
    "dcmdjpls": "dcmtk",
    "dcmcrle": "dcmtk",
    "dcmconv": "dcmtk",
    "dcmdump": "dcmtk",
    "dcmqrscp": "dcmtk",
    "dcmpschk": "dcmtk",
    "dsrdump": "dcmtk",
    "dsr2html": "dcmtk",
    "dcmp2pgm": "dcmtk",
    "Orthanc": "orthanc orthanc-dicomweb",
    "dciodvfy": "dicom3tools",
    "dcentvfy": "dicom3tools",
    "dcsrdump": "dicom3tools",
    "chromium": "chromium",
    "node": "nodejs",
    "postgres": "postgresql",
    "java": "default-jre-headless",
}
"""Program -> the Debian package that brings it."""


@pytest.fixture(autouse=True)
def _settings_from_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own settings must not steer a test."""
    for name in list(os.environ):
        if name.startswith("SPINENODE_") and name != "SPINENODE_DATA":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_part_of_a_node_stays_in_this_process() -> Iterator[None]:
    """A receiver or dispatcher makes every DICOM server of its process accept everything; tests after it must not meet
    such servers."""
    yield
    config = sys.modules.get("pynetdicom._config")
    if config is not None and config.UNRESTRICTED_STORAGE_SERVICE:
        config.UNRESTRICTED_STORAGE_SERVICE = False
        pytest.fail("this test left quiet_libraries.prepare() in the process of the tests: replace it, or start one")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real labelled lumbar MRI; the test is skipped where it is not."""
    root = Path(os.environ.get("SPINENODE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "spider").is_dir():
        _absent("the real lumbar MRI is not here: set SPINENODE_DATA to its folder", "REQUIRE_REALDATA")
    return root


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], Path]:
    """``require_program(name)`` gives the path of a real peer; the test is skipped where it is not installed."""

    def find(name: str) -> Path:
        found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
        if found is None:
            _absent(f"{name} is not installed: apt-get install {APT_PACKAGES.get(name, name)}", "REQUIRE_PEERS")
        return Path(str(found))

    return find


@pytest.fixture(scope="session")
def lumbar_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the phantom's whole study, one file per instance, written once for all tests."""
    from inference import phantom

    folder = tmp_path_factory.mktemp("lumbar_study")
    for instance in phantom.lumbar_study(seed=0):
        instance.save_as(folder / f"{instance.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def _absent(what: str, demanded_by: str) -> None:
    if os.environ.get(demanded_by) == "1":
        pytest.fail(what)
    pytest.skip(what)
