"""Objects as the bytes of DICOM files (PS3.10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from sr_templates.provenance import Rendered

_CONTENT = Tag("ContentSequence")


def files(rendered: Iterable[Rendered]) -> Iterator[bytes]:
    """Each object as ``dataset.save_as(..., enforce_file_format=True)`` writes it.

    The documents of one report share their content tree, which is nine tenths of the work of writing them: it is
    encoded once.
    """
    trees: dict[int, bytes] = {}
    held = []  # a tree that were freed could lend its identity to another
    for item in rendered:
        dataset = item.dataset
        if not _ends_with_content(dataset):
            yield _file(dataset)
            continue
        element = dataset[_CONTENT]
        held.append(element)
        if id(element) not in trees:
            trees[id(element)] = _content_element(dataset)
        head = Dataset()
        head.update({tag: dataset.get_item(tag) for tag in sorted(dataset.keys()) if tag != _CONTENT})
        head.file_meta = dataset.file_meta
        yield _file(head) + trees[id(element)]


def _ends_with_content(dataset: Dataset) -> bool:
    return max(dataset.keys()) == _CONTENT and dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def _file(dataset: Dataset) -> bytes:
    encoded = BytesIO()
    dataset.save_as(encoded, enforce_file_format=True)
    return encoded.getvalue()


def _content_element(dataset: Dataset) -> bytes:
    encoded = DicomBytesIO()
    encoded.is_little_endian, encoded.is_implicit_VR = True, False
    write_data_element(encoded, dataset[_CONTENT], dataset.get("SpecificCharacterSet"))
    return bytes(encoded.getvalue())
