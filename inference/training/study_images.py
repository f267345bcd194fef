"""One study's images from disk, as the node takes them: the sagittal T2 series is chosen, stacked and levelled at 0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from inference import selection, stacking
from inference.brightness import from_zero
from inference.training.masked_series import read_image
from inference.volume import SagittalVolume, Unsuitable

VOLUME_SUFFIXES = (".mha", ".nii", ".nii.gz")


def read_study(path: Path) -> SagittalVolume:
    """A folder of DICOM files, in which subfolders and other files may lie, or one ``.mha``, ``.nii`` or ``.nii.gz``.

    Raises:
        Unsuitable: nothing in it is a sagittal T2 series that can be graded; with the reason.
    """
    if path.is_dir():
        return volume_of(read_folder(path))
    return from_zero(read_image(path))[0]


def read_folder(folder: Path) -> tuple[pydicom.Dataset, ...]:
    """Every DICOM object below a folder; files of other kinds are passed over."""
    return tuple(found for path in files_of(folder) if (found := read_object(path)) is not None)


def read_object(path: Path) -> pydicom.Dataset | None:
    """A DICOM object; None where the file holds none. Raises Unsuitable where it is a broken one."""
    try:
        return pydicom.dcmread(path)
    except InvalidDicomError:
        return None
    except (ValueError, EOFError, OSError, KeyError, NotImplementedError) as broken:
        raise Unsuitable(f"A DICOM file cannot be read: {type(broken).__name__}.") from broken


def files_of(study: Path) -> tuple[Path, ...]:
    """The files that a study is read from."""
    if study.is_dir():
        return tuple(sorted(path for path in study.rglob("*") if path.is_file()))
    return (study,)


def volume_of(instances: Sequence[pydicom.Dataset]) -> SagittalVolume:
    """The series that the node would grade. A series that cannot be stacked gives way to the next best.

    Raises:
        Unsuitable: none is left; with the reason against the first.
    """
    left, first_reason = list(instances), ""
    while True:
        choice = selection.choose(left)
        if choice.series_instance_uid is None:
            raise Unsuitable(first_reason or choice.reason or "There are no images in the study.")
        try:
            return from_zero(stacking.stack_frames(choice.frames).volume)[0]
        except Unsuitable as spoilt:
            first_reason = first_reason or str(spoilt)
            taken = choice.series_instance_uid
            left = [item for item in left if str(item.get("SeriesInstanceUID", "")) != taken]
