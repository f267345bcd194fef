"""Labelled training slices of the localiser: from SPIDER's masks, and from a first network's own marks.

SPIDER's masks hold no sacrum. S1 is drawn from geometry: a body's depth beneath the bottom disc, which the stacks
always show as L5/S1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn
from torch.nn import functional

from inference import chain
from inference.detection import mark
from inference.marks import Plane, Tissue
from inference.training import spider
from inference.training.augmentation import STORED_PIXEL_MM, Label, LabelledSlice
from inference.volume import FloatArray

S1_DEPTH_MM = 20.0
"""So far beneath L5/S1 it is surely S1 (adult S1 bodies are about 28-32 mm tall)."""
S1_UNSURE_MM = 36.0
"""So far beneath L5/S1 it may be S1 or the S1/S2 remnant: not taught."""
UNCLEAR = (0.4, 0.6)
"""A mark between these is neither tissue nor background when the localiser teaches itself."""
LEAST_DISC_WIDTH_MM = 20.0
"""A section of the bottom disc narrower than this is too lateral to say where S1 lies beneath it."""


def stack_slices(root: Path, patient: int) -> LabelledSlice:
    """The patient's whole stack at ``STORED_PIXEL_MM``, S1 drawn beneath its bottom disc."""
    volume, mask = spider.read_stack(root, patient), spider.read_stack_mask(root, patient)
    spacing = volume.spacing_mm[1:]
    labels = np.zeros(mask.shape, np.uint8)
    for value, label in (
        (spider.MaskValue.DISC, Label.DISC),
        (spider.MaskValue.VERTEBRA, Label.VERTEBRA),
        (spider.MaskValue.CANAL, Label.CANAL),
    ):
        labels[mask == value] = label
    labels = resampled_labels(labels, spacing)
    pixels = np.stack([standardised_slice(resampled_pixels(each, spacing)) for each in volume.voxels])
    bottom = bottom_disc(labels)
    for index in range(len(labels)):
        draw_s1(labels[index], bottom[index])
    return LabelledSlice(pixels=pixels, labels=labels, sacrum_known=True)


def bottom_disc(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(slices, rows, columns) of ``Label`` -> the mask of the lowest disc that is more than a speck."""
    components, count = ndimage.label(labels == Label.DISC)
    sizes = ndimage.sum_labels(np.ones_like(labels), components, range(1, count + 1))
    rows = ndimage.maximum_position(
        np.indices(labels.shape)[1], components, range(1, count + 1)
    )  # lowest row reached by each component
    lowest = max((row[1], index + 1) for index, row in enumerate(rows) if sizes[index] >= 0.2 * np.median(sizes))[1]
    found: NDArray[np.bool_] = components == lowest
    return found


def draw_s1(labels: NDArray[np.uint8], disc: NDArray[np.bool_]) -> None:
    """Mark S1 beneath the L5/S1 disc on one slice, in place; only background is painted over.

    Arguments:
        labels: (rows, columns) of ``Label``, pixels of ``STORED_PIXEL_MM``, upright, front to the left.
        disc: (rows, columns) the disc's section on this slice, possibly empty.
    """
    places = np.argwhere(disc) * STORED_PIXEL_MM
    if len(places) < 30:
        return
    middle = places.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((places - middle).T))
    along = vectors[:, 1] * np.sign(vectors[1, 1])  # towards the back
    down = np.array([along[1], -along[0]])
    reach = np.percentile((places - middle) @ along, [2, 98])
    width = reach[1] - reach[0]
    if width < LEAST_DISC_WIDTH_MM:
        return
    thickness = np.percentile((places - middle) @ down, 95)
    grid = np.moveaxis(np.indices(labels.shape), 0, -1) * STORED_PIXEL_MM - middle
    depth = grid @ down - thickness
    place = (grid @ along - reach[0]) / width  # 0 at the front end, 1 at the back end
    taper = np.clip(depth, 0, None) / 100  # S1 narrows downwards, more at its front
    surely = (depth > 0) & (depth < S1_DEPTH_MM) & (place > 0.08 + taper) & (place < 0.95 - 0.5 * taper)
    maybe = (depth > -2) & (depth < S1_UNSURE_MM) & (place > -0.25) & (place < 1.25)
    free = labels == Label.BACKGROUND
    labels[free & maybe] = Label.BESIDE_SACRUM
    labels[free & surely] = Label.SACRUM


def resampled_pixels(pixels: NDArray[np.float32], spacing_mm: tuple[float, float]) -> NDArray[np.float32]:
    """(rows, columns) -> the same field of view in pixels of ``STORED_PIXEL_MM``, anti-aliased."""
    size = [max(1, round(n * step / STORED_PIXEL_MM)) for n, step in zip(pixels.shape, spacing_mm, strict=True)]
    tensor = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))[None, None]
    small = functional.interpolate(tensor, size, mode="bilinear", antialias=True, align_corners=False)
    resampled: NDArray[np.float32] = small[0, 0].numpy()
    return resampled


def resampled_labels(labels: NDArray[np.uint8], spacing_mm: tuple[float, float]) -> NDArray[np.uint8]:
    """(slices, rows, columns) -> the label that covers most of each new pixel."""
    there = np.unique(labels)
    shares = [
        np.stack([resampled_pixels((each == label).astype(np.float32), spacing_mm) for each in labels])
        for label in there
    ]
    most: NDArray[np.uint8] = there[np.argmax(shares, axis=0)]
    return most


def standardised_slice(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """2-98 percentiles to 0-1, as the network sees a slice."""
    low, high = np.percentile(pixels, [2, 98])
    standardised: NDArray[np.float32] = np.clip((pixels - low) / max(high - low, 1e-6), -0.5, 2).astype(np.float32)
    return standardised


def image_slice(
    root: Path, image: spider.MidsagittalImage, boxes: spider.DiscBoxes | None, localiser: nn.Module
) -> LabelledSlice | None:
    """A mid-sagittal image labelled by the localiser's own marks, checked against what SPIDER says of it.

    None where the discs found do not agree with the boxes, or with the count of discs: a wrong label teaches worse
    than none. One disc less than SPIDER counts is let pass (its topmost is often only partly in the image), and then
    nothing is taught above the highest disc found.
    """
    volume = spider.read_midsagittal(root, image)
    plane = mark(volume, localiser).plane(0)
    discs = list(chain.discs_of(plane))
    trusted = boxes if boxes is not None and boxes.count_matches else None
    if trusted is not None:
        scale = np.array([image.column_spacing_mm, image.row_spacing_mm] * 2)
        discs = [disc for disc in discs if _box_of(disc, trusted.boxes * scale) is not None]
    expected = len(trusted.boxes) if trusted is not None else image.disc_count
    missing = (expected or 0) - len(discs)
    if expected is None or len(discs) < 4 or missing < 0 or missing > 1:
        return None
    bottom = chain.beneath(plane, discs[-1])
    if trusted is None and missing and bottom.sacrum < 0.6:
        return None
    shape = volume.voxels.shape[1:]
    size = [max(1, round(n * step / STORED_PIXEL_MM)) for n, step in zip(shape, volume.spacing_mm[1:], strict=True)]
    labels, disc_masks = _labels_of(plane, discs, size)
    draw_s1(labels, disc_masks[-1])
    if missing:
        top = int((discs[0].center_mm[0] - 0.6 * discs[0].width_mm) / STORED_PIXEL_MM)
        labels[: max(top, 0)] = Label.UNKNOWN
    pixels = standardised_slice(resampled_pixels(volume.voxels[0], volume.spacing_mm[1:]))
    return LabelledSlice(pixels=pixels[None], labels=labels[None], sacrum_known=True)


def _box_of(disc: chain.Candidate, boxes_mm: FloatArray) -> int | None:
    row, column = disc.center_mm
    hits = np.flatnonzero(
        (boxes_mm[:, 0] <= column) & (column <= boxes_mm[:, 2]) & (boxes_mm[:, 1] <= row) & (row <= boxes_mm[:, 3])
    )
    return int(hits[0]) if len(hits) else None


def _labels_of(
    plane: Plane, discs: Sequence[chain.Candidate], size: Sequence[int]
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Marks made sharp: the likeliest tissue where clear, unknown where not; only the discs of the chain stay."""
    tensor = torch.from_numpy(plane.probabilities)[None]
    marks = functional.interpolate(tensor, list(size), mode="bilinear", align_corners=False)[0].numpy()
    components, _ = ndimage.label(marks[Tissue.DISC] > UNCLEAR[0])
    pixel = plane.pixel_mm * np.array(plane.probabilities.shape[1:]) / np.array(size)
    masks = []
    for disc in discs:
        row, column = (
            int(np.clip(at / step, 0, n - 1)) for at, step, n in zip(disc.center_mm, pixel, size, strict=True)
        )
        here = components[row, column]
        masks.append((components == here) & (here > 0) & (marks[Tissue.DISC] > 0.5))
    kept = np.any([components == components[mask][0] for mask in masks if mask.any()], axis=0)
    marks[Tissue.DISC] *= kept
    solid = marks[: Tissue.SACRUM]
    best = solid.max(axis=0)
    labels = np.where(best > 0.5, solid.argmax(axis=0) + 1, Label.BACKGROUND).astype(np.uint8)
    labels[(best > UNCLEAR[0]) & (best < UNCLEAR[1])] = Label.UNKNOWN
    return labels, masks
