"""Series with a mask voxel for voxel over them: the original SPIDER release, and any folder of NIfTI pairs.

* SPIDER (Zenodo 10159290): ``images/<patient>_<weighting>.mha`` and ``masks/`` of the same names. Vertebrae are
  numbered from below (1 = L5; 100 more where only partly seen), 100 is the canal, discs are 201 (L5/S1) upwards.
* NIfTI: ``<name>.nii.gz`` and ``<name>_mask.nii.gz`` side by side, or of the same names in ``images/`` and ``masks/``.
  Labels are those of SPIDER unless a ``labels.toml`` in the folder says others, e.g. ``disc = [29]``.

Files may lie in any orientation: what is given is sagittal, upright, in LPS mm. Both give what ``labelled_slices``
makes of the stacks: series of thin slices whole, so that slabs of them can be averaged; thick slices one by one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from inference.training.augmentation import Label, LabelledSlice
from inference.training.labelled_slices import (
    draw_s1,
    resampled_labels,
    resampled_pixels,
    standardised_slice,
)
from inference.volume import SagittalVolume, SliceSource, Unsuitable

THIN_MM = 2.0
"""Slices nearer to each other than this may be averaged into one that looks like a clinical one."""
SAME_GRID_MM = 0.1
"""How far the corners of a mask may lie from those of its image."""
THICK_IN_PLANE = 1.5
"""A pixel longer than this many slice steps is a slice step itself: the image is axial or coronal."""
LEAST_DISC_VOXELS = 20
"""On a thick slice less than this of the L5/S1 disc tells nothing of where S1 lies beneath it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelScheme:
    """What the values of a mask mean; what is in none of these is background."""

    disc: frozenset[int]
    vertebra: frozenset[int]
    canal: frozenset[int]
    sacrum: frozenset[int] = frozenset()
    """S1, where a mask has it; it is drawn beneath L5/S1 otherwise."""
    lumbosacral_disc: int | None = None
    """The value of L5/S1. Without it nothing is said of S1: the lowest disc may be any."""


SPIDER_RELEASE = LabelScheme(
    disc=frozenset(range(201, 226)),
    vertebra=frozenset((*range(1, 26), *range(101, 126))),
    canal=frozenset({100}),
    lumbosacral_disc=201,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedSeries:
    """Where a series and its mask lie."""

    name: str
    """File name without suffix, e.g. ``104_t2``."""
    image: Path
    mask: Path
    scheme: LabelScheme

    @property
    def patient(self) -> str:
        """What stands before the first underscore: series of one patient must not be parted between folds."""
        return self.name.split("_", 1)[0]


def spider_release(root: Path) -> tuple[MaskedSeries, ...]:
    """Every series of the release that has a mask, by name.

    Raises:
        Unsuitable: the folder has another layout.
    """
    return _pairs(sorted((root / "images").glob("*.mha")), root / "masks", "", SPIDER_RELEASE)


def nifti_pairs(root: Path) -> tuple[MaskedSeries, ...]:
    """Every NIfTI image of the folder that has a mask, by name.

    Raises:
        Unsuitable: the folder has another layout, or a ``labels.toml`` that cannot be used.
    """
    scheme = _scheme(root / "labels.toml")
    if (root / "images").is_dir():
        return _pairs(_niftis(root / "images"), root / "masks", "", scheme)
    images = [path for path in _niftis(root) if not _stem(path).endswith("_mask")]
    return _pairs(images, root, "_mask", scheme)


def labelled(series: MaskedSeries) -> tuple[LabelledSlice, ...]:
    """The series for training: one stack of thin slices, or each thick slice that shows a disc.

    Raises:
        Unsuitable: image and mask do not fit together, or the mask shows no disc.
    """
    volume, mask = read(series)
    labels = labels_of(mask, series.scheme)
    if not (labels == Label.DISC).any():
        raise Unsuitable(f"{series.name}: the mask shows no disc")
    spacing = volume.spacing_mm[1:]
    small = resampled_labels(labels, spacing)
    pixels = np.stack([standardised_slice(resampled_pixels(each, spacing)) for each in volume.voxels])
    known = _teach_sacrum(small, resampled_mask(mask, series.scheme, spacing), series.scheme)
    if volume.spacing_mm[0] <= THIN_MM:
        return (LabelledSlice(pixels=pixels, labels=small, sacrum_known=known),)
    return tuple(
        LabelledSlice(pixels=pixels[k : k + 1], labels=small[k : k + 1], sacrum_known=known)
        for k in range(len(pixels))
        if (small[k] == Label.DISC).any()
    )


def labels_of(mask: NDArray[np.int32], scheme: LabelScheme) -> NDArray[np.uint8]:
    """(slices, rows, columns) of the mask's own values -> of ``Label``."""
    labels = np.zeros(mask.shape, np.uint8)
    for values, label in (
        (scheme.vertebra, Label.VERTEBRA),
        (scheme.canal, Label.CANAL),
        (scheme.sacrum, Label.SACRUM),
        (scheme.disc, Label.DISC),
    ):
        labels[np.isin(mask, sorted(values))] = label
    return labels


def resampled_mask(
    mask: NDArray[np.int32], scheme: LabelScheme, spacing_mm: tuple[float, float]
) -> NDArray[np.bool_] | None:
    """(slices, rows, columns) of stored pixels: where the L5/S1 disc is; None where the mask does not tell."""
    if scheme.lumbosacral_disc is None or not (mask == scheme.lumbosacral_disc).any():
        return None
    there: NDArray[np.bool_] = resampled_labels((mask == scheme.lumbosacral_disc).astype(np.uint8), spacing_mm) > 0
    return there


def read(series: MaskedSeries) -> tuple[SagittalVolume, NDArray[np.int32]]:
    """The image as an upright sagittal volume, slices from right to left, and its mask on the same grid.

    Raises:
        Unsuitable: the mask does not lie on its image, or the image is not sagittal.
    """
    image, mask = (sitk.ReadImage(str(path)) for path in (series.image, series.mask))
    _require_one_grid(image, mask, series.name)
    mask = sitk.DICOMOrient(mask, "LPS")  # type: ignore[no-untyped-call]
    return _sagittal(image, series.name), np.ascontiguousarray(_slices_first(mask).astype(np.int32))


def read_image(path: Path) -> SagittalVolume:
    """A file without a mask, as ``read`` gives it. Its name stands in no message: it may hold a person's.

    Raises:
        Unsuitable: the file cannot be read, or is not one sagittal volume.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as broken:
        raise Unsuitable("The image file cannot be read.") from broken
    if image.GetDimension() != 3:  # type: ignore[no-untyped-call]
        raise Unsuitable(f"The image has {image.GetDimension()} dimensions instead of 3.")  # type: ignore[no-untyped-call]
    return _sagittal(image, "image")


def _sagittal(as_stored: sitk.Image, name: str) -> SagittalVolume:
    image: Any = sitk.DICOMOrient(as_stored, "LPS")  # type: ignore[no-untyped-call]
    spacing = [float(step) for step in image.GetSpacing()]
    if max(spacing) > THICK_IN_PLANE * spacing[0]:
        raise Unsuitable(f"{name}: not sagittal, its slices are {max(spacing):.1f} mm apart in another plane")
    voxels = _slices_first(image).astype(np.float32)
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([direction[:, 0], -direction[:, 2], direction[:, 1]])
    affine[:3, 3] = np.array(image.GetOrigin()) + direction[:, 2] * (voxels.shape[1] - 1)
    return SagittalVolume(
        voxels=np.ascontiguousarray(voxels),
        voxel_to_patient=affine,
        sources=tuple(SliceSource(sop_instance_uid=f"{name}.{k}", frame=1) for k in range(len(voxels))),
        series_instance_uid=name,
        series_description="",
    )


def _teach_sacrum(labels: NDArray[np.uint8], lumbosacral: NDArray[np.bool_] | None, scheme: LabelScheme) -> bool:
    """Draw S1 beneath L5/S1 where the mask has none, in place; whether anything is known of S1."""
    if scheme.sacrum:
        return bool((labels == Label.SACRUM).any())
    if lumbosacral is None or lumbosacral.sum() < LEAST_DISC_VOXELS:
        return False
    for index in range(len(labels)):
        draw_s1(labels[index], lumbosacral[index])
    return True


def _slices_first(image: sitk.Image) -> NDArray[np.generic]:
    """An LPS image -> (slice towards the left, row towards the feet, column towards the back)."""
    array: NDArray[np.generic] = sitk.GetArrayFromImage(image).transpose(2, 0, 1)[:, ::-1]
    return array


def _require_one_grid(image: sitk.Image, mask: sitk.Image, name: str) -> None:
    if image.GetDimension() != 3 or image.GetSize() != mask.GetSize():  # type: ignore[no-untyped-call]
        raise Unsuitable(f"{name}: image {image.GetSize()} and mask {mask.GetSize()} have different sizes")  # type: ignore[no-untyped-call]
    last = [int(count) - 1 for count in image.GetSize()]  # type: ignore[no-untyped-call]
    for corner in ([0, 0, 0], last):
        points = [np.array(each.TransformIndexToPhysicalPoint(corner)) for each in (image, mask)]  # type: ignore[no-untyped-call]
        if float(np.linalg.norm(points[0] - points[1])) > SAME_GRID_MM:
            raise Unsuitable(f"{name}: the mask does not lie on its image")


def _pairs(images: Sequence[Path], masks: Path, suffix: str, scheme: LabelScheme) -> tuple[MaskedSeries, ...]:
    there = {_stem(path): path for path in (*masks.glob("*.mha"), *_niftis(masks))} if masks.is_dir() else {}
    pairs = tuple(
        MaskedSeries(name=_stem(image), image=image, mask=there[_stem(image) + suffix], scheme=scheme)
        for image in images
        if _stem(image) + suffix in there
    )
    if not pairs:
        raise Unsuitable(f"no image with a mask was found ({len(images)} images, masks looked for in {masks.name}/)")
    return pairs


def _niftis(folder: Path) -> list[Path]:
    return sorted((*folder.glob("*.nii"), *folder.glob("*.nii.gz")))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".mha")


def _scheme(path: Path) -> LabelScheme:
    if not path.exists():
        return SPIDER_RELEASE
    said = tomllib.loads(path.read_text(encoding="utf-8"))
    unknown = set(said) - {"disc", "vertebra", "canal", "sacrum", "lumbosacral_disc"}
    if unknown or not {"disc", "vertebra", "canal"} <= set(said):
        raise Unsuitable(
            f"{path.name} must name disc, vertebra, canal (and may sacrum, lumbosacral_disc): {sorted(said)}"
        )

    def values(key: str) -> frozenset[int]:
        listed: Iterable[int] = said.get(key, ())
        return frozenset(int(value) for value in listed)

    return LabelScheme(
        disc=values("disc"),
        vertebra=values("vertebra"),
        canal=values("canal"),
        sacrum=values("sacrum"),
        lumbosacral_disc=said.get("lumbosacral_disc"),
    )
