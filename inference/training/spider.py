"""Reads the SPIDER data set as it lies on disk into the core's own types. Trains nothing.

Source: van der Graaf et al., Scientific Data 11:264 (2024), Zenodo 10159290, CC BY 4.0. The folder holds mid-sagittal
PNGs with their restored pixel spacing, T2-SPACE stacks with masks, disc boxes, and radiological gradings.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from inference.volume import FloatArray, SagittalVolume, SliceSource

NOMINAL_SLICE_SPACING_MM = 4.0
"""A PNG is one slice; its neighbours are not there. Only the length of the affine's first column depends on this."""


class MaskValue(IntEnum):
    """Grey values of the stacks' masks."""

    BACKGROUND = 0
    DISC = 29
    VERTEBRA = 76
    CANAL = 150


@dataclass(frozen=True, kw_only=True, slots=True)
class MidsagittalImage:
    """One PNG: the mid-sagittal slice of one series."""

    name: str
    """File name without suffix, e.g. ``104_t2``."""
    patient: int
    weighting: str
    """``t1``, ``t2`` or ``t2_SPACE``."""
    row_spacing_mm: float
    column_spacing_mm: float
    disc_count: int | None
    """Discs in SPIDER's own mask of the series, partly seen ones included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscBoxes:
    """Boxes about the discs of one PNG, bottom-up."""

    boxes: FloatArray
    """(discs, 4) x0, y0, x1, y1 in PNG pixels."""
    count_matches: bool
    """The first box is L5/S1 only where this holds."""


def midsagittal_images(root: Path) -> tuple[MidsagittalImage, ...]:
    """Every PNG with its true pixel spacing, in the order of the table."""
    counts = disc_counts(root)
    with (root / "midsagittal.csv").open(newline="") as table:
        return tuple(
            MidsagittalImage(
                name=row["image"],
                patient=patient_of(row["image"]),
                weighting=row["image"].split("_", 1)[1],
                row_spacing_mm=float(row["row_spacing_mm"]),
                column_spacing_mm=float(row["column_spacing_mm"]),
                disc_count=counts.get(row["image"]),
            )
            for row in csv.DictReader(table)
        )


def disc_counts(root: Path) -> Mapping[str, int]:
    """Series name -> number of discs in SPIDER's mask of it."""
    with (root / "series.csv").open(newline="") as table:
        return {row["series"]: int(row["num_discs"]) for row in csv.DictReader(table) if row["num_discs"].isdigit()}


def disc_boxes(root: Path) -> Mapping[str, DiscBoxes]:
    """Series name -> its disc boxes; not every PNG has them.

    The table's own ``match`` holds for some images where fewer discs have a box than SPIDER counts (30_t1, 110_t1,
    227_t1: L5/S1 has none); it is believed only where no box is missing.
    """
    counts = disc_counts(root)
    entries = json.loads((root / "disc_boxes.json").read_text())
    return {
        name: DiscBoxes(
            boxes=np.array(entry["boxes_bottom_up"], np.float64).reshape(-1, 4),
            count_matches=entry["match"] and len(entry["boxes_bottom_up"]) >= counts.get(name, 0),
        )
        for name, entry in entries.items()
    }


def gradings(root: Path) -> Mapping[tuple[int, int], Mapping[str, int]]:
    """(patient, IVD label) -> column -> value. IVD label 1 is L5/S1, counted upwards; 0 is invalid."""
    with (root / "radiological_gradings.csv").open(newline="") as table:
        rows = [{column: value for column, value in row.items() if value.strip()} for row in csv.DictReader(table)]
    return {
        (int(row["Patient"]), int(row["IVD label"])): {
            column: int(value) for column, value in row.items() if column not in ("Patient", "IVD label")
        }
        for row in rows
        if int(row["IVD label"]) > 0
    }


def read_midsagittal(root: Path, image: MidsagittalImage) -> SagittalVolume:
    """The PNG as a volume of one slice: rows run head to foot, columns front to back, at the restored spacing.

    The position in the patient is not known: the first pixel is put at 0, 0, 0 mm.
    """
    pixels = np.asarray(Image.open(root / "midsagittal" / f"{image.name}.png").convert("L"), np.float32)
    affine = np.zeros((4, 4))
    affine[0, 0] = -NOMINAL_SLICE_SPACING_MM
    affine[1, 2], affine[2, 1], affine[3, 3] = image.column_spacing_mm, -image.row_spacing_mm, 1.0
    return SagittalVolume(
        voxels=np.ascontiguousarray(pixels[None]),
        voxel_to_patient=affine,
        sources=(SliceSource(sop_instance_uid=f"{image.name}.0", frame=1),),
        series_instance_uid=image.name,
        series_description=f"SPIDER {image.weighting}",
    )


def stack_patients(root: Path) -> tuple[int, ...]:
    """Patients with a T2-SPACE stack and its mask, ascending."""
    return tuple(sorted(patient_of(path.name) for path in (root / "stacks").glob("*_mask.nii.gz")))


def read_stack(root: Path, patient: int) -> SagittalVolume:
    """The stack as a volume, rows head to foot, columns front to back. Left and right of the slice order are unsure."""
    return read_nifti(root / "stacks" / f"{patient}_t2_SPACE.nii.gz")


def read_stack_mask(root: Path, patient: int) -> NDArray[np.uint8]:
    """(slices, rows, columns) of ``MaskValue``, voxel for voxel over ``read_stack``."""
    image = sitk.ReadImage(str(root / "stacks" / f"{patient}_t2_SPACE_mask.nii.gz"))
    return np.ascontiguousarray(_slices_first(image).astype(np.uint8))


def read_nifti(path: Path) -> SagittalVolume:
    """A sagittal NIfTI whose first axis runs through the slices. SimpleITK gives LPS already."""
    image = sitk.ReadImage(str(path))
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())  # type: ignore[no-untyped-call]
    affine = np.eye(4)
    affine[:3, :3] = direction[:, [0, 2, 1]]  # ITK's axes are (slice, column, row) here; ours (slice, row, column)
    affine[:3, 3] = image.GetOrigin()  # type: ignore[no-untyped-call]
    voxels = np.ascontiguousarray(_slices_first(image).astype(np.float32))
    return SagittalVolume(
        voxels=voxels,
        voxel_to_patient=affine,
        sources=tuple(
            SliceSource(sop_instance_uid=f"{path.name.split('.')[0]}.{k}", frame=1) for k in range(len(voxels))
        ),
        series_instance_uid=path.name.split(".")[0],
        series_description="",
    )


def patient_of(name: str) -> int:
    """``104_t2_SPACE`` -> 104."""
    return int(name.split("_", 1)[0])


def patients(root: Path) -> tuple[int, ...]:
    """Every patient with an image, ascending."""
    return tuple(sorted({image.patient for image in midsagittal_images(root)}))


def folds(all_patients: Sequence[int], count: int, seed: int, apart: Iterable[int] = ()) -> tuple[frozenset[int], ...]:
    """Patients dealt into ``count`` disjoint sets of nearly equal size.

    Those in ``apart`` (the few with stacks) are dealt out first, so that every fold gets its share of them.
    """
    rare = sorted(set(apart) & set(all_patients))
    common = sorted(set(all_patients) - set(rare))
    chance = random.Random(seed)
    chance.shuffle(rare)
    chance.shuffle(common)
    dealt = rare + common
    return tuple(frozenset(dealt[start::count]) for start in range(count))


def _slices_first(image: sitk.Image) -> NDArray[np.generic]:
    array: NDArray[np.generic] = sitk.GetArrayFromImage(image).transpose(2, 0, 1)  # (row, column, slice) -> ours
    return array
